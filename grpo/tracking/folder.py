"""The folder of a run: claimed by one run, and never by two.

While a run works in its folder it holds a lock on `.claim` there. The system lets go of it
when the process ends, however it ends. `run.json` says what became of the run. A folder in which a
run ended before its first record counts as empty, so that a start that failed can be tried again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from grpo.common.errors import Stopped, Terminated, UserError
from grpo.common.files import check_writable, work_folder, write_atomically
from grpo.tracking.record import read_metrics
from grpo.tracking.redact import redact_text

CLAIM, STATE = ".claim", "run.json"
# What a run leaves when it ends before its first record.
_BEGINNINGS = {CLAIM, STATE, "config.yaml", "rollouts"}

State = Literal["running", "finished", "failed", "interrupted"]

# Keys of run.json that outlive the start that wrote them: the newest checkpoint that there ever
# was, and what a run branched off from, after which step.
_KEPT = {"checkpoint", "branched_from", "branched_at"}

_held: dict[Path, int] = {}  # folders that this process has claimed, and their open locks


@contextmanager
def run_folder(
    output_dir: str | Path | None, recipe: str, resume: str | None = None
) -> Iterator[Path]:
    """The folder of a run for the length of the block; `run.json` says afterwards how it ended.

    A run that ends before its first record gives the folder back. A later end leaves what there is,
    and says so on standard error.

    Raises:
        UserError: as `claim`.
    """
    folder = claim(output_dir, recipe, resume)
    try:
        yield folder
    except BaseException as error:
        release(folder, *_how_it_ended(error))
        raise
    release(folder, "finished")


def claimed() -> list[Path]:
    """The folders that this process has claimed and not yet released."""
    return list(_held)


def run_path(output_dir: str | Path) -> Path:
    """What `output_dir` means here, as an absolute path: `grpo.common.files.work_folder`."""
    return work_folder() / Path(output_dir).expanduser()


def claim(output_dir: str | Path | None, recipe: str, resume: str | None = None) -> Path:
    """Make and claim the folder of a run. Returns its absolute path.

    Args:
        output_dir: None means runs/<recipe>/<time>; `~` is the home folder.
        recipe: its name.
        resume: `auto` takes a folder that holds a run as it is, and `fresh` moves that run into
            `previous/` there. With another folder it must hold no run but one that branched off
            from there.

    Raises:
        UserError: the folder holds something, another run has it, or it cannot be made.
    """
    if output_dir is not None:
        folder = run_path(output_dir)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"output_dir={output_dir}: is a file; name a folder")
        _make(folder, output_dir)
        going_on = resume in ("auto", "fresh") or branched_off(folder, resume)
        _lock(folder, output_dir, going_on=going_on)
        if resume == "fresh":
            _move_aside(folder)
    else:
        folder = new_run_folder(recipe)
        _lock(folder, folder)
    # What later starts must know of the earlier ones; nothing where there was none.
    kept = {key: value for key, value in read_state(folder).items() if key in _KEPT}
    if resume not in (None, "auto", "fresh"):
        kept["branched_from"] = str(Path(resume).resolve())
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    told = {"state": "running", "recipe": recipe, "started": now, "pid": os.getpid()}
    try:
        _write_state(folder, **told, **{"checkpoint": None, **kept})
    except UserError:
        _unlock(folder)
        raise
    return folder


def release(folder: Path, state: State, reason: str | None = None) -> None:
    """End a claim. Without any record the folder is cleared, and removed when it is then empty."""
    if not has_record(folder):
        if state != "finished":
            _clear(folder)
            _unlock(folder)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            return
        last = 0
    else:
        last = last_step(folder)
    told = read_state(folder)
    told |= {"state": state, "reason": reason, "last_step": last}
    told["ended"] = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        _write_state(folder, **told)
    except UserError as error:  # a full disk must not hide why the run ended
        print(f"grpo: {error}", file=sys.stderr)
    _unlock(folder)
    if state != "finished":
        ended = f"was {state}" if state == "interrupted" else state
        print(
            f"grpo: the run {ended} after step {last} ({reason}); its record is in {folder}",
            file=sys.stderr,
        )


def read_state(folder: Path) -> dict[str, Any]:
    """What run.json says. A run that was killed cannot say so: its state is then `died`."""
    try:
        told: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if told.get("state") == "running" and folder not in _held and not _is_locked(folder):
        told["state"] = "died"
    return told


def branched_off(folder: Path, resume: str | None) -> bool:
    """Does a folder hold a run that branched off from what `resume` names?"""
    origin = read_state(folder).get("branched_from")
    return resume is not None and origin == str(Path(resume).resolve())


def note_in_state(folder: Path, **told: int) -> None:
    """Note in run.json what later starts must know: `checkpoint`, so that nobody takes a run whose
    checkpoints are gone for one that ended before its first, or `branched_at`.
    """
    before = read_state(folder)
    if before:
        with suppress(UserError):  # a full disk must not end a run that can go on
            _write_state(folder, **{**before, **told})


def _how_it_ended(error: BaseException) -> tuple[State, str]:
    if isinstance(error, Stopped):
        return "interrupted", error.by
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "Ctrl-C"
    if isinstance(error, Terminated) or (
        isinstance(error, SystemExit) and error.code == signal.SIGTERM  # of the handler of Ray
    ):
        return "interrupted", "SIGTERM"
    text = " ".join(redact_text(f"{type(error).__name__}: {error}").split())
    return "failed", text[:500]


def new_run_folder(recipe: str) -> Path:
    """runs/RECIPE/TIME, made now: `mkdir` is what decides between two runs of one second."""
    parent = run_path("runs") / recipe
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    _make(parent, parent)
    for number in range(1, 1000):
        folder = parent / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
        return folder
    raise UserError(f"{parent / name}: a thousand runs began in one second; set output_dir")


def _make(folder: Path, named: str | Path) -> None:
    try:
        check_writable([], [folder])
        folder.mkdir(parents=True, exist_ok=True)
    except UserError as error:
        raise UserError(f"output_dir={named}: {error}; name another folder") from None
    except OSError as error:
        raise UserError(f"output_dir={named}: cannot be made: {error.strerror}") from None


def _move_aside(folder: Path) -> None:
    """The run that a folder holds goes into `previous/TIME`, whole."""
    if not has_record(folder):
        return
    place = folder / "previous" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    place.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name not in (CLAIM, "previous"):
            path.rename(place / path.name)
    print(f"grpo: the run that was here is now in {place}", file=sys.stderr)


def _lock(folder: Path, named: str | Path, *, going_on: bool = False) -> None:
    """Hold the lock of a folder, and clear what a start that failed has left there.

    Args:
        folder: of the run.
        named: as the recipe names it.
        going_on: it may hold a run.
    """
    if folder in _held:
        raise UserError(f"output_dir={named}: another run of this process works in it")
    going_on = going_on and (folder / STATE).exists() and (folder / "config.yaml").exists()
    strange = set() if going_on else {path.name for path in folder.iterdir()} - _BEGINNINGS
    ours = (folder / STATE).exists() or (folder / CLAIM).exists()
    begun = any(path.name in _BEGINNINGS for path in folder.iterdir())
    if strange or (has_record(folder) and not going_on) or (begun and not ours):
        raise UserError(f"output_dir={named}: {_occupied(folder)}; name a new folder")
    for _ in range(100):
        lock = os.open(folder / CLAIM, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise UserError(
                f"output_dir={named}: another run works in it; name a folder for each run"
            ) from None
        try:
            same = os.stat(folder / CLAIM).st_ino == os.fstat(lock).st_ino  # noqa: PTH116
        except FileNotFoundError:
            same = False
        if same:
            break
        os.close(lock)  # a run that just ended took its file away: ours is one that nobody sees
        time.sleep(0.01)
    else:
        raise UserError(f"output_dir={named}: cannot be claimed; name a new folder")
    _held[folder] = lock
    if going_on and has_record(folder):
        return
    if has_record(folder):  # of a run that came and went since we looked
        _unlock(folder)
        raise UserError(f"output_dir={named}: {_occupied(folder)}; name a new folder")
    _clear(folder)


def _occupied(folder: Path) -> str:
    told = read_state(folder)
    if told:
        last = f" after step {last_step(folder)}" if has_record(folder) else ""
        return f"already holds a run ({told['state']}{last})"
    return "not empty"


def _is_locked(folder: Path) -> bool:
    try:
        lock = os.open(folder / CLAIM, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _unlock(folder: Path) -> None:
    (folder / CLAIM).unlink(missing_ok=True)
    os.close(_held.pop(folder))


def _clear(folder: Path) -> None:
    """Take away what a start leaves. Only called where there is no record."""
    for name in _BEGINNINGS - {CLAIM}:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def has_record(folder: Path) -> bool:
    """Is there anything of a run in it that counts?"""
    return (
        (folder / "metrics.jsonl").exists()
        or any((folder / "rollouts").glob("*"))
        or any((folder / "checkpoints").glob("step_*"))
    )


def last_step(folder: Path) -> int:
    """The last step that a folder has a record of; 0 without any."""
    try:
        rows = read_metrics(folder)
    except (FileNotFoundError, ValueError):
        return 0
    return max((int(row["step"]) for row in rows), default=0)


def _write_state(folder: Path, **told: Any) -> None:
    write_atomically({folder / STATE: told})
