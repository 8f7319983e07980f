"""Conversations to learn from: read, checked, and made into token ids with a loss mask.

A row of a file is `{"messages": [{"role": ..., "content": ...}, ...]}`; other columns are not
looked at. What the assistant says is trained with the token that ends its turn, and `"train": true`
or `false` of a message overrides the setting `data.train_on`.

What a user, a system message or a tool says is data: whatever it holds, no part of it becomes a
control token. The assistant's text may hold control tokens such as `<think>`, because the model
writes them.

A row of a file of pairs is `{"prompt": [...], "chosen": [...], "rejected": [...]}`, each a list of
turns: the conversation up to the answer, and two answers to it.

A trained stretch begins at a border of tokens, because at sampling the prompt ends there. Where the
tokenizer would join the last characters of the prompt with the first ones of the answer, the two
are encoded apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, model_validator

from data.generators import Split
from data.sources.mappings import RowFault
from data.sources.records import read_records
from data.templates import CHAT_PREFIX, SLOT, TEMPLATES
from grpo.common.encoding import encode_text
from grpo.common.errors import UserError
from grpo.common.names import Registry, hint
from grpo.common.recipes import PathText, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
ROLES = ("system", "user", "assistant", "tool")
MAX_ROW_BYTES = 1 << 26  # a conversation of 64 MiB is a fault of the file
_SHOWN = 3  # bad rows spelt out in a message
# Stands for the text of a message while a chat template is rendered; private characters of Unicode.
_MARK = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str
    train: bool | None = None  # None: as the recipe says


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation, and where it comes from."""

    messages: tuple[Message, ...]
    where: str  # such as "train.jsonl, line 3"

    @property
    def question(self) -> str:
        """What stands before the first turn of the assistant, without system messages; case and
        blanks make no difference.
        """
        words: list[str] = []
        for message in self.messages:
            if message.role == "assistant":
                break
            if message.role != "system":
                words += message.content.casefold().split()
        return " ".join(words)


# (options of the recipe, seed, split) -> examples. It raises ValueError for options that cannot be.
Maker = Callable[[Mapping[str, Any], int, Split], list[Example]]
MAKERS: Registry[Maker] = Registry("maker of examples")


