"""From a source of a recipe to validated problems. Training and preparation both load here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.generators import GENERATORS, GeneratorSource, Split
from data.sources import huggingface
from data.sources.mappings import RowFault
from data.sources.records import read_records
from data.sources.rows import Validator
from data.sources.spec import FileSource, HuggingFaceSource, MixSource, Source
from data.types import Problem
from grpo.common.errors import UserError


def load(
    source: Source, *, name: str = "", seed: int = 0, split: Split | None = None
) -> list[Problem]:
    """All problems of a source, in order, every row validated.

    Args:
        name: how messages call it, such as `data.train`; ids of rows without one begin with the
            file's name.
        seed: of generators that have none of their own.
        split: of generators that have none of their own.

    Raises:
        UserError: it cannot be read, has more bad rows than allowed, or fewer problems than asked
            for.
    """
    validator = Validator(allowed_bad_rows([source]))
    try:
        problems = load_into(validator, source, _stem(source), seed=seed, split=split)
        validator.check()
    except UserError as error:
        raise UserError(f"{name}: {error}" if name else str(error)) from None
    return problems


def load_into(
    validator: Validator, source: Source, name: str, *, seed: int = 0, split: Split | None = None
) -> list[Problem]:
    """The good rows of one source; bad ones are in `validator.bad_rows`.

    Raises:
        UserError: the source as a whole cannot be read.
    """
    if isinstance(source, MixSource):
        mixed = []
        for member, inner in source.sources.items():
            problems = load_into(validator, inner, member, seed=seed, split=split)
            mixed += [_tagged(problem, {"mix_source": member}) for problem in problems]
        return mixed
    if isinstance(source, GeneratorSource):
        problems = _generate(validator, source, seed, split)
    else:
        if isinstance(source, FileSource):
            records = read_records(Path(source.path).expanduser(), source.max_row_bytes)
        else:
            records = huggingface.read_dataset(
                source.dataset, source.revision, source.subset, source.split
            )
        problems = validator.problems(records, source.row_mapping(), name, source.label)
        problems = problems[: source.num_problems]
    if source.weight == 1.0:
        return problems
    return [_tagged(problem, {"weight": source.weight}) for problem in problems]


def allowed_bad_rows(sources: list[Source]) -> int:
    """Rows that may be skipped, over all of these sources."""
    total = 0
    for source in sources:
        if isinstance(source, MixSource):
            total += allowed_bad_rows(list(source.sources.values()))
        elif isinstance(source, FileSource | HuggingFaceSource):
            total += source.max_bad_rows
    return total


def _generate(
    validator: Validator, source: GeneratorSource, seed: int, split: Split | None
) -> list[Problem]:
    try:
        problems = GENERATORS[source.source].generate(
            source,
            seed=seed if source.seed is None else source.seed,
            split=source.split or split,
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    for number, problem in enumerate(problems, start=1):
        try:
            if validator.unique_ids:
                validator.claim(problem.id, (source.label, number))
        except RowFault as fault:
            raise UserError(f"{source.label}: {fault}; give it another seed") from None
    return problems


def _tagged(problem: Problem, extra: Mapping[str, Any]) -> Problem:
    return dataclasses.replace(problem, extra={**problem.extra, **extra})


def _stem(source: Source) -> str:
    return Path(source.path).name.split(".")[0] if isinstance(source, FileSource) else "row"
