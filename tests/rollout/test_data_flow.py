import pytest

from data.templates import TEMPLATES
from data.types import Problem
from grpo.common.errors import UserError
from grpo.config import RewardsConfig, load_config
from grpo.evaluation.metrics import rollout_metrics, success_rates
from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import make_requests, sample_groups
from grpo.types import Group, Prompt, Response, SamplingSettings, ScoredGroup, sample_seed
from rewards import Reward, Score


def test_sample_seeds_differ_in_every_part_of_their_key():
    seeds = {
        sample_seed(run, step, problem, index)
        for run in (0, 1)
        for step in (1, 2)
        for problem in ("a", "b")
        for index in range(8)
    }
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_cut_string_goes_from_tokens_and_text_alike(small_model):
    from transformers import AutoTokenizer

    from grpo.rollout.vllm.worker import graded_part

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    ids = tokenizer("<answer>4</answer>\nUser:")["input_ids"]
    kept, text = graded_part(
        ids, tokenizer.decode(ids), ["\nUser:"], tokenizer, [tokenizer.eos_token_id]
    )
    assert text == tokenizer.decode(kept) == "<answer>4</answer>"
    assert kept == ids[: len(kept)]


def test_the_end_of_sequence_token_is_trained_and_not_graded(small_model):
    from transformers import AutoTokenizer

    from grpo.rollout.vllm.worker import graded_part

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    ids = [*tokenizer("<answer>4</answer>")["input_ids"], tokenizer.eos_token_id]
    kept, text = graded_part(ids, tokenizer.decode(ids), [], tokenizer, [tokenizer.eos_token_id])
    assert (kept, text) == (ids, "<answer>4</answer>")


def test_an_end_of_sequence_token_that_is_a_cut_string_too_is_trained(small_model):
    """As `<|endoftext|>` is in the templates of Qwen's models: a policy that is never taught to
    stop does not.
    """
    from transformers import AutoTokenizer

    from grpo.rollout.vllm.worker import graded_part

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    ids = [*tokenizer("7")["input_ids"], tokenizer.eos_token_id]
    kept, text = graded_part(
        ids,
        tokenizer.decode(ids),
        ["<|im_end|>", tokenizer.eos_token],
        tokenizer,
        [tokenizer.eos_token_id],
    )
    assert (kept, text) == (ids, "7")


def test_a_problem_that_is_drawn_twice_in_a_step_gets_other_samples():
    once, twice = prompt("a"), [prompt("a"), prompt("b"), prompt("a")]
    settings = SamplingSettings(num_samples=4, temperature=1.0, max_tokens=8, seed=0)
    seeds = [request.seed for request in make_requests(twice, settings, 3)]
    assert len(set(seeds)) == 12
    assert seeds[:4] == [request.seed for request in make_requests([once], settings, 3)]


def test_a_step_tells_the_curriculum_which_problems_went_well():
    config = load_config(
        "tiny", ["data.curriculum.kind=prioritised", "data.curriculum.min_weight=1e-9"]
    )
    stream = PromptStream(config, [prompt("a"), prompt("b"), prompt("c")])
    groups = [scored("a", 1.0, 1.0), scored("b", 0.0, 1.0)]
    assert success_rates(groups) == {"a": 1.0, "b": 0.5}
    stream.update(success_rates(groups))
    assert {p.problem.id for _ in range(50) for p in stream.next(1)} == {"b", "c"}


def test_preferences_and_rules_score_their_own_rows_of_one_batch():
    """From requests to the numbers of the record; `faulty` scores a text by its length."""
    component = {"kind": "preference", "model": "m", "backend": "faulty", "squash": "clip"}
    rewards = RewardsConfig(
        components={
            "accuracy": {"weight": 1.0},
            "helpful": {"weight": 1.0, "scale": 10.0, **component},
            "harmless": {"weight": 0.5, "reads": "everything", "scale": 100.0,
                         "rows": "unverifiable", **component},
        },
        modules=("tests.rewards.faulty_models",),
    )  # fmt: skip
    problems = [
        Problem(id="sum", question="1 + 1", answer="2", source="test", reward="accuracy"),
        Problem(id="line", question="Write.", answer="", source="test", reward="helpful"),
    ]
    settings = SamplingSettings(num_samples=2, temperature=1.0, max_tokens=8, seed=0)
    texts = [r"\boxed{2}", r"\boxed{3}", "<think>x</think>aa", "<think>x</think>bbbb"]
    with rewards.scorer() as scorer:
        prompts = [Prompt(problem, problem.question, [1]) for problem in problems]
        found = sample_groups(prompts, settings, 1, Scripted(texts), scorer).groups
    totals = [[score.total for score in group.scores] for group in found]
    assert totals[0] == [1.0, 0.0]
    # 2 and 4 characters of a summary, 18 and 20 of the whole
    assert totals[1] == [pytest.approx(0.2 + 0.09), pytest.approx(0.4 + 0.1)]
    metrics = rollout_metrics(found)
    assert (metrics["accuracy"], metrics["reward/accuracy"]) == (0.5, 0.5)
    assert metrics["reward/helpful"] == pytest.approx(0.3)
    assert metrics["reward/harmless"] == pytest.approx(0.19)
    assert success_rates(found) == {"sum": 0.5}


class Scripted:
    """An engine that answers each request with the next text, in the other order."""

    def __init__(self, texts):
        self.texts, self.responses = texts, []

    def submit(self, requests, settings):
        self.responses = [
            Response(request.key, [1], text, [0.0], "stop", 0, None)
            for request, text in zip(requests, self.texts, strict=True)
        ]

    def completed(self):
        yield from ([response] for response in reversed(self.responses))


def test_problems_without_levels_are_refused_before_anything_starts():
    config = load_config("tiny", ["data.curriculum.kind=easy_to_hard"])
    with pytest.raises(
        UserError, match=r"data\.curriculum\.kind=easy_to_hard: problem a has no level"
    ):
        PromptStream(config, [prompt("a")])


def scored(name, *accuracies):
    scores = [Score(total=a, components={"accuracy": Reward(a, "", {})}) for a in accuracies]
    return ScoredGroup(Group(prompt(name), []), scores)


def prompt(name):
    return Prompt(Problem(id=name, question=name, answer="1", source="test"), name, [1])


def test_templates_know_whether_they_open_the_thought():
    assert TEMPLATES["r1_zero_open_think"].opens_think
    assert not TEMPLATES["r1_zero"].opens_think
    assert TEMPLATES["dialogue"].render("1+1") == "User: 1+1\nAssistant:"
