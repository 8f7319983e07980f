"""The hash chain of a record, and where two records part."""

from __future__ import annotations

import json
import shutil

import pytest

from grpo.commands.diff import main as diff
from grpo.commands.verify import main as verify
from grpo.common.errors import UserError
from grpo.common.files import append_line, plain, write_yaml
from grpo.config import load_config
from grpo.reexecution import starts_of
from grpo.tracking.chain import (
    Quantity,
    Record,
    check_record,
    digest,
    note_process,
    read_chain,
)
from grpo.tracking.difference import first_difference
from grpo.tracking.record import cut_back
from tests.tracking.planted import next_float32, run, write


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write(tmp_path_factory.mktemp("chain") / "good", run())


def permuted(steps):
    made = steps[2]
    for sequence in (made["rows"], *made["arrays"].values()):
        sequence[:] = sequence[2:] + sequence[:2]


def other_prompt(steps):
    for row in steps[2]["rows"][:2]:
        row["prompt"] = "2-0="


def token(steps):
    steps[2]["arrays"]["token_ids"][3][1] = 99
    steps[2]["rows"][3]["reward"] = 0.0  # what follows from it


def prompt_token(steps):
    steps[2]["arrays"]["prompt_token_ids"][0][1] = 21


def logprob(steps):
    logprobs = steps[2]["arrays"]["logprobs"][1]
    logprobs[2] = next_float32(logprobs[2])


def reward(steps):
    steps[2]["rows"][2]["reward"] = 0.5
    steps[2]["rows"][2]["advantage"] = 0.25


def component(steps):
    steps[2]["rows"][0]["components"]["accuracy"] = 0.125


def advantage(steps):
    steps[2]["rows"][0]["advantage"] = -1.0000000000000002


def lr(steps):
    steps[2]["metrics"]["lr"] = 2e-3
    steps[2]["weights"]["embed"] = 1


def coefficient(steps):
    steps[2]["metrics"]["kl_coef"] = 0.2
    steps[2]["gradients"]["embed"] = 0.75


def gradient(steps):
    steps[2]["gradients"]["layers.0"] = 3.0000000000000004
    steps[2]["weights"]["layers.0"] = 1


def weight_bit(steps):
    steps[2]["weights"]["layers.0"] ^= 1


def base_weights(steps):
    steps[0]["weights"]["embed"] = 6
    steps[1]["weights"]["embed"] = 6


def metric(steps):
    steps[2]["metrics"]["reward"] = 0.625


FAULTS = [
    (permuted, 2, Quantity.DATA, "'p20' against 'p21', the same problems in another order"),
    (other_prompt, 2, Quantity.DATA, "sample 0, prompt: '2+0=' against '2-0='"),
    (token, 2, Quantity.TOKENS, "sample 3 (problem p21), token_ids of token 1: 9 against 99"),
    (prompt_token, 2, Quantity.TOKENS, "prompt_token_ids of token 1: 20 against 21"),
    (logprob, 2, Quantity.LOGPROBS, "sample 1 (problem p20), log-prob of token 2: -0.125 against"),
    (reward, 2, Quantity.REWARDS, "sample 2 (problem p21), reward: 0.0 against 0.5"),
    (component, 2, Quantity.REWARDS, "sample 0 (problem p20), components: {'accuracy': 0.0}"),
    (advantage, 2, Quantity.ADVANTAGES, "advantage: -1.0 against -1.0000000000000002"),
    (lr, 2, Quantity.SETTINGS, "lr: 0.001 against 0.002"),
    (coefficient, 2, Quantity.SETTINGS, "kl_coef: 0.1 against 0.2"),
    (gradient, 2, Quantity.GRADIENT, "1 of 2 layers: layers.0 (3.0 against 3.0000000000000004)"),
    (weight_bit, 2, Quantity.WEIGHTS, "1 of 2 layers: layers.0 (00000000000000c9 against "),
    (base_weights, 0, Quantity.WEIGHTS, "1 of 2 layers: embed (0000000000000007 against "),
    (metric, 2, Quantity.RECORD, "metrics.jsonl, reward: 0.5 against 0.625"),
]


