"""`grpo replay`: one sample of a run made again, and what it did to the update.

grpo replay RUN 12          # all samples of step 12
grpo replay RUN 12.5        # the sixth one: rollouts/step_000012.jsonl has it in row 5
grpo replay RUN 12.5.0      # its first token
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from grpo.common.command_line import Parser, file_path, run, say
from grpo.common.errors import UserError

EXIT_DIFFERENT = 1  # as diff(1) has it


@dataclass(frozen=True, slots=True)
class Place:
    """A step, a sample or a token of a run. Samples and tokens are counted from 0."""

    step: int
    sample: int | None = None
    token: int | None = None

    @classmethod
    def read(cls, text: str) -> Place:
        """From `step[.sample[.token]]`.

        Raises:
            UserError: it is none.
        """
        if not (match := re.fullmatch(r"(\d+)(?:\.(\d+)(?:\.(\d+))?)?", text)) or not int(match[1]):
            raise UserError(f"{text}: is no place; write step, step.sample or step.sample.token")
        return cls(*(None if part is None else int(part) for part in match.groups()))  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What a sample, or one token of it, was of the update.

    With the gradient g of the whole batch and the own gradient s, the share of the norm is
    s.g / |g|^2. Shares of all samples add up to 1, and one that pulls the other way is negative.
    """

    loss: float  # its part of the loss of the batch
    whole_loss: float
    own_norm: float  # |s|
    whole_norm: float  # |g|, before clipping
    norm_share: float


class ProbedLearner:
    """A learner that measures the gradient of one sample in place of an update.

    All measurements are updates with learning rate 0, which leave the weights as they are. The
    moments are not kept, so nothing can be trained any more after the first one.
    """

    def __init__(self, learner: Any, place: Place) -> None:
        self.learner, self.place = learner, place
        self.sample: Share | None = None
        self.token: Share | None = None
        self.logp_N: list[float] = []  # of the sample by the learner
        self._batch: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.learner, name)

    def prepare(self, samples: Sequence[Any], settings: Any, *, measure: bool = False) -> Any:
        """Keep the batch, and prepare it."""
        self._batch = list(samples)
        return self.learner.prepare(samples, settings, measure=measure)

    def optimise(self, advantages: Sequence[Any], settings: Any) -> dict[str, float]:
        """Metrics of the whole batch as the update has them; the weights stay."""
        still = replace(settings, lr=0.0)
        metrics: dict[str, float] = self.learner.optimise(advantages, still)
        if self.place.sample is None:
            return {**metrics, "lr": settings.lr}
        if self.place.sample >= len(self._batch):
            raise UserError(f"{self.place.sample}: step {self.place.step} has {len(self._batch)}")
        # With several updates for a batch, shares are those of the update that had the sample.
        size = len(self._batch) // settings.num_updates
        first = self.place.sample // size * size
        chunk, index = self._batch[first : first + size], self.place.sample - first
        own, still = list(advantages[first : first + size]), replace(still, num_updates=1)
        target = chunk[index]
        self.logp_N = self.learner.logprobs([target], settings.temperature)[0]

        def measured(
            keep: Sequence[bool], advantages: Sequence[Any], now: Any
        ) -> tuple[float, float]:
            """Loss and gradient norm of the kept samples; the others stay in denominators."""
            batch = [
                s if kept else replace(s, counts_only=True)
                for s, kept in zip(chunk, keep, strict=True)
            ]
            self.learner.prepare(batch, now)
            found = self.learner.optimise(advantages, now)
            return found["loss"], found["grad_norm"]

        only = [i == index for i in range(len(chunk))]
        whole_loss, whole = measured([True] * len(chunk), own, still)
        loss, norm = measured(only, own, still)
        _, rest = measured([not kept for kept in only], own, still)
        # |g - s|^2 = |g|^2 - 2 s.g + |s|^2
        share = (whole**2 + norm**2 - rest**2) / (2 * whole**2) if whole else 0.0
        self.sample = Share(
            loss=loss, whole_loss=whole_loss, own_norm=norm, whole_norm=whole, norm_share=share
        )
        if self.place.token is not None:
            if self.place.token >= target.num_trained:
                raise UserError(f"{self.place.token}: the sample has {target.num_trained} tokens")
            # Only the policy's term can be told by token. KL and entropy are left out.
            policy = replace(still, kl_coef=0.0, entropy_coef=0.0)
            flat_T = np.zeros(target.num_tokens, np.float32)
            flat_T[target.loss_mask_T] = target.advantage_N(own[index])
            at = np.flatnonzero(target.loss_mask_T)[self.place.token]
            alone_T, without_T = np.zeros_like(flat_T), flat_T.copy()
            alone_T[at], without_T[at] = flat_T[at], 0.0

            def with_own(advantage_T: Any) -> tuple[float, float]:
                changed = [advantage_T if i == index else a for i, a in enumerate(own)]
                return measured([True] * len(chunk), changed, policy)

            whole_loss, whole = with_own(flat_T)
            nothing = [np.zeros(s.num_tokens, np.float32) for s in chunk]
            nothing[index] = alone_T
            loss, norm = measured([True] * len(chunk), nothing, policy)
            _, rest = with_own(without_T)
            share = (whole**2 + norm**2 - rest**2) / (2 * whole**2) if whole else 0.0
            self.token = Share(
                loss=loss, whole_loss=whole_loss, own_norm=norm, whole_norm=whole, norm_share=share
            )
        return {**metrics, "lr": settings.lr}


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay from the command line; returns the exit code, 1 where a sample comes out different."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        "grpo replay", "Make samples of a run again, and show their part of the update."
    )
    parser.add_argument("run", type=file_path, metavar="RUN", help="the folder of the run")
    parser.add_argument(
        "place", metavar="STEP[.SAMPLE[.TOKEN]]", help="samples and tokens count from 0"
    )
    args = parser.parse(arguments)
    place = Place.read(args.place)
    from grpo.config.load import load_run_config
    from grpo.reexecution import on_its_ranks

    _, config = load_run_config(args.run)
    return on_its_ranks(config, lambda: tell(args.run, place), "grpo.commands.replay")


