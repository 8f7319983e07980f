"""Problems become prompts: rendered, tokenised, and checked against the context before anything is
started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data.curricula import make_curriculum
from data.sources import Source, load
from data.templates import Template
from data.types import Problem
from grpo.common.errors import UserError
from grpo.config import TrainConfig
from grpo.types import Prompt


def load_problems(name: str, source: Source, seed: int) -> list[Problem]:
    """The problems of `data.train` or `data.held_out`. The held-out set is the same for every seed
    of a run.

    Raises:
        UserError: a file that cannot be used, or a generator that has fewer problems than asked
        for.
    """
    is_held_out = name == "held_out"
    return load(
        source,
        name=f"data.{name}",
        seed=0 if is_held_out else seed,
        split="held_out" if is_held_out else "train",
    )


def make_prompts(problems: Iterable[Problem], template: Template, tokenizer: Any) -> list[Prompt]:
    """Prompts of problems. Question text is tokenised as text: it can never become a special token."""
    return [
        Prompt(
            problem, template.render(problem.question), template.encode(tokenizer, problem.question)
        )
        for problem in problems
    ]


def check_disjoint(train: Iterable[Problem], held_out: Iterable[Problem]) -> None:
    """No held-out question may be trained on; case and blanks make no difference.

    Raises:
        UserError: names how many are in both, and one of them.
    """
    trained = {_plain(problem.question) for problem in train}
    shared = [problem for problem in held_out if _plain(problem.question) in trained]
    if shared:
        raise UserError(
            f"data.held_out: {len(shared)} of its problems are in data.train too, the first is {shared[0].id!r}; take "
            "them out of one (python -m data.prepare --against does that)"
        )


def _plain(question: str) -> str:
    return " ".join(question.casefold().split())


def check_lengths(
    prompts: Iterable[Prompt], limits: Mapping[str, int], context: int, name: str
) -> None:
    """Every prompt and a full response must fit a context; nothing is ever cut in silence.

    Args:
        prompts: of training and evaluation.
        limits: tokens of a response, by setting.
        context: tokens of prompt and response together.
        name: what has this context.

    Raises:
        UserError: names the longest prompt and what to change.
    """
    longest = max(prompts, key=lambda prompt: len(prompt.token_ids))
    setting = max(limits, key=lambda key: limits[key])
    need = len(longest.token_ids) + limits[setting]
    if need > context:
        raise UserError(
            f"{setting}={limits[setting]}: with the prompt of problem {longest.problem.id!r}, {len(longest.token_ids)} "
            f"tokens, that is {need} tokens, and {name} is {context}; lower the limit, remove the problem"
            + (
                ", or raise rollout.max_model_len"
                if name.startswith("rollout")
                else ", or take another model"
            )
        )


class PromptStream:
    """Prompts in the order of the recipe's curriculum.

    Raises:
        UserError: problems without what the curriculum needs.
    """

    def __init__(self, config: TrainConfig, prompts: Sequence[Prompt]) -> None:
        self.prompts = {prompt.problem.id: prompt for prompt in prompts}
        problems = [prompt.problem for prompt in prompts]
        try:
            self.curriculum = make_curriculum(
                config.data.curriculum,
                problems,
                seed=config.seed,
                num_steps=config.trainer.max_steps,
            )
        except ValueError as error:
            raise UserError(
                f"data.curriculum.kind={config.data.curriculum.kind}: {error}"
            ) from None

    def next(self, count: int) -> list[Prompt]:
        """The prompts of the next step."""
        return [self.prompts[problem.id] for problem in self.curriculum.draw(count)]

    def update(self, success: Mapping[str, float]) -> None:
        """Tell the curriculum how problems went: success rates by problem id."""
        self.curriculum.update(success)

    def state_dict(self) -> dict[str, Any]:
        """The cursor, as plain values."""
        return self.curriculum.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        self.curriculum.load_state_dict(state)