class ExampleSource(Settings):
    """Conversations to learn from: files, or a registered maker. A path or a list of paths may
    stand in place of the block.
    """

    files: tuple[PathText, ...] | None = Field(None, min_length=1)
    """JSONL, JSON or Parquet. A row has `messages`, each with `role`, `content` and maybe
    `train`."""
    made_by: str | None = None
    """The registered maker of examples, such as `worked_arithmetic` of `grpo.miniature`."""
    options: dict[str, Any] = Field(default={})
    """Options of that maker. The maker checks them."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        paths = (value,) if isinstance(value, str) else value
        if isinstance(paths, list | tuple):
            return {"files": tuple(paths)}
        if isinstance(value, Mapping) and isinstance(value.get("files"), str | list):
            files = value["files"]
            return {**value, "files": (files,) if isinstance(files, str) else tuple(files)}
        return value

    @model_validator(mode="after")
    def _one_of_both(self) -> ExampleSource:
        if (self.files is None) == (self.made_by is None):
            raise ValueError("set exactly one of files and made_by")
        if self.made_by is None and self.options:
            raise ValueError(f"options={self.options}: only made_by looks at them; leave them out")
        return self


def load_examples(source: ExampleSource, name: str, seed: int, split: Split) -> list[Example]:
    """All examples of a source, in order.

    Args:
        source: of the recipe.
        name: how messages call it, such as `data.train`.
        seed: of a maker.
        split: of a maker.

    Raises:
        UserError: a file that cannot be read, rows that are no conversations, or options that a
            maker refuses.
    """
    if source.made_by is not None:
        try:
            return MAKERS[source.made_by](source.options, seed, split)
        except ValueError as error:
            raise UserError(f"{name}: made_by={source.made_by}: {error}") from None
    return _load_rows(
        source, name, lambda row, where: Example(read_messages(row), where), "examples"
    )


def load_pairs(source: ExampleSource, name: str) -> list[tuple[Example, Example]]:
    """All pairs of some files, in order: the chosen conversation and the rejected one.

    Raises:
        UserError: a file that cannot be read, or rows that are no pairs.
    """

    def read(row: Mapping[str, Any], where: str) -> tuple[Example, Example]:
        chosen, rejected = read_pair(row)
        return Example(chosen, f"{where}, chosen"), Example(rejected, f"{where}, rejected")

    return _load_rows(source, name, read, "pairs")


def _load_rows(
    source: ExampleSource, name: str, read: Callable[[Mapping[str, Any], str], T], what: str
) -> list[T]:
    """What `read` makes of each row of the files; it may raise RowFault."""
    found, faults = [], []
    for file in source.files or ():
        try:
            for record in read_records(Path(file), MAX_ROW_BYTES):
                where = f"{file}, line {record.line}"
                try:
                    if record.row is None:
                        raise RowFault("row", record.fault or "unreadable")
                    found.append(read(record.row, where))
                except RowFault as fault:
                    faults.append(f"{where}: {fault}")
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    refuse(name, faults, len(found) + len(faults), what)
    if not found:
        raise UserError(f"{name}={', '.join(source.files or ())}: no {what}")
    return found


def refuse(name: str, faults: Sequence[str], count: int, what: str = "examples") -> None:
    """Tell what is wrong with some of `count` examples; nothing where there is nothing.

    Raises:
        UserError: the first few, and how many there are.
    """
    if faults:
        more = f"\nand {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        shown = "\n".join(faults[:_SHOWN])
        raise UserError(f"{name}: {len(faults)} of {count} {what} cannot be used:\n{shown}{more}")


def read_messages(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation of a row.

    Raises:
        RowFault: it has none, or one without a turn of the assistant.
    """
    raw = row.get("messages")
    if raw is None and {"chosen", "rejected"} <= row.keys():
        raise RowFault("messages", "has chosen and rejected, a pair; learn from pairs with dpo={}")
    if not isinstance(raw, list) or not raw:
        known = hint("messages", row) if row else "the row is empty"
        raise RowFault(
            "messages",
            f"needs a list of turns, {{role: ..., content: ...}}; of the columns, {known}",
        )
    messages = []
    for number, turn in enumerate(raw):
        field = f"messages[{number}]"
        if not isinstance(turn, Mapping):
            raise RowFault(field, f"is {turn!r}, not {{role: ..., content: ...}}")
        for key in turn:
            if key not in ("role", "content", "train"):
                raise RowFault(
                    f"{field}.{key}",
                    f"unknown key, {hint(str(key), ('role', 'content', 'train'))} "
                    "Its text would be lost: write it into content, or take it out",
                )
        role, content, train = turn.get("role"), turn.get("content"), turn.get("train")
        if role not in ROLES:
            raise RowFault(f"{field}.role", f"{role!r} is no role; {hint(str(role), ROLES)}")
        if not isinstance(content, str) or (role == "assistant" and not content.strip()):
            raise RowFault(f"{field}.content", f"is {content!r}, and needs text")
        if train is not None and not isinstance(train, bool):
            raise RowFault(f"{field}.train", f"is {train!r}, and needs true or false")
        if _MARK.search(content):
            raise RowFault(f"{field}.content", "holds the private characters U+E000 and U+E001")
        messages.append(Message(role, content, train))
    if not any(message.role == "assistant" for message in messages):
        raise RowFault("messages", "no turn of the assistant, so there is nothing to learn")
    return tuple(messages)


