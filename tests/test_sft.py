"""Supervised fine-tuning without a stack: token masks, epochs, likelihood, and a user's mistakes."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch

from data.examples import Encoder, Example, ExampleSource, Message, load_examples, load_pairs
from grpo.algorithm.aggregation import token_weights
from grpo.algorithm.objectives import OBJECTIVES, Coefficients, LossInputs
from grpo.common.errors import RecipeError, UserError
from grpo.config import load_sft_config
from grpo.learner.model_folder import end_token_ids, load_tokenizer
from grpo.sft import (
    batch_indices,
    check_apart,
    held_out_metrics,
    main,
    make_samples,
    num_steps,
    step_settings,
)
from grpo.types import TrainSample
from tests.data.helpers import SHARED
from tests.models import SMALL_MODEL

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Takes the thoughts out of all turns but the last, as templates of reasoning models do.
FORGETFUL = CHATML.replace(
    "{{ m.content }}",
    "{{ m.content if loop.last or m.role != 'assistant' else m.content.split('</think>')[-1] }}",
)


def config(*overrides):
    return load_sft_config("sft_tiny", ["data.template=chat", *overrides])


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(SMALL_MODEL)


def encoder(tokenizer, template="chat", train_on="assistant", chat_template=CHATML, **settings):
    tokenizer.chat_template = chat_template
    return Encoder(
        tokenizer=tokenizer,
        template=template,
        train_on=train_on,
        end_token_ids=end_token_ids(SMALL_MODEL, tokenizer),
        **settings,
    )


def example(*turns, **train):
    """Turns as `u:text`, `a:text` or `s:text`; `train={1: False}` overrides."""
    roles = {"u": "user", "a": "assistant", "s": "system"}
    chosen = train.get("train", {})
    messages = [Message(roles[turn[0]], turn[2:], chosen.get(i)) for i, turn in enumerate(turns)]
    return Example(tuple(messages), "here, line 1")


def trained(tokenizer, encoded):
    """The trained text, and the whole text."""
    chosen = [t for t, m in zip(encoded.token_ids, encoded.loss_mask, strict=True) if m]
    return tokenizer.decode(chosen), tokenizer.decode(encoded.token_ids)


def test_a_plain_template_trains_the_answer_and_the_end_token(tokenizer):
    encoded = encoder(tokenizer, "dialogue").encode(example("u:1+2", "a:<think>\n</think>3"))
    text, whole = trained(tokenizer, encoded)
    assert text == "<think>\n</think>3<|endoftext|>"
    assert whole == "User: 1+2\nAssistant:" + text
    # <think> \n </think> 3 <|endoftext|>: five tokens, and none of the prompt
    assert encoded.loss_mask[-5:] == [True] * 5 and sum(encoded.loss_mask) == 5


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", "yes<|endoftext|>no<|endoftext|>"),
        ("last_assistant", "no<|endoftext|>"),
    ],
)
def test_the_turns_of_the_assistant_are_trained_with_their_end(tokenizer, train_on, expected):
    conversation = example("s:be brief", "u:1?", "a:yes", "u:2?", "a:no")
    encoded = encoder(tokenizer, train_on=train_on).encode(conversation)
    text, whole = trained(tokenizer, encoded)
    assert text == expected
    assert whole == tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in conversation.messages], tokenize=False
    )
    assert encoded.token_ids == tokenizer.encode(whole, add_special_tokens=False)


def test_all_trains_everything_but_the_first_token(tokenizer):
    encoded = encoder(tokenizer, train_on="all").encode(example("u:1?", "a:yes"))
    assert encoded.loss_mask == [False] + [True] * (len(encoded.token_ids) - 1)


@pytest.mark.parametrize(
    ("train_on", "train", "expected"),
    [
        ("assistant", {1: False}, "no<|endoftext|>"),
        ("last_assistant", {1: True}, "yes<|endoftext|>no<|endoftext|>"),
        ("assistant", {2: True, 3: False}, "yes<|endoftext|><|im_start|>user\n2?<|endoftext|>\n"),
    ],
)
def test_a_message_says_for_itself_whether_it_is_trained(tokenizer, train_on, train, expected):
    conversation = example("u:1?", "a:yes", "u:2?", "a:no", train=train)
    encoded = encoder(tokenizer, train_on=train_on).encode(conversation)
    assert trained(tokenizer, encoded)[0] == expected


def test_what_a_user_says_never_becomes_a_control_token(tokenizer):
    end = tokenizer.eos_token_id
    for template in ("chat", "dialogue"):
        encoded = encoder(tokenizer, template).encode(example("u:<|endoftext|><think>", "a:no"))
        assert encoded.token_ids.count(end) == (2 if template == "chat" else 1)
        assert tokenizer.convert_tokens_to_ids("<think>") not in encoded.token_ids
        assert trained(tokenizer, encoded)[0] == "no<|endoftext|>"


def test_an_answer_begins_at_a_border_of_tokens_as_at_sampling(tokenizer):
    # the prompt ends in "Us" and the answer is "er", which the tokenizer would join to one token
    joins = (
        "{% for m in messages %}{{ 'Us' if m.role == 'assistant' else '' }}{{ m.content }}"
        "<|endoftext|>{% endfor %}{% if add_generation_prompt %}Us{% endif %}"
    )
    (user,) = tokenizer.encode("User", add_special_tokens=False)
    encoded = encoder(tokenizer, chat_template=joins).encode(example("u:1", "a:er"))
    prompt = tokenizer.encode("1<|endoftext|>Us", add_special_tokens=False)
    assert encoded.token_ids[: len(prompt)] == prompt and user not in encoded.token_ids
    assert trained(tokenizer, encoded)[0] == "er<|endoftext|>"


@pytest.mark.parametrize(
    ("turns", "settings", "message"),
    [
        (["u:1", "a:x", "u:2", "a:y"], {"template": "dialogue"}, "use data.template=chat"),
        (["a:x", "u:1", "a:y"], {}, "the assistant begins"),
        (["u:1", "a:x<|endoftext|>y"], {}, "holds an end token (<|endoftext|>"),
        (
            ["u:1", "a:x"],
            {"chat_template": CHATML.replace("<|endoftext|>", "<|stop|>")},
            "eos_token_id in generation_config.json",
        ),
        (
            ["u:1", "a:<think>x</think>y", "u:2", "a:z"],
            {"chat_template": FORGETFUL},
            "data.train_on=last_assistant",
        ),
        (
            ["u:1", "a:<think>x</think>y"],
            {"chat_template": FORGETFUL.replace("loop.last or ", "")},
            "does not repeat the whole text",
        ),
        (
            ["s:x", "u:1", "a:y"],
            {
                "chat_template": CHATML.replace(
                    "{{ m.content }}", "{{ m.content if m.role != 'system' }}"
                )
            },
            "does not repeat the text of each message",
        ),
        (
            ["u:1", "a:y"],
            {"chat_template": "{{ raise_exception('no such roles') }}"},
            "refuses them: no such roles",
        ),
    ],
)
def test_a_conversation_that_cannot_be_rendered_faithfully_is_refused(
    tokenizer, turns, settings, message
):
    with pytest.raises(ValueError) as raised:
        encoder(tokenizer, **settings).encode(example(*turns))
    assert message in str(raised.value)


def test_no_trained_token_is_refused(tokenizer):
    with pytest.raises(ValueError, match=r"no token is trained \(data.train_on=assistant"):
        encoder(tokenizer).encode(example("u:1", "a:2", train={1: False}))


def test_earlier_thoughts_that_the_template_drops_are_context_of_the_last_turn(tokenizer):
    turns = ["u:1", "a:<think>x</think>y", "u:2", "a:<think>z</think>w"]
    made = encoder(tokenizer, train_on="last_assistant", chat_template=FORGETFUL)
    text, whole = trained(tokenizer, made.encode(example(*turns)))
    assert text == "<think>z</think>w<|endoftext|>"
    assert "assistant\ny<|endoftext|>" in whole and "<think>x" not in whole


def test_the_prompt_is_the_one_that_is_sampled_from(tokenizer):
    from data.templates import resolve

    for name, system in (("chat", "Be brief."), ("chat:deepscaler_boxed", None)):
        made = encoder(tokenizer, name, system_prompt=system)
        encoded = made.encode(example("u:<think> 1+1?", "a:2"))
        prompt = resolve(name, tokenizer, system).encode(tokenizer, "<think> 1+1?")
        assert encoded.token_ids[: len(prompt)] == prompt
        assert encoded.loss_mask.index(True) == len(prompt)


REAL = SHARED.parent / "tokenizers"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tokenizers are not beside the repository")
@pytest.mark.parametrize(
    ("name", "answer", "expected"),
    [
        ("qwen3", "<think>\nso\n</think>\n\n4", "<think>\nso\n</think>\n\n4<|im_end|>"),
        ("qwen3", "4", "<think>\n\n</think>\n\n4<|im_end|>"),
        ("deepseek_v3", "so\n\n4", "so\n\n4<｜end▁of▁sentence｜>"),
    ],
)
def test_real_chat_templates(name, answer, expected):
    from transformers import PreTrainedTokenizerFast

    real = PreTrainedTokenizerFast.from_pretrained(REAL / name)
    made = Encoder(
        tokenizer=real,
        template="chat",
        train_on="last_assistant",
        end_token_ids=(real.eos_token_id,),
    )
    conversation = example("s:Be brief.", "u:1+1?", "a:2", "u:2+2?", f"a:{answer}")
    encoded = made.encode(conversation)
    assert trained(real, encoded)[0] == expected
    rendered = real.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in conversation.messages], tokenize=False
    )
    assert encoded.token_ids == real.encode(rendered, add_special_tokens=False)


# --- epochs and likelihood ----------------------------------------------------------------------


def test_every_epoch_is_another_order_of_all_examples():
    recipe = config("trainer={epochs: 2}", "batch.num_examples=4")
    assert num_steps(recipe, 10) == 5  # 20 examples in fours
    batches = [batch_indices(recipe, 10, step) for step in range(5)]
    assert [len(batch) for batch in batches] == [4] * 5
    seen = [i for batch in batches for i in batch]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    other = config("trainer={epochs: 2}", "batch.num_examples=4", "seed=1")
    assert batch_indices(other, 10, 0) != batches[0]


def test_the_last_batch_of_epochs_is_what_is_left_and_steps_are_whole_batches():
    recipe = config("trainer={epochs: 3}", "batch.num_examples=8")
    assert num_steps(recipe, 5) == 2  # 15 = 8 + 7
    batches = [batch_indices(recipe, 5, step) for step in range(2)]
    assert [len(batch) for batch in batches] == [8, 7]
    assert Counter(i for batch in batches for i in batch) == dict.fromkeys(range(5), 3)
    steps = config("trainer={max_steps: 2}", "batch.num_examples=8")
    assert [len(batch_indices(steps, 5, step)) for step in range(2)] == [8, 8]


def test_the_warm_up_may_be_a_share_of_the_steps():
    recipe = config("optimizer={lr: 1.0, warmup_share: 0.25, schedule: linear}")
    rates = [step_settings(recipe, step, 8).lr for step in range(8)]
    assert rates[:3] == [0.5, 1.0, 1.0] and rates[-1] == 0.0


def inputs(logps, weights):
    """Loss inputs of examples, each with the log-probs of its trained tokens."""
    rows = torch.arange(len(logps)).repeat_interleave(torch.tensor([len(row) for row in logps]))
    logp_N = torch.tensor([x for row in logps for x in row], dtype=torch.float64)
    return LossInputs(
        logp_N=logp_N,
        old_logp_N=logp_N,
        behaviour_logp_N=torch.zeros_like(logp_N),
        reference_logp_N=None,
        entropy_N=torch.zeros_like(logp_N),
        advantage_N=torch.ones_like(logp_N),
        weight_N=torch.tensor(weights, dtype=torch.float64)[rows],
        row_N=rows,
        num_rows=len(logps),
    )


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    # token-mean (1 + 2 + 3 + 8) / 4; over examples ((1 + 2 + 3) / 3 + 8) / 2
    [("token-mean", 3.5), ("seq-mean-token-mean", 5.0)],
)
def test_the_loss_is_the_negative_log_likelihood_of_the_global_batch(aggregation, expected):
    algorithm = config(f"batch.aggregation={aggregation}").algorithm
    logps = [[-1.0, -2.0, -3.0], [-8.0]]
    weights = token_weights(torch.tensor([3, 1]), algorithm.aggregation, 1).tolist()
    objective = OBJECTIVES[algorithm.objective]
    whole = objective(inputs(logps, weights), Coefficients()).loss
    assert whole.item() == pytest.approx(expected)
    # dealt to two micro-batches, in another order, the parts add up to the same
    parts = [objective(inputs([logps[i]], [weights[i]]), Coefficients()).loss for i in (1, 0)]
    assert sum(parts).item() == pytest.approx(expected)


def test_held_out_likelihood_is_a_mean_over_tokens():
    samples = [
        TrainSample.from_tokens([1], [2, 3, 4], [0.0] * 3),
        TrainSample.from_tokens([1], [2], [0.0]),
    ]
    found = held_out_metrics(samples, [[-1.0, -2.0, -3.0], [-8.0]])
    assert found == {"nll": 3.5, "perplexity": pytest.approx(math.exp(3.5)), "num_examples": 2}


# --- a user's mistakes --------------------------------------------------------------------------


def write(folder: Path, *rows) -> str:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file = folder / "rows.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return str(file)


GOOD = {"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"messages": [', "line 2: row: not valid JSON"),
        (
            {"messages": [{"role": "user", "content": "1"}]},
            "line 2: messages: no turn of the assistant",
        ),
        ({"messages": [{"role": "asistant", "content": "1"}]}, "did you mean 'assistant'?"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "messages[0].content: is ' '"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content: is None"),
        ({"messages": [{"role": "user", "content": "1", "trian": True}]}, "did you mean 'train'?"),
        ({"messages": [{"role": "user", "content": "1", "train": 1}]}, "needs true or false"),
        ({"mesages": []}, "did you mean 'mesages'?"),
        ({"messages": ["hello"]}, "messages[0]: is 'hello'"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_field(tmp_path, row, message):
    file = write(tmp_path, GOOD, row)
    with pytest.raises(UserError) as raised:
        load_examples(ExampleSource(files=(file,)), "data.train", 0, "train")
    assert f"data.train: 1 of 2 examples cannot be used:\n{file}, line 2: " in str(raised.value)
    assert message in str(raised.value)


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


PAIR = {
    "prompt": [turn("user", "1+1?")],
    "chosen": [turn("assistant", "2")],
    "rejected": [turn("assistant", "3")],
}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (GOOD, "prompt: missing: messages is an example and no pair; leave dpo out"),
        ({**PAIR, "chosen": []}, "chosen: needs a list of turns"),
        ({**PAIR, "rejected": [turn("user", "3")]}, "rejected: is one turn of the assistant"),
        ({**PAIR, "chosen": PAIR["chosen"] * 2}, "chosen: is one turn of the assistant"),
        ({**PAIR, "chosen": [turn("assistant", "2", train=True)]}, "train has no meaning"),
        ({**PAIR, "rejected": PAIR["chosen"]}, "rejected: is the chosen answer again"),
    ],
)
def test_a_row_that_is_no_pair_is_named_by_line_and_field(tmp_path, row, message):
    file = write(tmp_path, PAIR, row)
    with pytest.raises(UserError) as raised:
        load_pairs(ExampleSource(files=(file,)), "data.train")
    assert f"data.train: 1 of 2 pairs cannot be used:\n{file}, line 2: " in str(raised.value)
    assert message in str(raised.value)


def test_pairs_without_dpo_are_refused_with_the_setting(tmp_path):
    with pytest.raises(UserError, match=r"a pair; learn from pairs with dpo=\{\}"):
        load_examples(ExampleSource(files=(write(tmp_path, PAIR),)), "data.train", 0, "train")


def test_both_answers_of_a_pair_are_trained_and_a_long_one_takes_the_other_with_it(
    tokenizer, tmp_path
):
    long = {**PAIR, "rejected": [turn("assistant", "3333333333")]}
    found = load_pairs(ExampleSource(files=(write(tmp_path, PAIR, long),)), "data.train")
    made, said = encoder(tokenizer, "dialogue", "last_assistant"), []
    units = make_samples(found, made, "data.train", 14, 10_000, said.append, drop=True)
    assert said[0].startswith("data.train: left out 1 of 2 pairs; the first: ")
    assert ", line 2, rejected: " in said[0]
    (unit,) = units
    texts = [tokenizer.decode(sample.token_ids_T[sample.loss_mask_T]) for sample in unit]
    assert texts == ["2<|endoftext|>", "3<|endoftext|>"]


def test_several_files_are_read_in_order(tmp_path):
    (tmp_path / "other").mkdir()
    files = (write(tmp_path, GOOD), write(tmp_path / "other", GOOD, GOOD))
    found = load_examples(ExampleSource(files=files), "data.train", 0, "train")
    assert [e.where.rpartition("rows.jsonl")[2] for e in found] == [
        ", line 1",
        ", line 1",
        ", line 2",
    ]


def test_long_examples_are_refused_or_dropped_and_counted(tokenizer):
    made, said = encoder(tokenizer, "dialogue"), []
    examples = [(example("u:1", "a:2"),), (example("u:1", "a:2222222222"),)]
    limits = ("data.train", 12, 10_000, said.append)
    with pytest.raises(
        UserError, match=r"1 of 2 .*\n.*data.max_tokens is 12; raise .*too_long=drop"
    ):
        make_samples(examples, made, *limits, drop=False)
    assert len(make_samples(examples, made, *limits, drop=True)) == 1
    assert said[0].startswith("data.train: left out 1 of 2 examples; the first: here, line 1")
    with pytest.raises(UserError, match="all 1 examples are too long"):
        make_samples(examples[1:], made, *limits, drop=True)


def test_a_held_out_question_in_training_is_refused():
    seen = {example("s:be brief", "u:What  IS 1+1?", "a:2").question}
    with pytest.raises(UserError, match=r"data.held_out: 1 of 2 questions .* that of b; take them"):
        check_apart(seen, "data.held_out", [("what is 2?", "a"), ("what is 1+1?", "b")])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.epochs=2"], "trainer.max_steps=30, trainer.epochs=2: set exactly one"),
        (["trainer={}"], "set exactly one"),
        (["optimizer.warmup_steps=3"], "optimizer.warmup_steps=3 says it already"),
        (["batch.num_examples=1"], "learner.num_ranks=2: a step has only batch.num_examples=1"),
        (["rewards=null"], "data.held_out and rewards"),
        (["data.held_out=null"], "data.held_out and rewards"),
        (["evaluation.max_response_tokens=null"], "set evaluation.max_response_tokens"),
        (["rollout.max_model_len=40"], "leaves no room for a prompt"),
        (["data.train={made_by: worked_aritmetic}"], "did you mean 'worked_arithmetic'?"),
        (
            ["data.train={files: a.jsonl, made_by: worked_arithmetic}"],
            "exactly one of files and made_by",
        ),
        (["data.train={files: a.jsonl, options: {x: 1}}"], "only made_by looks at them"),
        (["data.template=dialogue", "data.system_prompt=x"], "only chat templates have one"),
        (["data.train_on=user"], "data.train_on: 'user' is not one of"),
        (["algorithm.objective=gspo"], "algorithm: unknown key"),
        (["dpo={}"], "data.train.made_by=worked_arithmetic: it makes examples, and dpo learns"),
        (["dpo={beta: 0}", "data.train=a.jsonl"], "dpo.beta=0: must be greater than 0"),
        (["dpo={}", "data.train=a.jsonl", "data.train_on=all"], "dpo compares the two responses"),
        (
            ["dpo={}", "data.train=a.jsonl", "batch.aggregation=seq-mean-token-mean"],
            "dpo sums over the tokens of a response",
        ),
        (["data.too_long=cut"], "data.too_long: 'cut' is not one of refuse, drop"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_the_recipe_is_read(overrides, message):
    with pytest.raises(RecipeError) as raised:
        config(*overrides)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "files", ["a.jsonl", "[a.jsonl]", "{files: a.jsonl}", "{files: [a.jsonl]}"]
)
def test_files_have_a_short_form(files):
    assert config(f"data.train={files}").data.train.files == ("a.jsonl",)


def test_options_of_a_maker_are_checked():
    source = ExampleSource(made_by="worked_arithmetic", options={"num_examples": 3, "sed": 1})
    with pytest.raises(UserError, match=r"data.train: made_by=worked_arithmetic: sed: unknown"):
        load_examples(source, "data.train", 0, "train")


def test_a_missing_file_ends_with_78_before_anything_is_started(capsys, tmp_path):
    flags = [
        "--config-name",
        "sft_tiny",
        f"data.train={tmp_path}/none.jsonl",
        f"output_dir={tmp_path}/run",
    ]
    assert main(flags) == 78
    assert "data.train: " in (told := capsys.readouterr().err) and "none.jsonl" in told
    assert not (tmp_path / "run").exists()


def files_end_at(num_bytes):
    """No file of this process can grow beyond so many bytes, as on a disk that is full."""
    if num_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


@pytest.mark.stack
def test_a_run_without_problems_lowers_the_likelihood_loss_and_starts_no_engine(tmp_path):
    """Three steps through the front door, one epoch of 20 examples in eights."""
    expressions = "arithmetic: {lengths: [3], max_term: 9}"
    command = [
        *(sys.executable, "-m", "grpo.sft", "--config-name", "sft_tiny", "runtime=in_process"),
        *("model.base=null", f"model.path={SMALL_MODEL}", "learner.num_ranks=1"),
        f"data.train.options={{num_examples: 20, {expressions}}}",
        f"data.held_out_examples.options={{num_examples: 12, {expressions}}}",
        *("data.held_out=null", "rewards=null", "batch.num_examples=8", "trainer={epochs: 1}"),
        *(
            "evaluation={every: 2}",
            "optimizer={lr: 1.0e-3}",
            "tracking.wandb.mode=disabled",
            "tracking.tensorboard=false",
        ),
        "checkpoint.every=1",
    ]
    first, second = f"output_dir={tmp_path / 'run'}", f"output_dir={tmp_path / 'again'}"
    done = subprocess.run([*command, first], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "vLLM" not in done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "lr" in row]
    assert [(row["step"], row["examples"], row["epoch"]) for row in steps] == [
        (1, 8, 0.4),
        (2, 8, 0.8),
        (3, 4, 1.0),
    ]
    for row in steps:
        assert row["loss"] == pytest.approx(row["nll"], rel=1e-5)  # token-mean: both are it
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"]))
        assert not {"mismatch_kl", "logprob_gap_mean", "ratio_max", "reward"} & set(row)
    held_out = {row["step"]: row["eval/held_out/nll"] for row in rows if "eval/held_out/nll" in row}
    assert sorted(held_out) == [0, 2, 3]
    assert held_out[3] < held_out[2] < held_out[0]
    assert (tmp_path / "run/policy/model.safetensors").is_file()
    assert (tmp_path / "run/plots/nll.png").is_file()

    # A branch, which dies before a checkpoint of its own. Then the disk is full from the first save
    # to the end, and then there is room: the same command each time.
    checkpoint = tmp_path / "run/checkpoints/step_000002"
    command += [second, f"resume={checkpoint}", "tracking.plots=false"]
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([{"point": "save.learner", "action": "kill"}]))
    for code, limit in ((-9, None), (75, 100_000), (0, None)):
        done = subprocess.run(
            command,
            env={**os.environ, "CHAOS_PLAN": str(plan)},
            preexec_fn=partial(files_end_at, limit),
            capture_output=True,
            text=True,
            timeout=300,
        )
        told = done.stdout[-2000:] + done.stderr[-4000:]
        assert done.returncode == code, told
        if code == 75:
            assert "checkpoint cannot be written: rank 0: File too large" in told
            assert "Training goes on; the next try is at step 5" in told
            assert "all 3 steps are done, and the policy or the summary cannot be written" in told
            assert "Traceback" not in told
    assert not [p for p in (tmp_path / "again").rglob("*") if "partial" in p.name]
    lines = (tmp_path / "again/metrics.jsonl").read_text().splitlines()
    (again,) = [row for row in map(json.loads, lines) if "lr" in row]
    assert (again["step"], again["nll"], again["grad_norm"]) == (
        3,
        steps[2]["nll"],
        steps[2]["grad_norm"],
    )
    ends = [json.loads((tmp_path / run / "summary.json").read_text()) for run in ("run", "again")]
    for key in ("weights_sha256", "trained_tokens", "base"):
        assert ends[0][key] == ends[1][key], key
