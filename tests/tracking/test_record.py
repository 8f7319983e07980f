from pathlib import Path

import numpy as np
import pytest

from grpo.common.files import append_line
from grpo.config.schema import TrackingConfig, WandbConfig
from grpo.tracking import open_run
from grpo.tracking.record import read_metrics, read_rollouts, write_rollouts

ROWS = [{"response": "a"}, {"response": ""}, {"response": "cde"}]
ARRAYS = {
    "token_ids": [[5], [], [7, 8, 151_935]],
    "logprobs": [[-0.5], [], [-0.25, -18.125, 0.0]],
    "versions": [[3], [], [3, 4, 4]],
}


def test_rows_of_one_step_are_merged_and_a_torn_last_line_is_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, {"step": 1, "reward": 0.5})
    append_line(path, {"step": 0, "eval/greedy/accuracy": 0.4})
    append_line(path, {"step": 1, "eval/greedy/accuracy": 0.6})
    with path.open("a") as file:
        file.write('{"step": 2, "rew')
    assert read_metrics(tmp_path) == [
        {"step": 0, "eval/greedy/accuracy": 0.4},
        {"step": 1, "reward": 0.5, "eval/greedy/accuracy": 0.6},
    ]


def test_tokens_logprobs_and_versions_come_back_with_their_rows(tmp_path: Path):
    write_rollouts(tmp_path, 7, ROWS, ARRAYS)
    rows = read_rollouts(tmp_path, 7)
    assert [row["response"] for row in rows] == ["a", "", "cde"]
    for name, samples in ARRAYS.items():
        assert [row[name].tolist() for row in rows] == samples
    assert rows[2]["token_ids"].dtype == np.int32
    assert rows[2]["logprobs"].dtype == np.float32


def test_logprobs_keep_every_bit_of_float32(tmp_path: Path):
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    write_rollouts(tmp_path, 1, [{}], {"logprobs": [values.tolist()]})
    assert read_rollouts(tmp_path, 1)[0]["logprobs"].tobytes() == values.tobytes()


def test_the_arrays_are_plain_numpy_files_without_pickle(tmp_path: Path):
    write_rollouts(tmp_path, 1, ROWS, ARRAYS)
    with np.load(tmp_path / "rollouts" / "step_000001.npz", allow_pickle=False) as packed:
        assert packed["token_ids"].tolist() == [5, 7, 8, 151_935]
        assert packed["token_ids.offsets"].tolist() == [0, 1, 1, 4]


def test_equal_samples_give_equal_bytes(tmp_path: Path):
    for step in (1, 2):
        write_rollouts(tmp_path, step, ROWS, ARRAYS)
    one, two = sorted((tmp_path / "rollouts").glob("*.npz"))
    assert one.read_bytes() == two.read_bytes()


def test_an_array_that_misses_a_sample_is_refused_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="token_ids: 1 samples for 3 rows"):
        write_rollouts(tmp_path, 1, ROWS, {"token_ids": [[1]]})
    assert not (tmp_path / "rollouts").exists()


def test_a_step_without_arrays_or_without_samples_is_read_too(tmp_path: Path):
    write_rollouts(tmp_path, 1, ROWS)
    assert read_rollouts(tmp_path, 1) == ROWS
    write_rollouts(tmp_path, 2, [], {"token_ids": []})
    assert read_rollouts(tmp_path, 2) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_the_setting_decides_whether_tokens_are_kept(tmp_path: Path, wanted: bool):
    settings = TrackingConfig(
        wandb=WandbConfig(mode="disabled"), tensorboard=False, plots=False, rollout_tokens=wanted
    )
    with open_run(tmp_path, {}, settings, "tiny", 1, None) as run:
        run.log_rollouts(1, ROWS, ARRAYS)
        run.close({})
    assert (tmp_path / "rollouts" / "step_000001.npz").exists() == wanted
