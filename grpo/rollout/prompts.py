"""Problems become prompts: rendered, tokenised, and checked against the context before anything is
started.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from data.curricula import make_curriculum
from data.sources import MixSource, Source, load
from data.templates import Template, resolve
from data.types import Problem
from grpo.common.errors import UserError
from grpo.config.schema import DataConfig, TrainConfig
from grpo.config.sft import SftDataConfig
from grpo.types import BegunGroup, Prompt, Response
from rewards import Sample, Scorer
from rewards.types import names_of

_PROBE = "What is 3 + 4?"
_GOLDS_CHECKED = 200  # enough to see that a column is the wrong one, and done in a second
# what some prepared sets append to each question; the wording decides what is recognised
_HASHES = re.compile(r"""final answer after ['"]?####['"]?\W*\Z""")


def load_problems(name: str, source: Source, seed: int) -> list[Problem]:
    """The problems of `data.train` or `data.held_out`. The held-out set is the same for every seed
    of a run.

    Raises:
        UserError: a source that cannot be used, or one with fewer problems than asked for.
    """
    if name == "held_out":
        return load(source, name=f"data.{name}", seed=0, split="held_out")
    return load(source, name=f"data.{name}", seed=seed, split="train")


def make_template(data: DataConfig | SftDataConfig, tokenizer: Any) -> Template:
    """The template of `data.template`. Chat templates are made with the tokenizer.

    Raises:
        UserError: no such template, one that does not look at `data.system_prompt` or
            `data.enable_thinking`, or a tokenizer that loses text.
    """
    # transformers 5 loads some tokenizers (DeepSeek-V3's) as a class that drops every blank
    read = tokenizer.decode(tokenizer.encode(_PROBE, add_special_tokens=False))
    if read.strip() != _PROBE:
        raise UserError(
            f"model.path: the tokenizer loses text, it reads {_PROBE!r} as {read!r}. Likely "
            f"tokenizer_class in tokenizer_config.json does not fit tokenizer.json (here it became "
            f"{type(tokenizer).__name__}); set it to PreTrainedTokenizerFast"
        )
    try:
        return resolve(data.template, tokenizer, data.system_prompt, data.enable_thinking)
    except ValueError as error:
        raise UserError(f"data.template={data.template}: {error}") from None