def read_pair(row: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The chosen and the rejected conversation of a row.

    Raises:
        RowFault: it has no pair, or one that teaches nothing.
    """
    columns = ("prompt", "chosen", "rejected")
    for column in columns:
        turns = row.get(column)
        if not isinstance(turns, list) or not turns:
            if "messages" in row and column not in row:
                raise RowFault(
                    column, "missing: messages is an example and no pair; leave dpo out to learn it"
                )
            known = hint(column, row) if row else "the row is empty"
            raise RowFault(
                column,
                f"needs a list of turns, {{role: ..., content: ...}}; of the columns, {known}",
            )
    for column in columns[1:]:
        turns = row[column]
        said = isinstance(turns[0], Mapping) and turns[0].get("role") == "assistant"
        if len(turns) != 1 or not said:
            raise RowFault(column, "is one turn of the assistant; earlier turns belong into prompt")
    chosen, rejected = (
        read_messages({"messages": [*row["prompt"], *row[column]]}) for column in columns[1:]
    )
    for column, messages in (("chosen", chosen), ("rejected", rejected)):
        if any(message.train is not None for message in messages):
            raise RowFault(column, "train has no meaning in a pair: all of an answer counts")
    if chosen == rejected:
        raise RowFault("rejected", "is the chosen answer again, so there is nothing to prefer")
    return chosen, rejected


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a conversation, and which of them carry loss. T tokens each."""

    token_ids: list[int]
    loss_mask: list[bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """Makes token sequences of examples, as a recipe says."""

    tokenizer: PreTrainedTokenizerBase
    template: str  # as in `data.templates.resolve`
    train_on: str  # assistant, last_assistant or all
    end_token_ids: tuple[int, ...]  # at which engines stop
    system_prompt: str | None = None
    enable_thinking: bool | None = None

    def encode(self, example: Example) -> Encoded:
        """Token ids and loss mask of one conversation.

        Raises:
            RowFault: the template cannot render it faithfully, it has no trained token, or it has a
                turn of the assistant at whose end no engine would stop.
        """
        messages, everything = example.messages, self.train_on == "all"
        last = max(i for i, message in enumerate(messages) if message.role == "assistant")
        trained = []
        for number, message in enumerate(messages):
            chosen = everything or (
                message.role == "assistant" and (self.train_on == "assistant" or number == last)
            )
            trained.append(chosen if message.train is None else message.train)
        # The turns whose place in the text must be known; all the rest is of one kind.
        apart = [i for i, one in enumerate(trained) if one != everything]
        if self.template in TEMPLATES:
            text, plain, turns = self._plain(messages)
        else:
            text, plain, turns = self._chat(messages, apart)
        ids: list[int] = []
        mask: list[bool] = []

        def add(start: int, stop: int) -> list[int]:
            """The tokens of text[start:stop] behind those that there are."""
            whole = self._tokens(text, plain, 0, stop)
            joined = whole[: len(ids)] != ids  # a token would reach over the border
            return self._tokens(text, plain, start, stop) if joined else whole[len(ids) :]

        edge = 0
        for number, (start, stop) in turns.items():
            ids += add(edge, start)
            mask += [everything] * (len(ids) - len(mask))
            piece = add(start, stop)
            size = len(piece)
            if messages[number].role == "assistant":
                size = self._end(piece, number)
            ids += piece
            mask += [trained[number]] * size + [everything] * (len(piece) - size)
            edge = stop
        ids += add(edge, len(text))
        mask += [everything] * (len(ids) - len(mask))
        mask[0] = False  # nothing predicts the first token
        if not any(mask):
            raise RowFault(
                "messages",
                f"no token is trained (data.train_on={self.train_on}, and train of the messages)",
            )
        return Encoded(ids, mask)

    def _tokens(self, text: str, plain: Sequence[range], start: int, stop: int) -> list[int]:
        """Token ids of text[start:stop]."""
        adds = self.template in TEMPLATES and TEMPLATES[self.template].adds_special_tokens
        return encode_text(
            self.tokenizer,
            text[start:stop],
            [range(part.start - start, part.stop - start) for part in plain],
            adds_special_tokens=adds and start == 0,
        )

    def _end(self, piece: Sequence[int], number: int) -> int:
        """Tokens of a turn of the assistant up to the one that ends it, which must be there once.

        Raises:
            RowFault: it ends otherwise, or before its text does.
        """
        ends = [i for i, token in enumerate(piece) if token in self.end_token_ids]
        known = [self.tokenizer.decode([token]) for token in self.end_token_ids]
        if not ends:
            raise RowFault(
                f"messages[{number}]",
                f"data.template={self.template} ends it in {self.tokenizer.decode(piece[-3:])!r}, "
                f"without any of the model's end tokens {', '.join(known)}, so no engine would "
                "stop there; name the token that does as eos_token_id in generation_config.json of "
                "the model",
            )
        if len(ends) > 1:
            raise RowFault(
                f"messages[{number}].content",
                f"holds an end token ({', '.join(known)}) and goes on behind it; take it out, the "
                "template adds one",
            )
        return ends[0] + 1

    def _plain(
        self, messages: Sequence[Message]
    ) -> tuple[str, list[range], dict[int, tuple[int, int]]]:
        """The prompt of one user message, the answer as it stands, and the end token.

        Returns:
            The text, the characters that are data, and where each message stands.
        """
        roles = [message.role for message in messages]
        if roles != ["user", "assistant"]:
            raise RowFault(
                "messages",
                f"has the turns {', '.join(roles)}, and data.template={self.template} is for one "
                "of the user and one of the assistant; use data.template=chat",
            )
        template, question = TEMPLATES[self.template], messages[0].content
        prompt = template.render(question)
        begin = template.text.index(SLOT)
        text = f"{prompt}{messages[1].content}{self.tokenizer.eos_token}"
        turns = {0: (0, len(prompt)), 1: (len(prompt), len(text))}
        return text, [range(begin, begin + len(question))], turns

    def _chat(
        self, messages: Sequence[Message], wanted: Sequence[int]
    ) -> tuple[str, list[range], dict[int, tuple[int, int]]]:
        """The tokenizer's chat template over all messages, and where the wanted ones stand in it.

        A turn is what one message adds to the rendering of those before it. A turn of the assistant
        begins where the generation prompt ends, as at sampling. Texts other than the assistant's
        are marks while the template works, so that they can be found.

        Returns:
            The text, the characters that are data, and where each wanted message stands.
        """
        inner = self.template.removeprefix(CHAT_PREFIX)
        turns = [{"role": message.role, "content": message.content} for message in messages]
        texts: dict[int, str] = {}
        for number, turn in enumerate(turns):
            if turn["role"] != "assistant":
                texts[number] = turn["content"]
                turn["content"] = f"\ue000{number}\ue001"
        first = next((i for i, turn in enumerate(turns) if turn["role"] == "user"), None)
        if inner in TEMPLATES and first is not None:
            turns[first]["content"] = TEMPLATES[inner].render(turns[first]["content"])
        shift = 0
        if self.system_prompt is not None and turns[0]["role"] != "system":
            texts[len(messages)], shift = self.system_prompt, 1
            turns.insert(0, {"role": "system", "content": f"\ue000{len(messages)}\ue001"})
        switch = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}

        def render(count: int, opened: bool) -> str:
            try:
                return str(
                    self.tokenizer.apply_chat_template(
                        turns[:count], tokenize=False, add_generation_prompt=opened, **switch
                    )
                )
            except Exception as error:  # a template raises what its author liked
                raise RowFault(
                    "messages", f"the tokenizer's chat template refuses them: {error}"
                ) from None

        marked = render(len(turns), False)
        if sorted(int(number) for number in _MARK.findall(marked)) != sorted(texts):
            raise RowFault(
                "messages", "the tokenizer's chat template does not repeat the text of each message"
            )
        places = {}
        for number in wanted:
            message, count = messages[number], number + shift
            says = message.role == "assistant"
            if says and count == 0:
                raise RowFault("messages[0].role", "the assistant begins; put a user message first")
            before = render(count, says) if count else ""
            upto = render(count + 1, False)
            if not marked.startswith(upto) or not upto.startswith(before):
                raise RowFault(
                    f"messages[{number}]",
                    "the tokenizer's chat template writes this turn otherwise when the model "
                    "begins it or when others follow it (it may take thoughts out of earlier "
                    "turns), so the trained text would not be what the model sees; use "
                    "data.train_on=last_assistant, one row for each turn, or a plain data.template",
                )
            if says and "".join(message.content.split()) not in "".join(
                upto[len(before) :].split()
            ):
                raise RowFault(
                    f"messages[{number}].content",
                    "the tokenizer's chat template does not repeat the whole text; use a plain "
                    "data.template, or a tokenizer whose template keeps it",
                )
            places[number] = (_length(before, texts), _length(upto, texts))
        text, plain, edge = "", [], 0
        for mark in _MARK.finditer(marked):
            text += marked[edge : mark.start()]
            plain.append(range(len(text), len(text) + len(texts[int(mark[1])])))
            text, edge = text + texts[int(mark[1])], mark.end()
        return text + marked[edge:], plain, places


def _length(marked: str, texts: Mapping[int, str]) -> int:
    """Characters of a text when its marks are what they stand for."""
    return len(_MARK.sub(lambda mark: texts[int(mark[1])], marked))