@pytest.mark.parametrize(
    ("plant", "step", "quantity", "text"), FAULTS, ids=[fault[0].__name__ for fault in FAULTS]
)
def test_a_planted_fault_is_named_before_all_that_follows_from_it(
    good, tmp_path, plant, step, quantity, text
):
    steps = run()
    plant(steps)
    other = write(tmp_path / "other", steps)
    found = first_difference(Record(good), Record(other), range(4))
    assert found is not None
    assert (found.step, found.quantity) == (step, quantity)
    assert text in found.text
    assert check_record(other)[0] is None  # it is another run, and no damaged one


def test_tokens_that_were_not_recorded_are_told_apart_by_their_digests(good, tmp_path):
    steps = run()
    token(steps)
    other = write(tmp_path / "other", steps, tokens=False)
    found = first_difference(Record(good), Record(other), range(4))
    assert found is not None and (found.step, found.quantity) == (2, Quantity.TOKENS)
    fault, counts = check_record(other)
    assert fault is None
    assert (counts[Quantity.TOKENS], counts[Quantity.DATA]) == (0, 3)


def test_diff_names_settings_and_the_run_that_ends_first(good, tmp_path, capsys):
    short = write(tmp_path / "short", run()[:3])
    (short / "config.yaml").write_text("optimizer: {lr: 1}\noutput_dir: a\n")
    shutil.copytree(good, tmp_path / "long")
    (tmp_path / "long/config.yaml").write_text("optimizer: {lr: 2}\noutput_dir: b\n")
    assert diff([str(short), str(tmp_path / "long")]) == 1
    told = capsys.readouterr().out
    assert told.splitlines() == [
        "setting optimizer.lr: 1 against 2",
        "steps 0 to 2: no difference",
        "one run ends at step 2, and the other at step 3",
    ]
    for name, engines in (("short", 1), ("long", 2)):
        plan = [{"name": "first"}, {"name": "second", "num_engines": engines}]
        (tmp_path / name / "config.yaml").write_text(json.dumps({"stages": plan}))
    diff([str(short), str(tmp_path / "long")])
    assert "setting stages.second.num_engines: 1 against 2\n" in capsys.readouterr().out
    assert diff([str(good), str(good)]) == 0
    assert diff([str(good), str(tmp_path / "nothing")]) == 78


def test_times_are_no_difference(good, tmp_path):
    steps = run()
    steps[1]["metrics"]["seconds/sample"] = 9.0
    other = write(tmp_path / "other", steps)
    assert first_difference(Record(good), Record(other), range(4)) is None
    assert read_chain(other) == read_chain(good)


def flip(path, offset):
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(bytes(raw))


def test_a_flipped_bit_anywhere_in_the_samples_of_a_step_is_traced_to_it(good, tmp_path):
    """Every 7th byte of the texts, and of the arrays those that numpy reads."""
    sound = tmp_path / "sound"
    shutil.copytree(good, sound)
    for suffix in (".jsonl", ".npz"):
        path = sound / "rollouts" / f"step_000002{suffix}"
        whole = path.read_bytes()
        missed = []
        for offset in range(0, len(whole), 7):
            flip(path, offset)
            fault, _ = check_record(sound)
            if fault is None:
                missed.append(offset)
            else:
                assert fault.step == 2, (suffix, offset)
            path.write_bytes(whole)
        # A zip says many things twice, and dates and flags mean nothing to what is read.
        assert len(missed) <= (0 if suffix == ".jsonl" else len(whole) / 7 / 3), (suffix, missed)


@pytest.mark.parametrize("name", ["metrics.jsonl", "chain.jsonl"])
def test_a_flipped_digit_of_a_number_of_step_2_is_traced_to_step_2(good, tmp_path, name):
    sound = tmp_path / "sound"
    shutil.copytree(good, sound)
    path = sound / name
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    row = 1 if name == "metrics.jsonl" else 2
    start = sum(map(len, lines[:row]))
    end = start + lines[row].find(b"seconds") if row == 1 else start + len(lines[row])
    digits = [i for i in range(start, end) if chr(whole[i]).isdigit()]
    assert len(digits) > 5
    for offset in digits:
        flip(path, offset)
        fault, _ = check_record(sound)
        assert fault is not None, whole[offset - 20 : offset + 5]
        # the step number itself, where it is flipped, is that of no step or of another one
        assert fault.step in (2, 3), whole[offset - 20 : offset + 5]
        path.write_bytes(whole)


