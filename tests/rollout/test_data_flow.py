import pytest

from data.templates import TEMPLATES
from data.types import Problem
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.evaluation.metrics import success_rates
from grpo.rollout.prompts import PromptStream
from grpo.rollout.scoring import make_requests
from grpo.types import Group, Prompt, SamplingSettings, ScoredGroup, sample_seed
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