def tell(run_dir: Path, place: Place) -> int:
    """Do a step of a run again, and tell what came out; returns the exit code.

    Raises:
        UserError: as `replay`.
    """
    then, now, probe = replay(run_dir, place)
    chosen = range(len(now)) if place.sample is None else [place.sample]
    different = [i for i in chosen if then is not None and not same(then[i], now[i])]
    if place.sample is None:
        for i in chosen:
            row = now[i]
            print(
                f"{place.step}.{i}  problem {row['problem_id']}  reward {row['reward']:g}  "
                f"advantage {row['advantage']:.4f}  {row['length']} tokens"
                f"{'  DIFFERENT' if i in different else ''}"
            )
    else:
        show(place, now[place.sample], probe)
    if then is None:
        say(f"the record has no samples of step {place.step} any more; nothing was compared")
    elif different:
        print(f"{len(different)} of {len(chosen)} samples come out different from the record")
        return EXIT_DIFFERENT
    else:
        print(f"as recorded, to the last bit: {len(chosen)} of {len(chosen)} samples")
    return 0


def replay(
    run_dir: Path, place: Place
) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]], ProbedLearner]:
    """Do a step of a run again.

    Returns:
        The recorded samples of the step, where they are still there, those made now, and the
        measurements.

    Raises:
        UserError: there is no such step, sample or token, or it cannot be done again here.
    """
    from grpo.config.load import load_run_config
    from grpo.reexecution import base_evaluations, inexact, read_start, reexecution, starts_of
    from grpo.tracking.chain import DamagedRecordError, Record
    from grpo.tracking.record import read_rollouts

    recipe, config = load_run_config(run_dir)
    try:
        record, starts = Record(run_dir), starts_of(run_dir, config)
        steps = [step for step in record.steps if 0 < step <= record.last_link]
        if place.step not in steps:
            had = f"steps {steps[0]} to {steps[-1]}" if steps else "no step"
            raise UserError(f"{place.step}: the run has {had}")
        then = record.read(place.step).rows
    except DamagedRecordError as error:
        raise UserError(f"{error}; grpo verify {run_dir} tells more") from None
    if then is not None and place.sample is not None:
        if place.sample >= len(then):
            raise UserError(f"{place.sample}: step {place.step} has samples 0 to {len(then) - 1}")
        length = then[place.sample]["length"]
        if place.token is not None and place.token >= length:
            raise UserError(f"{place.token}: the sample has tokens 0 to {length - 1}")
    start = starts.before(place.step)
    for line in inexact(run_dir, config):
        say(f"the last bits may differ here: {line}")
    say(f"doing step {place.step} again, from checkpoint {start}")
    with reexecution(run_dir, recipe, config) as (training, again):
        checkpoint = read_start(training, start)
        training.stand_at(checkpoint, base_evaluations(run_dir))
        if start < place.step - 1:
            training.go_on(place.step - 1, checkpoint)
            checkpoint = None  # its weights have moved on
        probes: list[ProbedLearner] = []

        def probed(learner: Any) -> ProbedLearner:
            probes.append(ProbedLearner(learner, place))
            return probes[-1]

        training.probe = probed
        training.go_on(place.step, checkpoint)
        probe = probes[-1]
        return then, read_rollouts(again, place.step), probe


def same(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Is a sample what was recorded, to the last bit? Arrays only where both have them."""
    return all(
        np.array_equal(then[key], now[key])
        if isinstance(now[key], np.ndarray)
        else then[key] == now[key]
        for key in now
        if key in then
    )


def show(place: Place, row: Mapping[str, Any], probe: ProbedLearner) -> None:
    """A sample or a token on the terminal."""
    print(f"problem {row['problem_id']}, seed {row['seed']}, {row['finish_reason']}")
    print(
        f"prompt:    {row['prompt']!r}\nresponse:  {row['response']!r}\ngold:      {row['gold']!r}"
    )
    told = ", ".join(f"{name} {score:g}" for name, score in row["components"].items())
    print(f"reward:    {row['reward']:g} ({told})\nadvantage: {row['advantage']:.6g}")
    assert probe.sample is not None
    print(f"of the step's update, the sample: {_told(probe.sample)}")
    if place.token is not None and probe.token is not None:
        t = place.token
        engine, learner = float(row["logprobs"][t]), probe.logp_N[t]
        print(f"token {t} of {row['length']}: id {row['token_ids'][t]}")
        print(f"log-prob:  {engine:.7g} in the engine, {learner:.7g} in the learner")
        print(f"of the policy's term, the token: {_told(probe.token)}")


def _told(share: Share) -> str:
    return (
        f"loss {share.loss:.6g} of {share.whole_loss:.6g}; gradient norm {share.own_norm:.6g} "
        f"beside {share.whole_norm:.6g}, which is {share.norm_share:.2%} of it along its direction"
    )


if __name__ == "__main__":
    sys.exit(main())
