"""Where problems come from, as recipes write it. Training and preparation share this schema.

    data.train: {source: file, path: train.jsonl, mapping: gsm8k}
    data.train: {source: huggingface, dataset: openai/gsm8k, subset: main, revision: COMMIT}
    data.train: {source: countdown, num_problems: 500, level: 2}
    data.train: {source: mix, sources: {maths: {path: maths.jsonl, weight: 3}, games: {...}}}

`source` decides which keys there are. Any word that is not file, huggingface or mix is the name of
a registered generator, see `data.generators`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from data.generators import GENERATORS, GeneratorSource
from data.sources import mappings
from grpo.common.names import hint
from grpo.common.recipes import PathText, Settings

KINDS = ("file", "huggingface", "mix")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


class Columns(Settings):
    """Names of the columns, where they are not the usual ones."""

    question: str | None = None
    answer: str | None = None
    id: str | None = None
    level: str | None = None


class _Rows(Settings):
    """What a file and a Hugging Face data set have in common: rows that a mapping reads."""

    mapping: str = "plain"
    """How rows become problems. plain: problem, answer, id, level, source, reward."""
    columns: Columns = Columns()
    """Other names of these columns, for mapping=plain."""
    num_problems: int | None = Field(None, ge=1)
    """The first so many problems. null: all."""
    max_bad_rows: int = Field(0, ge=0)
    """Rows that may be skipped. One more stops the start."""
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Share in a weighted mix, relative to the other sources."""

    @field_validator("mapping")
    @classmethod
    def _mapping_exists(cls, name: str) -> str:
        if name not in mappings.MAPPINGS:
            raise ValueError(f"{name!r} is no mapping; {hint(name, mappings.MAPPINGS)}")
        return name

    @model_validator(mode="after")
    def _columns_are_read(self) -> _Rows:
        if self.mapping != "plain" and self.columns != Columns():
            raise ValueError(f"columns go with mapping=plain, not mapping={self.mapping}")
        return self

    def row_mapping(self) -> mappings.RowMapping:
        """The function that reads a row."""
        if self.mapping != "plain":
            return mappings.MAPPINGS[self.mapping]
        return mappings.columns(**self.columns.model_dump())


class FileSource(_Rows):
    """JSONL, JSON or Parquet, plain or gzipped. The content tells the format."""

    source: Literal["file"] = "file"
    path: PathText
    max_row_bytes: int = Field(1 << 20, ge=1)
    """A longer row is a fault of the file, not a problem."""

    @property
    def label(self) -> str:
        """How messages and reports call this source."""
        return self.path


class HuggingFaceSource(_Rows):
    """A Hugging Face data set at a pinned revision."""

    source: Literal["huggingface"]
    dataset: str
    """owner/name, or a local folder."""
    revision: str | None = None
    """Commit of the data set, 7 to 40 hex digits. A branch can change between two runs."""
    subset: str | None = None
    """Hugging Face calls it the configuration name."""
    split: str = "train"

    @model_validator(mode="after")
    def _is_pinned(self) -> HuggingFaceSource:
        pinned = self.revision is not None and _COMMIT.fullmatch(self.revision)
        if not pinned and not Path(self.dataset).expanduser().is_dir():
            raise ValueError(
                f"revision={self.revision} of {self.dataset} is not a commit; pin one (7 to 40 hex "
                "digits), because a branch can change between two runs of the same recipe"
            )
        return self

    @property
    def label(self) -> str:
        """How messages and reports call this source."""
        return self.dataset


class MixSource(Settings):
    """Several sources as one. Curriculum `weighted` draws by weight."""

    source: Literal["mix"]
    sources: dict[str, Part] = Field(min_length=1)
    """By a name of your choice, which begins the ids of rows that have none. A mix holds no mix."""

    @property
    def label(self) -> str:
        """How messages and reports call this source."""
        return f"mix of {', '.join(self.sources)}"


def _kind(value: Any) -> str:
    """The member of `Source` that a block belongs to."""
    if not isinstance(value, dict | Settings):
        return "file"  # whose message says that a mapping is expected
    source = (
        value.get("source", "file") if isinstance(value, dict) else getattr(value, "source", "")
    )
    return source if source in KINDS else "generator"


def _read_generator(value: Any, handler: ValidatorFunctionWrapHandler) -> GeneratorSource:
    """The block of a generator, read by the settings class that the generator registered."""
    if isinstance(value, GeneratorSource):
        return value
    name = value["source"]
    if not isinstance(name, str) or name not in GENERATORS:
        known = [*KINDS, *GENERATORS]
        text = f"{name!r} is no kind of source and no generator; {hint(str(name), known)}"
        raise _fault(("source",), text + " (the recipe's `modules` register more)")
    schema = GENERATORS[name].settings
    try:
        return schema.model_validate_json(json.dumps(value))
    except ValidationError as error:
        details = []
        for fault in error.errors(include_url=False):
            if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
                # Only here is it known which keys this generator has.
                details.append(_detail(fault["loc"], _unknown_key(schema, fault["loc"])))
            else:
                details.append(
                    InitErrorDetails(
                        type=fault["type"],
                        loc=fault["loc"],
                        input=fault["input"],
                        ctx=fault.get("ctx", {}),
                    )
                )
        raise ValidationError.from_exception_data("source", details) from None


def _unknown_key(schema: type[GeneratorSource], location: tuple[int | str, ...]) -> str:
    known: Any = schema.model_fields
    for part in location[:-1]:
        kind = known[part].annotation
        known = getattr(kind, "model_fields", None) or kind.__dataclass_fields__
    return f"unknown key; {hint(str(location[-1]), known)}"


def _detail(location: tuple[int | str, ...], text: str) -> InitErrorDetails:
    error = PydanticCustomError("value_error", "{error}", {"error": text})
    return InitErrorDetails(type=error, loc=location, input=None)


def _fault(location: tuple[int | str, ...], text: str) -> ValidationError:
    return ValidationError.from_exception_data("source", [_detail(location, text)])


_File = Annotated[FileSource, Tag("file")]
_HuggingFace = Annotated[HuggingFaceSource, Tag("huggingface")]
_Generator = Annotated[
    SerializeAsAny[GeneratorSource], WrapValidator(_read_generator), Tag("generator")
]
Part = Annotated[_File | _HuggingFace | _Generator, Discriminator(_kind)]
Source = Annotated[
    _File | _HuggingFace | Annotated[MixSource, Tag("mix")] | _Generator, Discriminator(_kind)
]

MixSource.model_rebuild()


class _One(Settings):
    value: Source


def read_source(tree: dict[str, Any], where: str = "source") -> Source:
    """One source of plain values.

    Raises:
        RecipeError: everything that is wrong with it, one problem a line.
    """
    from grpo.common.errors import RecipeError
    from grpo.common.recipes import check

    source, problems = check(_One, {"value": tree})
    if source is None or problems:
        raise RecipeError(where, [problem.removeprefix("value.") for problem in problems])
    return source.value