def check_rewards(
    problems: Sequence[Problem], scorer: Scorer, name: str = "data.train", max_tokens: int = 0
) -> None:
    """Every row must have a component that can score it, and its gold must be able to score.

    A row that names its reward needs that component. Rows that `accuracy` scores have their gold
    graded as an answer, a few hundred of them.

    Args:
        problems: training or held-out ones.
        scorer: of the recipe.
        name: what messages call the problems.
        max_tokens: limit of a response, which rewards of length look at.

    Raises:
        UserError: names the first row and what to change.
    """
    for number, problem in enumerate(problems, start=1):
        lacking = [one for one in names_of(problem.reward) if one not in scorer.components]
        if lacking:
            count = sum(lacking[0] in names_of(other.reward) for other in problems)
            options = "weight: 1.0"
            if not problem.answer:  # no rule can check it
                options += ", kind: preference, model: FOLDER"
            raise UserError(
                f"{name}: problem {number} ({problem.id!r}) is scored by the reward "
                f"{lacking[0]!r}, as {count} of {len(problems)} are, and the recipe has only "
                f"{', '.join(scorer.components)}; add rewards.components.{lacking[0]}="
                f"{{{options}}}, or take these problems out"
            )
    told = [problem for problem in problems if _HASHES.search(problem.question)]
    if 2 * len(told) > len(problems):
        raise UserError(
            f"{name}: {len(told)} of {len(problems)} questions, the first is {told[0].id!r}, ask "
            'for the answer after "####", which no template or reward reads; take that sentence '
            "off (data.train.mapping=dapo does so for rows of that shape)"
        )
    if "accuracy" not in scorer.components:
        return
    graded = [p for p in problems if p.reward is None or "accuracy" in names_of(p.reward)]
    # spread over the set, because sources stand one after the other
    graded = graded[:: max(1, len(graded) // _GOLDS_CHECKED)][:_GOLDS_CHECKED]
    if not graded:
        return
    answers = [
        Sample(
            response=f"<think>\n</think><answer>\\boxed{{{problem.answer}}}</answer>",
            gold=problem.answer,
            question=problem.question,
            data_source=problem.source,
            reward=problem.reward or "",
            num_tokens=1,
            max_tokens=max_tokens,
        )
        for problem in graded
    ]
    # Alone, because a gold is nothing to ask a reward model about.
    accuracy = replace(scorer.components["accuracy"], requires=())
    scores = Scorer({"accuracy": accuracy}).score_groups([[answer] for answer in answers])
    right = [score.components["accuracy"].score > 0 for score in itertools.chain(*scores)]
    if not any(right):
        first = graded[0]
        raise UserError(
            f"{name}: no gold can score. Of {len(graded)} golds that were graded as the answer, "
            f"none is right by the reward accuracy; the first is {first.answer[:80]!r} of problem "
            f"{first.id!r}. Likely the wrong column or mapping is read: set {name}.mapping or "
            f"{name}.columns, or name another reward"
        )


def make_prompts(problems: Iterable[Problem], template: Template, tokenizer: Any) -> list[Prompt]:
    """Prompts of problems. Question text is tokenised as text: it can never become a special
    token.
    """
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
            f"data.held_out: {len(shared)} of its problems are in data.train too, the "
            f"first is {shared[0].id!r}; take "
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
            f"{setting}={limits[setting]}: with the prompt of problem "
            f"{longest.problem.id!r}, {len(longest.token_ids)} "
            f"tokens, that is {need} tokens, and {name} is {context}; lower the limit, "
            "remove the problem"
            + (
                ", or raise rollout.max_model_len"
                if name.startswith("rollout")
                else ", or take another model"
            )
        )


def check_tokens(prompts: Iterable[Prompt], rows: int) -> None:
    """Every token of a prompt must have an embedding.

    Raises:
        UserError: tokens were added to the tokenizer, and the embedding was not made longer.
    """
    for prompt in prompts:
        if (highest := max(prompt.token_ids, default=0)) >= rows:
            raise UserError(
                f"model.path: the prompt of problem {prompt.problem.id!r} has the token {highest}, "
                f"and the embedding of the model has {rows} rows; resize the embedding "
                "(resize_token_embeddings), or take the tokenizer that belongs to the model"
            )


class PromptStream:
    """Prompts in the order of the recipe's curriculum.

    Raises:
        UserError: problems without what the curriculum needs.
    """

    def __init__(self, config: TrainConfig, prompts: Sequence[Prompt]) -> None:
        self.prompts = {prompt.problem.id: prompt for prompt in prompts}
        self.begun: list[BegunGroup] = []  # by partial rollouts, in the order of their draws
        self.num_begun = 0
        problems = [prompt.problem for prompt in prompts]
        train, kind = config.data.train, config.data.curriculum.kind
        if isinstance(train, MixSource) and kind == "uniform":
            weights = {part.weight for part in train.sources.values()}
            if len(weights) > 1:
                raise UserError(
                    f"data.train.sources: weights {sorted(weights)} have no effect under "
                    "data.curriculum.kind=uniform; set data.curriculum.kind=weighted"
                )
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

    def begin_again(self, num_samples: int) -> None:
        """Give up the responses that partial rollouts have begun, and keep their prompts.

        Another stage may sample another number of responses, or shorter ones.

        Args:
            num_samples: responses to each prompt from now on.
        """
        self.begun = [BegunGroup(g.prompt, g.number, [None] * num_samples) for g in self.begun]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, as plain values."""
        return {
            "curriculum": self.curriculum.state_dict(),
            "num_begun": self.num_begun,
            "begun": [
                {
                    "problem": group.prompt.problem.id,
                    "number": group.number,
                    "responses": [None if r is None else asdict(r) for r in group.responses],
                }
                for group in self.begun
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` stood: the next prompts are those that would have followed.

        Raises:
            ValueError: the saved state is of another set of problems.
        """
        self.curriculum.load_state_dict(state["curriculum"])
        self.num_begun = int(state["num_begun"])
        self.begun = [
            BegunGroup(
                self.prompts[row["problem"]],
                row["number"],
                [None if r is None else Response.from_plain(r) for r in row["responses"]],
            )
            for row in state["begun"]
        ]
