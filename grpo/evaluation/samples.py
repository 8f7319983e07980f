"""The samples of an evaluation as rows of a file that grows problem by problem.

A problem is finished when all of its n responses are on the disk. What a killed evaluation leaves
of an unfinished one is thrown away, and made again from the same seeds.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grpo.common.errors import UserError
from grpo.common.files import json_line, read_jsonl, write_atomically
from grpo.evaluation.metrics import checker_of, rate
from grpo.evaluation.votes import ballots
from grpo.rollout.scoring import samples_of
from grpo.types import SamplingSettings, ScoredGroup
from rewards import Scorer

SAMPLES, IDENTITY, RESULT = "samples.jsonl", "evaluation.json", "result.json"

Row = dict[str, Any]
Key = tuple[str, str]  # name of the set, id of the problem


class SampleFile:
    """`samples.jsonl` of a folder, and what the folder is an evaluation of."""

    def __init__(self, folder: Path, num_samples: int) -> None:
        self.folder, self.num_samples = folder, num_samples
        self.path = folder / SAMPLES
        self.groups: dict[Key, list[Row]] = {}

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, identity: Mapping[str, Any], num_samples: int
    ) -> Iterator[SampleFile]:
        """The samples of a folder, new or begun, for this process alone.

        Args:
            folder: made where it is missing.
            identity: everything that decides the samples.
            num_samples: n.

        Raises:
            UserError: the folder is one of another evaluation, holds something else, cannot be
                written, or another process works in it.
        """
        file = cls(folder, num_samples)
        there = folder / IDENTITY
        if not there.is_file() and folder.exists() and not folder.is_dir():
            raise UserError(f"output_dir={folder}: is a file; name a folder")
        if not there.is_file() and folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"output_dir={folder}: holds something that is no evaluation; name another folder"
            )
        if not there.is_file():
            write_atomically({there: identity})
        elif differing := differences(_read(there), json.loads(json.dumps(identity))):
            raise UserError(
                f"output_dir={folder}: holds an evaluation with other settings: "
                f"{'; '.join(differing)}. Name another folder, or use the settings of that one"
            )
        with there.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(f"output_dir={folder}: another evaluation works in it") from None
            file._load()
            yield file

    def _load(self) -> None:
        """Read what is finished, and take everything else out of the file."""
        rows = list(read_jsonl(self.path)) if self.path.is_file() else []
        for row in rows:
            self.groups.setdefault((row["set"], row["problem_id"]), []).append(row)
        # what the machine could not grade is made again, and graded
        self.groups = {
            key: group
            for key, group in self.groups.items()
            if len(group) == self.num_samples and all(row["graded"] for row in group)
        }
        if self.path.is_file():
            self.rewrite(self.groups)

    def add(self, groups: Iterable[Sequence[Row]]) -> None:
        """Put finished problems on the disk, before anything is told about them.

        Raises:
            UserError: the file cannot be written, such as on a full disk.
        """
        added = [list(group) for group in groups]
        lines = "".join(json_line(row) + "\n" for group in added for row in group)
        try:
            with self.path.open("ab") as file:
                file.write(lines.encode("utf-8", errors="backslashreplace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror or error}") from None
        for group in added:
            self.groups[group[0]["set"], group[0]["problem_id"]] = group

    def rewrite(self, order: Iterable[Key]) -> None:
        """The file with its problems in this order, whatever order they were finished in."""
        self.groups = {key: self.groups[key] for key in order}
        write_atomically({self.path: [row for group in self.groups.values() for row in group]})


def differences(there: Mapping[str, Any], here: Mapping[str, Any], above: str = "") -> list[str]:
    """What differs between two trees of settings, such as `n: 8 there, 16 here`."""
    found = []
    for key in dict.fromkeys([*there, *here]):
        old, new, name = there.get(key), here.get(key), f"{above}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{name}.")
        elif old != new:
            shown = [json.dumps(value, ensure_ascii=False)[:80] for value in (old, new)]
            found.append(f"{name}: {shown[0]} there, {shown[1]} here")
    return found


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: is no JSON ({error}); name another output_dir") from None


def sample_rows(
    name: str, group: ScoredGroup, settings: SamplingSettings, scorer: Scorer
) -> list[Row]:
    """The responses to one problem of a set, with verdict, answer and the class of the answer."""
    prompt, problem = group.group.prompt, group.group.prompt.problem
    checker = checker_of(group.scores[0])
    assert checker is not None, "the settings ask for a component that says what is right"
    right = [rate(score, checker) >= 1 for score in group.scores]
    samples = samples_of(group.group, settings, scorer)
    votes = ballots(samples, right, checker, scorer)
    kinds = {"level": problem.level, "subject": problem.extra.get("subject")}
    return [
        {
            "set": name,
            "problem_id": problem.id,
            "index": index,
            **{kind: str(value) for kind, value in kinds.items() if value is not None},
            "prompt": prompt.text,
            "response": response.text,
            "gold": problem.answer,
            "answer": answer,
            "answer_class": number,
            "right": verdict,
            "graded": score.graded,
            "reward": score.total,
            "components": {name: reward.score for name, reward in score.components.items()},
            "reasons": {name: reward.reason for name, reward in score.components.items()},
            "length": len(response.token_ids),
            "finish_reason": response.finish_reason,
            "seed": response.seed,
        }
        for index, (response, score, verdict, (answer, number)) in enumerate(
            zip(group.group.responses, group.scores, right, votes, strict=True)
        )
    ]
