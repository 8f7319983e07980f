"""Rejection sampling without a stack: which responses are kept, and why the others are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.examples import read_messages, read_pair
from data.types import Problem
from grpo.common.errors import RecipeError, UserError
from grpo.config import load_sample_config
from grpo.config.sample import RejectionConfig
from grpo.rejection import (
    claim,
    example,
    has_code_block,
    language_share,
    longest_paragraph,
    main,
    pair_up,
    sample_round,
    select,
    summarise,
    with_hints,
)
from grpo.types import Group, Prompt, Response, ScoredGroup
from rewards import Reward, Score
from tests.models import SMALL_MODEL

ENGLISH = "We add the two numbers and then we check the sum."  # 11 words
CHINESE = "我们先把它们加起来"  # 9 characters, each a word


def response(thought, answer="5", tokens=10, finish="stop"):
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    return Response(0, [1] * tokens, text, [0.0] * tokens, finish, 0, None)


def group(*responses, right=(), form=(), ungraded=(), question="What is the sum of 2 and 3?"):
    """Responses of one problem; numbers in `right` and `form` score 1, the others 0."""
    scores = [
        Score(
            0.0,
            {
                "accuracy": Reward(float(i in right), ""),
                "format": Reward(float(i in form), ""),
            },
            graded=i not in ungraded,
        )
        for i in range(len(responses))
    ]
    problem = Problem(id="p1", question=question, answer="5", source="tests")
    return ScoredGroup(Group(Prompt(problem, "prompt", [1]), list(responses)), scores)


def test_each_of_twelve_responses_has_its_reason_and_two_are_kept():
    rows = [
        response(ENGLISH),  # kept
        response(ENGLISH.replace(" ", "  ")),  # the same but for blanks
        response(ENGLISH, answer="6"),  # wrong
        response(ENGLISH, finish="length"),  # truncated
        response("not graded"),
        response("no form, that is all there is to it"),  # low_format
        response(CHINESE),  # mixed: all of it in another language
        response(f"{ENGLISH} {CHINESE}"),  # mixed: 11 of 20 words are English
        response("word " * 30),  # 149 characters in one paragraph
        response("So we run\n```python\nprint(2+3)\n```\nand read it."),  # code
        response("2+3=5"),  # kept: no words, so no language
        response("3+2=5"),  # right as well, but two are enough
    ]
    scored = group(
        *rows, right={0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11}, form={*range(12)} - {5}, ungraded={4}
    )
    rules = RejectionConfig(max_per_problem=2, min_scores={"format": 1.0}, max_paragraph_chars=100)
    kept, reasons = select(scored, rules)
    assert kept == [0, 10]
    assert reasons == {
        "kept": 2,
        "duplicate": 1,
        "wrong": 1,
        "truncated": 1,
        "not_graded": 1,
        "low_format": 1,
        "mixed_language": 2,
        "long_paragraph": 1,
        "code_block": 1,
        "over_limit": 1,
    }


def test_a_filter_that_is_off_keeps_what_it_would_have_dropped():
    scored = group(
        response(CHINESE), response("```\n1\n```"), response("word " * 2000), right={0, 1, 2}
    )
    strict = RejectionConfig(max_per_problem=9)
    loose = RejectionConfig(
        max_per_problem=9, min_language_share=0.0, allow_code=True, max_paragraph_chars=None
    )
    assert select(scored, strict)[0] == []
    assert select(scored, loose)[0] == [0, 1, 2]


def test_the_shortest_right_response_is_kept_and_of_equal_ones_the_first():
    scored = group(
        response("a", tokens=9),
        response("b", tokens=4),
        response("c", tokens=2),
        response("d", tokens=4),
        right={0, 1, 3},
    )
    assert select(scored, RejectionConfig())[0] == [0]
    assert select(scored, RejectionConfig(shortest=True))[0] == [1]
    assert select(scored, RejectionConfig(shortest=True, max_per_problem=2))[0] == [1, 3]


def test_the_shortest_right_response_is_paired_with_longer_wrong_and_much_longer_right_ones():
    rows = [
        response("right, and half as long again", tokens=12),  # 1.5 times 8
        response("right, and a little longer", tokens=11),
        response("the shortest right one", tokens=8),  # chosen
        response("of the same length", tokens=8),
        response("wrong and longer", answer="6", tokens=9),
        response("wrong and as long", answer="6", tokens=8),
        response("wrong  and longer", answer="6", tokens=10),  # but for blanks it is there already
        response("cut off", answer="6", tokens=40, finish="length"),
        response("not graded", tokens=30),
        response(CHINESE, tokens=4),  # right and shorter, but a filter takes it out
    ]
    scored = group(*rows, right={0, 1, 2, 3, 9}, ungraded={8})
    pairs, reasons = pair_up(scored, RejectionConfig(pairs=True))
    found = [(p["reason"], p["chosen_tokens"], p["rejected_tokens"]) for p in pairs]
    assert found == [("right_longer", 8, 12), ("wrong_longer", 8, 9)]
    assert reasons == {
        "chosen": 1,
        "right_longer": 1,
        "right_near": 3,
        "wrong_longer": 1,
        "wrong_shorter": 1,
        "duplicate": 1,
        "truncated": 1,
        "not_graded": 1,
    }
    chosen, rejected = read_pair(json.loads(json.dumps(pairs[1])))
    assert chosen[0] == rejected[0] and chosen[0].content == "What is the sum of 2 and 3?"
    assert (chosen[1].content, rejected[1].content) == (rows[2].text, rows[4].text)
    nearer = RejectionConfig(pairs=True, pair_length_ratio=1.25)
    assert [p["rejected_tokens"] for p in pair_up(scored, nearer)[0]] == [12, 11, 9]


def test_a_problem_without_a_right_response_makes_no_pair():
    scored = group(response("a", tokens=3), response("b", tokens=9))
    assert pair_up(scored, RejectionConfig(pairs=True)) == ([], {"no_chosen": 2})


def test_a_component_that_does_not_score_a_row_asks_nothing_of_it():
    scored = group(response("a"), right={0})
    kept, _ = select(scored, RejectionConfig(min_scores={"countdown": 1.0}))
    assert kept == [0]


def test_a_row_without_a_checker_is_judged_by_the_least_scores_alone():
    scored = group(response(ENGLISH), response(ENGLISH.upper()))
    for score, helpful in zip(scored.scores, (0.8, 0.2), strict=True):
        score.components.clear()
        score.components["helpful"] = Reward(helpful, "scored")
    assert select(scored, RejectionConfig())[1] == {"not_judged": 2}
    rules = RejectionConfig(min_scores={"helpful": 0.5})
    assert select(scored, rules) == ([0], {"low_helpful": 1, "kept": 1})


def test_language_share_counts_words_of_the_questions_language():
    english = "What is the sum of 2 and 3?"
    assert language_share(f"{ENGLISH} {CHINESE}", english) == pytest.approx(11 / 20)
    assert language_share(CHINESE, "二加三是多少") == 1.0
    assert language_share("$2+3=5$ 17", english) == 1.0


def test_a_blank_line_ends_a_paragraph_and_a_line_break_does_not():
    assert longest_paragraph("four\n\nsevenxx\n \nab") == 7
    assert longest_paragraph("abc\ndef") == 7
    assert longest_paragraph("") == 0


def test_only_a_fence_at_the_beginning_of_a_line_opens_code():
    assert has_code_block("so\n  ```python\nx\n```")
    assert has_code_block("~~~\nx\n~~~")
    assert not has_code_block("the marks ``` in a line, and `x`")


class Engines:
    """Answers each prompt with the texts that are written down for its tokens."""

    def __init__(self, texts):
        self.texts = texts
        self.requests = []

    def submit(self, requests, settings):
        self.requests.append(list(requests))

    def completed(self):
        for request in self.requests[-1]:
            texts = self.texts[tuple(request.prompt_token_ids)]
            yield [Response(request.key, [1], texts[request.key % 2], [0.0], "stop", 0, 0)]


def test_a_problem_without_a_right_response_is_sampled_with_a_hint_that_is_not_kept():
    config = load_sample_config(
        "tiny", ["batch.num_samples=2", "rejection.hint_on_fail=true", "runtime=in_process",
                 "rollout.num_engines=1", "learner.num_ranks=1"]
    )  # fmt: skip
    from grpo.inputs import Inputs
    from grpo.types import SamplingSettings

    inputs = Inputs(
        model_folder=str(SMALL_MODEL),
        pad_token_id=0,
        end_token_ids=(0,),
        prompts=[
            Prompt(Problem(id=q, question=q, answer=a, source="t"), q, [number])
            for number, (q, a) in enumerate([("1+2*3", "7"), ("4+2*3", "10")])
        ],
        held_out=[],
        sampling=SamplingSettings(num_samples=2, temperature=1.0, max_tokens=40, seed=0),
        max_model_len=1,
    )
    wider, hinted = with_hints(config, inputs)
    assert "4+2*3 (The answer is 10.)" in hinted["4+2*3"].text
    assert wider.max_model_len == len(hinted["4+2*3"].token_ids) + 40

    def said(answer):
        return f"<think>\n2*3=6\n</think><answer>{answer}</answer>"

    engines = Engines(
        {
            (0,): [said(7), said(8)],
            (1,): [said(11), said(12)],
            tuple(hinted["4+2*3"].token_ids): [said(10), said(13)],
        }
    )
    with config.rewards.scorer() as scorer:
        found = sample_round(config, wider, inputs.prompts, hinted, engines, scorer)
    assert [row["messages"][0]["content"] for row in found["rows"]] == ["1+2*3", "4+2*3"]
    assert [row["hinted"] for row in found["rows"]] == [False, True]
    # each file row is a conversation that `grpo sft` reads
    assert read_messages(found["rows"][1])[1].content == said(10)
    # the second pass has seeds of its own
    first, second = engines.requests[:2]
    assert not {r.seed for r in first} & {r.seed for r in second}
    assert found["pairs"] == []  # nobody asked for any
    paired = config.model_copy(
        update={"rejection": config.rejection.model_copy(update={"pairs": True})}
    )
    with config.rewards.scorer() as scorer:
        more = sample_round(paired, wider, inputs.prompts, hinted, engines, scorer)
    # All responses have one token here. The hinted ones are in no pair.
    assert more["pair_reasons"] == {"chosen": 1, "wrong_shorter": 1, "no_chosen": 2}
    assert more["rows"] == found["rows"]
    assert summarise([more, more], 4)["pairs"] == {
        "problems": 0, "pairs": 0, "reasons": {"no_chosen": 4, "chosen": 2, "wrong_shorter": 2}
    }  # fmt: skip
    summary = summarise([found, found], 4)
    assert summary["plain"] == {
        "problems": 4, "samples": 8, "reasons": {"wrong": 6, "kept": 2}
    }  # fmt: skip
    assert summary["hinted"] == {
        "problems": 2, "samples": 4, "reasons": {"wrong": 2, "kept": 2}
    }  # fmt: skip
    assert (summary["kept"], summary["kept_hinted"], summary["problems_kept"]) == (4, 2, 2)


def test_an_example_has_the_question_and_not_the_prompt():
    row = example(group(response("a"), right={0}), 0, hinted=False)
    assert json.loads(json.dumps(row))["messages"] == [
        {"role": "user", "content": "What is the sum of 2 and 3?"},
        {"role": "assistant", "content": "<think>a</think><answer>5</answer>"},
    ]


def test_a_folder_of_other_samples_is_refused_and_the_same_goes_on(tmp_path: Path):
    def config(*overrides):
        return load_sample_config("tiny", [f"output_dir={tmp_path}/samples", *overrides])

    assert claim("tiny", config()) == tmp_path / "samples"
    assert claim("tiny", config("tracking.plots=false")) == tmp_path / "samples"
    with pytest.raises(UserError, match=r"rejection\.shortest: False then, True now"):
        claim("tiny", config("rejection.shortest=true"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        claim("tiny", config(f"output_dir={tmp_path}/other"))


def test_mistakes_of_a_sampling_recipe_come_at_once(capsys):
    overrides = [
        "rejection.min_scores={formt: 1}",
        "rejection.hint='{question}'",
        "rejection.shortestt=true",
        "~rewards.components.accuracy",
    ]
    with pytest.raises(RecipeError) as caught:
        load_sample_config("tiny", overrides)
    text = str(caught.value)
    assert "rejection.min_scores.formt: the recipe has no such reward; did you mean" in text
    assert "rejection.hint='{question}': needs {answer}" in text
    assert "rejection.shortestt: unknown key; did you mean 'shortest'?" in text
    assert "none says whether an answer is right" in text
    assert main(["--config-name", "tiny", *overrides]) == 78
    assert "recipe 'tiny' has 4 problems" in capsys.readouterr().err