def test_a_row_that_was_taken_out_or_swapped_is_traced(good, tmp_path):
    sound = tmp_path / "sound"
    shutil.copytree(good, sound)
    lines = (sound / "chain.jsonl").read_text().splitlines(keepends=True)
    (sound / "chain.jsonl").write_text("".join(lines[:2] + lines[3:]))
    assert check_record(sound)[0].step == 2
    (sound / "chain.jsonl").write_text("".join(lines[:3]))
    assert check_record(sound)[0].step == 3  # recorded, and has no link
    rewritten = json.loads(lines[2])
    rewritten["digests"]["rewards"] = digest(["forged"])
    (sound / "chain.jsonl").write_text("".join([*lines[:2], json.dumps(rewritten), "\n", lines[3]]))
    fault = check_record(sound)[0]
    assert (fault.step, fault.what) == (2, "rewards")


def test_cutting_back_takes_the_links_of_later_steps_with_it(good, tmp_path):
    sound = tmp_path / "sound"
    shutil.copytree(good, sound)
    metrics = (sound / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    with (sound / "chain.jsonl").open("a") as file:
        file.write('{"step": 4, "prev')  # as a crash leaves it
    cut_back(sound, 2, len(metrics[0]) + len(metrics[1]))
    assert read_chain(sound) == read_chain(good)[:3]
    assert check_record(sound)[0] is None


def test_verify_without_engines_tells_the_hash_that_stands_for_the_run(good, tmp_path, capsys):
    assert verify([str(good), "--steps", "0"]) == 0
    last = read_chain(good)[-1].chain
    assert f"chain at step 3: {last}" in capsys.readouterr().out
    assert verify([str(tmp_path), "--steps", "0"]) == 78
    sound = tmp_path / "sound"
    shutil.copytree(good, sound)
    text = (sound / "rollouts/step_000002.jsonl").read_text()
    (sound / "rollouts/step_000002.jsonl").write_text(
        text.replace('"reward": 1.0', '"reward": 0.0', 1)
    )
    assert verify([str(sound), "--steps", "0"]) == 1
    assert "step 2, rewards" in capsys.readouterr().out


def test_verify_says_what_a_folder_is_that_is_no_run(good, tmp_path, capsys):
    def told(folder):
        assert verify([str(folder)]) == 78
        return capsys.readouterr().err

    assert "nowhere: no such folder" in told(tmp_path / "nowhere")
    assert "it is not the folder of a run" in told(tmp_path)
    shutil.copytree(good, tmp_path / "pipeline/first")
    assert f"name one of them: {tmp_path / 'pipeline/first'}" in told(tmp_path / "pipeline")
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft/config.yaml").write_text("optimizer: {lr: 1}\n")
    assert "grpo sft and runs of older versions write none" in told(tmp_path / "sft")
    unbegun = tmp_path / "unbegun"
    unbegun.mkdir()
    note_process(unbegun, 0, {}, "settings")
    assert verify([str(unbegun), "--steps", "0"]) == 78
    assert "has no finished step" in capsys.readouterr().err


def test_a_run_that_was_killed_is_compared_up_to_its_last_whole_step(good, tmp_path, capsys):
    """Killed between the samples of step 3 and its link, with a torn line in the chain."""
    killed = tmp_path / "killed"
    shutil.copytree(good, killed)
    lines = (killed / "chain.jsonl").read_text().splitlines(keepends=True)
    (killed / "chain.jsonl").write_text("".join(lines[:3]) + lines[3][:40])
    (killed / "run.json").write_text('{"state": "running", "recipe": "tiny"}')
    assert verify([str(killed), "--steps", "0"]) == 0
    told = capsys.readouterr()
    assert "did not end by itself (died); it is compared up to step 2" in told.err
    assert "data 2," in told.out
    (killed / "run.json").write_text('{"state": "finished", "recipe": "tiny"}')
    assert verify([str(killed), "--steps", "0"]) == 1  # then a link is missing


def test_a_chain_that_was_cut_at_its_end_is_not_that_of_the_summary(good, tmp_path, capsys):
    cut = tmp_path / "cut"
    shutil.copytree(good, cut)
    (cut / "summary.json").write_text(json.dumps({"chain": read_chain(good)[-1].chain}))
    assert verify([str(cut), "--steps", "0"]) == 0
    for name in ("chain.jsonl", "metrics.jsonl"):
        lines = (cut / name).read_text().splitlines(keepends=True)
        (cut / name).write_text("".join(lines[:-1]))
    for path in cut.glob("rollouts/step_000003.*"):
        path.unlink()
    assert verify([str(cut), "--steps", "0"]) == 1
    assert "summary.json: its chain is" in capsys.readouterr().out


def checkpoint(folder, step, **state):
    path = folder / f"checkpoints/step_{step:06d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"step": step, "ahead": None, **state}))


def test_steps_are_done_again_from_a_checkpoint_of_the_same_settings(tmp_path):
    config = load_config("tiny", [])
    folder = write(tmp_path / "run", run())
    note_process(folder, 0, {}, "a")
    for step in (0, 1, 2):
        checkpoint(folder, step)
    assert starts_of(folder, config).steps == [0, 1, 2]
    note_process(folder, 1, {}, "a")  # went on as it was
    assert starts_of(folder, config).steps == [0, 1, 2]
    note_process(folder, 2, {}, "b")
    starts = starts_of(folder, config)
    assert (starts.steps, starts.before(3)) == ([2], 2)
    with pytest.raises(UserError, match="step 2 cannot be done again: steps up to 2 were made"):
        starts.before(2)


def test_a_checkpoint_with_a_batch_that_was_sampled_ahead_is_no_beginning(tmp_path):
    config = load_config(
        "tiny", ["rollout.max_staleness=1", "algorithm.mismatch.correction=truncate"]
    )
    folder = write(tmp_path / "run", run())
    checkpoint(folder, 1, ahead={"version": 0, "stream": {}})
    checkpoint(folder, 2)  # a stage ends there
    starts = starts_of(folder, config)
    assert (starts.steps, starts.before(2), starts.before(3)) == ([0, 2], 0, 2)
    assert "rollout.max_staleness=1: the batch after checkpoint 1" in starts.lacking[0]


def test_a_run_that_branched_off_begins_at_a_checkpoint_of_its_own(tmp_path):
    whole = write(tmp_path / "whole", run())
    branch = tmp_path / "branch"
    branch.mkdir()
    for line in (whole / "chain.jsonl").read_text().splitlines()[2:]:
        append_line(branch / "chain.jsonl", json.loads(line))
    config = load_config("tiny", ["resume=whole/checkpoints/step_000001"])
    with pytest.raises(UserError, match="resume=whole/checkpoints/step_000001: the run branched"):
        starts_of(branch, config).before(2)
    checkpoint(branch, 2)
    assert starts_of(branch, config).before(3) == 2


def test_diff_tells_that_the_runs_are_in_different_stages(good, tmp_path):
    one, other = run(), run()
    for steps, stage in ((one, 1), (other, 2)):
        steps[2]["metrics"]["stage"] = stage
    token(other)
    records = [Record(write(tmp_path / name, s)) for name, s in (("a", one), ("b", other))]
    assert first_difference(*records, range(4)).text.endswith("; stage 1 against 2")


def test_a_run_of_torchrun_is_done_again_under_torchrun(good, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RANK", raising=False)
    folder = tmp_path / "run"
    shutil.copytree(good, folder)
    config = load_config("tiny", ["runtime=torchrun"])
    write_yaml(folder / "config.yaml", plain(config.as_tree()))
    (folder / "run.json").write_text('{"state": "finished", "recipe": "tiny"}')
    assert verify([str(folder)]) == 78
    assert "--nproc-per-node 2 -m grpo.commands.verify" in capsys.readouterr().err
