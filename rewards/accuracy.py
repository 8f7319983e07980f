"""Accuracy reward: is the final answer of a response the gold answer?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rewards import symbolic as symbolic_tier
from rewards.asked import asks_order, in_a_row, meanings
from rewards.extract import Source, extract, final_part, tagged
from rewards.maths import (
    IN_PROCESS,
    WORKER,
    LimitError,
    Limits,
    Rules,
    in_other_unit,
    is_evaluated,
    restates,
    same_answer,
)
from rewards.registry import register
from rewards.types import NeedsWorkerError, Reward, Sample

Form = Literal["any", "evaluated"]

MAX_SHOWN = 200  # characters of an extracted answer that go into `details`


def accuracy_reward(
    response: str,
    gold: str,
    *,
    prompt_opens_think: bool = False,
    source: Source = "any",
    rel_tol: float = 0.0,
    programming: bool = False,
    form: Form = "any",
    symbolic: bool = False,
    question: str = "",
) -> Reward:
    """1 when the answer that follows the last `</think>` equals `gold`, else 0. Never raises for
    any text.

    An answer inside the thought does not count, an unclosed thought scores 0, and so do several
    answers that differ. Equality is mathematical, up to wrappers; docs/rewards.md has the rules.
    Cheap answers are graded here, others in a worker process that can be killed.

    Args:
        source: where an answer may stand; `any` is a box, else answer tags, else "the answer is
            ...".
        rel_tol: numbers may differ by this share of the gold number; 0 is exact.
        programming: read `1e-5`, `2**3` and `np.arcsin(10/13)` as code writes them.
        form: `evaluated` wants a value where the gold is one, and no sum or product left undone.
        symbolic: give SymPy what our grader does not read, such as integrals (rewards/symbolic.py).
        question: what was asked. An answer that only repeats a part of it does not count.

    Raises:
        ValueError: `symbolic` without the package that it needs.
    """
    if symbolic and (why := symbolic_tier.missing()):
        raise ValueError(f"symbolic=True: {why}")
    rules = Rules(rel_tol=rel_tol, programming=programming)
    try:
        return grade(
            response,
            gold,
            rules,
            IN_PROCESS,
            prompt_opens_think=prompt_opens_think,
            source=source,
            form=form,
            symbolic=symbolic,
            question=question,
        )
    except NeedsWorkerError:
        from rewards.execution.pool import (
            shared_pool,  # only the few answers that need one start a process
        )

        options = {
            "source": source,
            "rel_tol": rel_tol,
            "programming": programming,
            "form": form,
            "symbolic": symbolic,
        }
        sample = Sample(
            response=response, gold=gold, question=question, prompt_opens_think=prompt_opens_think
        )
        return shared_pool([symbolic_tier.PRELOAD] if symbolic else ()).apply(
            "accuracy", sample, options
        )


def accuracy_rewards(
    responses: Iterable[str], golds: Iterable[str], **options: Any
) -> list[Reward]:
    """`accuracy_reward` of each response with its gold, in order."""
    return [
        accuracy_reward(response, gold, **options)
        for response, gold in zip(responses, golds, strict=True)
    ]


@register("accuracy", bounded=True, owns_gold=True)
def accuracy(
    sample: Sample,
    source: Source = "any",
    rel_tol: float = 0.0,
    programming: bool = False,
    form: Form = "any",
    symbolic: bool = False,
    per_data_source: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    limits: Limits = IN_PROCESS,
) -> Reward:
    """`accuracy_reward` of a sample; a truncated response scores 0.

    Args:
        per_data_source: options for the samples of one data source, e.g. {"minerva": {"rel_tol":
            0.01}}.

    Raises:
        NeedsWorkerError: it would cost more than `limits`; the scorer then asks a worker.
    """
    if sample.truncated:
        return Reward(0.0, "truncated")
    ours: dict[str, Any] = {
        "source": source,
        "rel_tol": rel_tol,
        "programming": programming,
        "form": form,
        "symbolic": symbolic,
    }
    ours |= (per_data_source or {}).get(sample.data_source, {})
    return grade(
        sample.response,
        sample.gold,
        Rules(rel_tol=ours["rel_tol"], programming=ours["programming"]),
        limits,
        prompt_opens_think=sample.prompt_opens_think,
        source=ours["source"],
        form=ours["form"],
        symbolic=ours["symbolic"],
        question=sample.question,
    )


def grade(
    response: str,
    gold: str,
    rules: Rules,
    limits: Limits,
    *,
    prompt_opens_think: bool,
    source: Source,
    form: Form = "any",
    symbolic: bool = False,
    question: str = "",
) -> Reward:
    """The reward of one response under `limits`.

    Raises:
        NeedsWorkerError: it would cost more than `limits`, and those are the small ones of this
        process.
    """
    final = final_part(response, prompt_opens_think=prompt_opens_think)
    if final is None:
        return Reward(0.0, "unclosed_thought")
    candidates, reason, suffix = extract(final, source)
    if not candidates:
        return Reward(0.0, reason)
    gold = _plain_gold(gold)
    details = {"extracted": candidates[-1][:MAX_SHOWN]}
    if max(map(len, candidates)) > WORKER.max_chars:
        return Reward(0.0, "limit", details | {"limit": "chars"})
    try:
        ordered = asks_order(gold, question)
        correct = [
            same_answer(in_a_row(text), in_a_row(gold), rules, limits)
            if ordered
            else any(
                same_answer(meaning, gold, rules, limits)
                for meaning in dict.fromkeys(meanings(text, gold, question, suffix))
            )
            for text in candidates
        ]
        if symbolic and not all(correct):
            open_texts = [
                text for text, right in zip(candidates, correct, strict=True) if not right
            ]
            if all(symbolic_tier.may_decide(text, gold, limits) for text in open_texts):
                if limits is IN_PROCESS:
                    raise NeedsWorkerError
                if all(symbolic_tier.same(text, gold) for text in open_texts):
                    correct = [True] * len(candidates)
                    details["tier"] = "symbolic"
        if all(correct) and any(restates(text, gold, question, limits) for text in candidates):
            return Reward(0.0, "restates_question", details)
        if all(correct) and any(in_other_unit(text, gold, question, limits) for text in candidates):
            return Reward(0.0, "other_unit", details)
        values = form == "any" or all(is_evaluated(text, gold, limits) for text in candidates)
        if all(correct) and not values:
            return Reward(0.0, "not_evaluated", details)
    except (LimitError, RecursionError) as error:
        if limits is IN_PROCESS:
            raise NeedsWorkerError from None
        return Reward(0.0, "limit", details | {"limit": str(error)[:MAX_SHOWN]})
    except (MemoryError, NeedsWorkerError):
        raise
    except (
        Exception
    ) as error:  # a fault of ours must cost one answer and show in the logs, not end a training run
        return Reward(
            0.0, "error", details | {"error": f"{type(error).__name__}: {error}"[:MAX_SHOWN]}
        )
    if all(correct):
        return Reward(1.0, "correct", details)
    return Reward(0.0, "several_answers" if len(candidates) > 1 else "wrong", details)


def _plain_gold(gold: str) -> str:
    """The answer in a gold that came with its solution's marks: `... #### 7`, answer tags."""
    if "####" in gold:
        gold = gold.rpartition("####")[2]
    if "<answer>" in gold and (inside := tagged(gold)):
        gold = inside[-1]
    return gold
