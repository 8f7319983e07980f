"""`checkpoints/step_NNNNNN`: everything that decides the future of a run after that step.

    step_000040/
        manifest.json                   size and sha256 of every other file, and who wrote it
        state.json                      step, data cursor, stage, coefficients: `TrainState`
        learner/rank_000.safetensors    weights and moments that a rank holds: `learner.partitions`

A checkpoint is written under a name with a dot in front, flushed to the disk, and then renamed. A
folder under its final name is whole. Reading it checks every file against the manifest first, since
disks lose bits. Nothing is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo.common.errors import StorageError, UserError
from grpo.common.faults import fault
from grpo.common.files import write_atomically
from grpo.common.provenance import versions
from grpo.tracking.folder import note_in_state, read_state

FORMAT = 2
ROOM = 1.5  # free space that a save wants, in sizes of the last checkpoint
_NAME = re.compile(r"step_(\d{6,})")


class DamagedError(Exception):
    """A checkpoint is not what its manifest says. The message names the file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are as they were written."""

    folder: Path
    state: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)  # of the packages that wrote it

    @property
    def step(self) -> int:
        """Updates that its weights have seen."""
        return int(self.state["step"])

    @property
    def learner_folder(self) -> str:
        """What `Learner.load_state` reads."""
        return str(self.folder / "learner")


class Checkpoints:
    """All checkpoints of a run."""

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "checkpoints"

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def whole_steps(self) -> list[int]:
        """Those of `steps` whose files are all there in their sizes. Their bytes are not read."""
        return [step for step in self.steps() if not self.damage(step)]

    def damage(self, step: int) -> str:
        """What names and sizes of its files tell to be wrong with a checkpoint; empty: nothing."""
        folder = self.path(step)
        try:
            for name, described in _manifest(folder)["files"].items():
                if (size := (folder / name).stat().st_size) != described["bytes"]:
                    return f"{folder / name} has {size} bytes of {described['bytes']}"
        except DamagedError as error:
            return str(error)
        except (OSError, KeyError, TypeError, AttributeError) as error:
            return f"{folder}: {type(error).__name__}: {error}"
        return ""

    def path(self, step: int) -> Path:
        """The folder of a step."""
        return self.folder / f"step_{step:06d}"

    def write(self, state: Mapping[str, Any], save_learner: Callable[[str], object]) -> Path:
        """Write the checkpoint of `state["step"]`. One that is there already is replaced.

        Args:
            state: plain values.
            save_learner: writes the ranks' files into a folder that it gets; a collective.

        Raises:
            UserError: the disk does not take it, or has too little room to begin. Older
                checkpoints stay as they are.
        """
        final = self.path(int(state["step"]))
        partial = final.with_name(f".{final.name}.partial")
        try:
            self._clear()
            self._check_room(final)
            (partial / "learner").mkdir(parents=True)
            fault("save.begun", step=state["step"])
            save_learner(str(partial / "learner"))
            fault("save.learner", step=state["step"])
            write_atomically({partial / "state.json": dict(state)})
            fault("save.state", step=state["step"])
            files = sorted(path for path in partial.rglob("*") if path.is_file())
            listed = {path.relative_to(partial).as_posix(): _described(path) for path in files}
            write_atomically(
                {
                    partial / "manifest.json": {
                        "format": FORMAT,
                        "versions": versions("grpo"),
                        "files": listed,
                    }
                }
            )
            for folder in (partial / "learner", partial):
                flush(folder)
            fault("save.manifest", step=state["step"])
            if final.exists():
                self._set_aside(final)
            fault("save.replaced", step=state["step"])
            partial.rename(final)
            fault("save.renamed", step=state["step"])
            flush(self.folder)
            if found := self.damage(int(state["step"])):
                raise OSError(f"it does not read back: {found}")
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise UserError(
                f"{final}: the checkpoint cannot be written: {error.strerror or error}; make room "
                "there, or set checkpoint.every higher and checkpoint.keep lower"
            ) from error
        note_in_state(self.folder.parent, checkpoint=int(state["step"]))
        return final

    def _check_room(self, final: Path) -> None:
        """A write that would fill the disk takes the last room from the record, and fails late.

        Raises:
            UserError: there is less than `ROOM` times the size of the last checkpoint.
        """
        if not (whole := self.whole_steps()):
            return
        files = _manifest(self.path(whole[-1]))["files"].values()
        # AdamW has no moments before the first update, and two to each weight afterwards.
        size = sum(described["bytes"] for described in files) * (1 if whole[-1] else 3)
        free = shutil.disk_usage(self.folder).free
        if free < ROOM * size:
            raise UserError(
                f"{final}: the checkpoint is not begun: {free / 2**20:,.0f} MiB are free there, "
                f"and it wants {ROOM} times its size of about {size / 2**20:,.0f} MiB; make room, "
                "or set checkpoint.every higher and checkpoint.keep lower"
            )

    def _clear(self) -> None:
        """Delete what writes and deletions that were cut short have left."""
        for path in self.folder.glob(".step_*"):
            shutil.rmtree(path, ignore_errors=True)

    def read(self, step: int) -> Checkpoint:
        """The checkpoint of a step, verified.

        Raises:
            DamagedError: it is not what was written.
        """
        return read(self.path(step))

    def newest(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole; None where there is none at all.

        In a branch, those that it adopted do not count: the run has not been there.

        Raises:
            UserError: there are some, and none is whole.
        """
        problems, branched_at = [], read_state(self.folder.parent).get("branched_at", -1)
        for step in reversed([step for step in self.steps() if step > branched_at]):
            try:
                return self.read(step)
            except DamagedError as error:
                problems.append(str(error))
                say(f"checkpoint of step {step} is damaged and not used: {error}")
        if problems:
            raise UserError(
                f"{self.folder}: no checkpoint there is whole; "
                + "; ".join(problems)
                + ". Restore one from a copy, or set resume=fresh to begin again at step 0"
            )
        return None

    def adopt(self, other: Path, steps: Collection[int]) -> None:
        """Copy checkpoints of another run, which a run that branched off from it may go back to.

        Args:
            other: the folder `checkpoints` of that run.
            steps: those that it has of these are copied.

        Raises:
            StorageError: the disk does not take one.
        """
        for step in steps:
            source, final = other / f"step_{step:06d}", self.path(step)
            if source.is_dir() and not final.exists():
                partial = final.with_name(f".{final.name}.partial")
                try:
                    shutil.rmtree(partial, ignore_errors=True)
                    shutil.copytree(source, partial)
                    partial.rename(final)
                except OSError as error:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise StorageError(
                        f"{final}: {source} cannot be copied there: {error.strerror or error}; "
                        "make room"
                    ) from error

    def _set_aside(self, path: Path) -> None:
        """Give a checkpoint a name under which nothing looks for it."""
        doomed = path.with_name(f".{path.name}.deleted")
        shutil.rmtree(doomed, ignore_errors=True)  # of a run that was killed while it deleted
        path.rename(doomed)

    def prune(self, keep: Collection[int]) -> None:
        """Delete all checkpoints but these, and what writes that failed have left."""
        for step in set(self.steps()) - set(keep):
            # Renamed first: a folder that is half deleted must not look like a checkpoint.
            self._set_aside(self.path(step))
            fault("save.pruned", step=step)
        self._clear()


def read(folder: Path) -> Checkpoint:
    """A checkpoint folder, every file compared with the manifest.

    Raises:
        DamagedError: names the first file that is missing or changed.
    """
    try:
        manifest = _manifest(folder)
        for name, described in manifest["files"].items():
            if not (folder / name).is_file():
                raise DamagedError(f"{folder / name} is missing")
            if _described(folder / name) != described:
                raise DamagedError(f"{folder / name} is not what was written")
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        written_by = dict(manifest.get("versions", {}))  # older checkpoints have none
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder}: {type(error).__name__}: {error}") from None
    return Checkpoint(folder, state, written_by)


def _manifest(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself.

    Raises:
        DamagedError: it cannot be read, or is of a later format.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        if manifest["format"] != FORMAT:
            raise DamagedError(
                f"{folder} has format {manifest['format']}, and this version reads {FORMAT}"
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{folder}: {type(error).__name__}: {error}") from None
    return manifest


def flush(path: Path) -> None:
    """Make sure that a file or the names in a folder survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
