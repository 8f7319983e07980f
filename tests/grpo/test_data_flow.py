from data.order import draw
from data.templates import TEMPLATES
from grpo.types import sample_seed


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


def test_templates_know_whether_they_open_the_thought():
    assert TEMPLATES["r1_zero_open_think"].opens_think
    assert not TEMPLATES["r1_zero"].opens_think
    assert TEMPLATES["dialogue"].render("1+1") == "User: 1+1\nAssistant:"
