"""Over-long prompts, counted by the real tokenizer in the real template. They are dropped, never
cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from data.cleaning.base import Context, Dropped, Result, Stage
from data.templates import resolve
from data.types import Problem
from grpo.common.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PromptLength(Stage):
    """Takes out problems whose prompt has more than `max_tokens` tokens."""

    name: ClassVar[str] = "prompt_length"
    tokenizer: str  # folder or name
    max_tokens: int = 1024  # DeepScaleR's limit of the prompt
    template: str = "r1_zero"

    def check(self) -> None:
        """See `Stage.check`."""
        try:
            resolve(self.template, load_tokenizer(self.tokenizer))
        except ValueError as error:
            raise UserError(f"stages.{self.name}.template: {error}") from error

    def run(self, problems: list[Problem], context: Context) -> Result:
        """See `Stage.run`."""
        tokenizer = load_tokenizer(self.tokenizer)
        template = resolve(self.template, tokenizer)
        kept: list[Problem] = []
        dropped: list[Dropped] = []
        longest = 0
        for problem in problems:
            num_tokens = len(template.encode(tokenizer, problem.question))
            longest = max(longest, num_tokens)
            if num_tokens <= self.max_tokens:
                kept.append(problem)
            else:
                details = {"num_tokens": num_tokens}
                dropped.append(
                    Dropped(problem=problem, stage=self.name, reason="over_long", details=details)
                )
        return Result(kept, dropped, {"longest_prompt_tokens": longest})


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or of a model name.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"tokenizer {name}: cannot be loaded: {reason}") from error
