from data.order import draw
from data.templates import TEMPLATES
from data.types import Problem
from grpo.sampling import SamplePlan, make_requests
from grpo.types import Prompt, sample_seed


def test_each_epoch_draws_every_problem_once_and_in_another_order():
    first, second = draw(50, seed=1, cursor=0, count=50), draw(50, seed=1, cursor=50, count=50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_a_draw_is_a_function_of_the_cursor_alone():
    whole = draw(7, seed=3, cursor=0, count=40)
    assert [i for cursor in range(0, 40, 4) for i in draw(7, 3, cursor, 4)] == whole
    assert draw(7, seed=4, cursor=0, count=40) != whole


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

    from grpo.rollout.worker import graded_part

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    ids = tokenizer("<answer>4</answer>\nUser:")["input_ids"]
    kept, text = graded_part(ids, tokenizer.decode(ids), ["\nUser:"], tokenizer)
    assert text == tokenizer.decode(kept) == "<answer>4</answer>"
    assert kept == ids[: len(kept)]


def test_the_end_of_sequence_token_is_trained_and_not_graded(small_model):
    from transformers import AutoTokenizer

    from grpo.rollout.worker import graded_part

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    ids = [*tokenizer("<answer>4</answer>")["input_ids"], tokenizer.eos_token_id]
    kept, text = graded_part(ids, tokenizer.decode(ids), [], tokenizer)
    assert (kept, text) == (ids, "<answer>4</answer>")


def test_an_end_of_sequence_token_that_is_a_cut_string_too_is_trained(small_model):
    """As `<|endoftext|>` is in the templates of Qwen's models: a policy that is never taught to stop does not."""
    from transformers import AutoTokenizer

    from grpo.rollout.worker import graded_part

    tokenizer = AutoTokenizer.from_pretrained(small_model)
    ids = [*tokenizer("7")["input_ids"], tokenizer.eos_token_id]
    kept, text = graded_part(ids, tokenizer.decode(ids), ["<|im_end|>", tokenizer.eos_token], tokenizer)
    assert (kept, text) == (ids, "7")


def test_a_problem_that_is_drawn_twice_in_a_step_gets_other_samples():
    once, twice = prompt("a"), [prompt("a"), prompt("b"), prompt("a")]
    plan = SamplePlan(
        num_samples=4, temperature=1.0, max_tokens=8, stop=(), cut=(), seed=0, step=3, prompt_opens_think=False
    )
    seeds = [request.seed for request in make_requests(twice, plan)]
    assert len(set(seeds)) == 12
    assert seeds[:4] == [request.seed for request in make_requests([once], plan)]


def prompt(name):
    return Prompt(Problem(id=name, question=name, answer="1", source="test"), name, [1])


def test_templates_know_whether_they_open_the_thought():
    assert TEMPLATES["r1_zero_open_think"].opens_think
    assert not TEMPLATES["r1_zero"].opens_think
    assert TEMPLATES["dialogue"].render("1+1") == "User: 1+1\nAssistant:"
