"""Where a run begins: at step 0, or at a checkpoint of the same recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from grpo.checkpoint.folder import Checkpoint, Checkpoints, DamagedError, read
from grpo.common.errors import UserError
from grpo.common.files import plain
from grpo.common.provenance import versions
from grpo.config.schema import RunConfig, TrainConfig
from grpo.tracking.folder import branched_off, has_record, last_step, read_state, run_path
from grpo.tracking.redact import redact

# Settings that decide nothing of what a step computes.
_FREE = (
    "output_dir",
    "resume",
    "allow_config_change",
    "tracking",
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.grace_seconds",
    "cluster",
    "health",
    "rollout.stall_timeout_seconds",
    "rollout.hang_timeout_seconds",
    "supervise",
)


def starting_point(config: RunConfig, say: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint that a run goes on from; None where it begins at step 0.

    Nothing is written: a command with a mistake leaves the run in `output_dir` as it is.

    Args:
        config: of the run that starts now. Its folder may hold a run of the same recipe.
        say: takes a line for the user.

    Raises:
        UserError: the folder's run has other settings, none of its checkpoints is whole or those
            that it had are gone, or `resume` names something else than a run or a checkpoint.
    """
    if config.resume == "fresh":
        return None
    run_dir = None if config.output_dir is None else run_path(config.output_dir)
    origin = None if config.resume == "auto" else config.resume
    found = None
    # A branch that was stopped goes on from its own checkpoints, with the command that began it.
    if (
        run_dir is not None
        and has_record(run_dir)
        and (origin is None or branched_off(run_dir, origin))
    ):
        origin = read_state(run_dir).get("branched_from")
        _check_settings(config, run_dir / "config.yaml", say)
        found = Checkpoints(run_dir).newest(say)
        if found is None:
            check_never_saved(run_dir)
            where = f"from {origin}" if origin else "step 0"
            say(f"{run_dir} holds a run that ended before its first checkpoint: {where} again")
        elif _bytes(run_dir / "metrics.jsonl") < recorded_bytes(found, run_dir):
            say(
                f"warning: {run_dir / 'metrics.jsonl'} has lost rows of steps up to {found.step}; "
                "training does not need them, and goes on"
            )
    if found is None and origin is not None:
        found = _named(config, origin, say)
    if found is not None:
        now, then = versions("grpo"), found.versions
        other = [f"{k} {then[k]} then, {now.get(k)} now" for k in then if then[k] != now.get(k)]
        if other:
            say(
                f"{found.folder} was written by other versions: {', '.join(other)}. The run goes "
                "on, and whether to the last bit as it would have then is not promised"
            )
    return found


def check_never_saved(run_dir: Path) -> None:
    """A run without any checkpoint may begin again only if it never had one. Beginning again
    deletes its record.

    Raises:
        UserError: it had one, so that its folder is damaged.
    """
    told, last = read_state(run_dir), last_step(run_dir)
    had = ""
    if (run_dir / "summary.json").exists():
        had = "summary.json says that it was finished"
    elif told.get("checkpoint") is not None:
        had = f"run.json says that there was one of step {told['checkpoint']}"
    elif "checkpoint" not in told:  # by an older version, which did not note it
        settings = leaves(yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8")))
        every = int(settings.get("checkpoint.every") or 0)
        if every and last >= every:
            had = f"with checkpoint.every={every} there was one before step {last}"
    if had:
        raise UserError(
            f"{run_dir} holds a run of {last} steps, and none of its checkpoints: {had}. Restore "
            f"{run_dir / 'checkpoints'} from a copy, or set resume=fresh to begin again at step 0 "
            "(what is there moves to previous/). Nothing was changed"
        )


def recorded_bytes(start: Checkpoint | None, run_dir: Path) -> int:
    """Size of a run's metrics.jsonl when it wrote a checkpoint. 0 where the checkpoint is that of
    another run, from which this one branches off.
    """
    if start is None or start.folder.parents[1] != run_dir:
        return 0
    return int(start.state["metrics_bytes"])


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def settings_hash(config: RunConfig) -> str:
    """A hash of all settings that decide what a step computes: equal for runs that can share
    samples.
    """
    tree = leaves(redact(plain(config.as_tree())))
    told = {key: value for key, value in tree.items() if not _under(key, free_settings(config))}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def free_settings(config: RunConfig) -> list[str]:
    """Settings that decide nothing of what a step computes."""
    free = [*_FREE]
    moves = isinstance(config, TrainConfig) and config.data.curriculum.kind == "easy_to_hard"
    if config.optimizer.schedule == "constant" and not moves:
        # nothing looks at the length of the run
        free += ["trainer.max_steps", "trainer.epochs"]
    return free


def is_finished(config: RunConfig, start: Checkpoint, steps: int) -> bool:
    """Is the run of `output_dir`, which has so many steps, over with nothing left to do?"""
    run_dir = start.folder.parents[1]
    return (
        config.output_dir is not None
        and run_path(config.output_dir) == run_dir
        and start.step >= steps
        and (run_dir / "summary.json").exists()
    )


def _named(config: RunConfig, resume: str, say: Callable[[str], None]) -> Checkpoint:
    """The checkpoint that `resume` names: a folder of one, or the newest of a run's folder."""
    folder = Path(resume)
    if (folder / "manifest.json").exists():
        _check_settings(config, folder.parents[1] / "config.yaml", say)
        try:
            return read(folder)
        except DamagedError as error:
            raise UserError(f"resume={resume}: {error}; name another checkpoint") from None
    found = Checkpoints(folder).newest(say) if folder.is_dir() else None
    if found is None:
        raise UserError(
            f"resume={resume}: no checkpoint there; name the folder of a run, or one of its "
            "checkpoints/step_NNNNNN, or use auto or fresh"
        )
    _check_settings(config, folder / "config.yaml", say)
    return found


def _check_settings(config: RunConfig, file: Path, say: Callable[[str], None]) -> None:
    """Tell how the settings differ from those of the run that goes on.

    Raises:
        UserError: one that decides what a step computes differs, and
            `allow_config_change` does not name it.
    """
    try:
        then = leaves(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{file}: cannot be read ({error}); the folder is of no run") from None
    now = leaves(redact(plain(config.as_tree())))
    free = free_settings(config)
    refused = []
    for key in sorted({*then, *now}):
        if then.get(key) == now.get(key):
            continue
        told = f"{key}: {then.get(key)!r} then, {now.get(key)!r} now"
        if _under(key, [*free, *config.allow_config_change]):
            say(f"going on with another setting: {told}")
        else:
            refused.append(told)
    if refused:
        blocks = ", ".join(sorted({line.split(":")[0] for line in refused}))
        raise UserError(
            f"{file.parent} holds a run with other settings:\n"
            + "\n".join(f"  - {line}" for line in refused)
            + f"\nName another output_dir, or set resume=fresh, or allow_config_change=[{blocks}] "
            "to go on all the same"
        )


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested tree as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _under(key: str, blocks: Sequence[str]) -> bool:
    return any(key == block or key.startswith(f"{block}.") for block in blocks)
