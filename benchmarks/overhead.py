"""What the framework adds to the bare work of a step: seconds of a whole step over seconds of bare
generation + bare learning.

    python -m benchmarks.overhead [--repeats 5] [--workload tiny long] [--set KEY=VALUE ...]

*Step*: the verbs of the trainer (sample, score, advantages, update, weight sync, record) on the
engines and ranks of the tiny recipe. *Bare generation*: the same prompts in vLLM without Ray, as
one process of two threads or as two of one thread, each with a seed for every sample or with one
unseeded request (n=G) for every prompt. *Bare learning*: forward and backward in plain PyTorch
without DeepSpeed, as one process of two threads or as two of one thread that add up their
gradients over gloo, in micro-batches of several sizes, sorted by length. It skips samples whose
advantage is 0 and has no optimizer and no metrics. Bare processes get the malloc settings of the
actors. A trial finds the fastest choice of each kind, and only this one is measured.

Unseeded requests draw other tokens than the step has. So bare seconds count per response token:
they are scaled to the number of tokens of the step.

Step, bare generation and bare learning take turns, so that a machine whose speed drifts hurts all
alike. The learning rate is too small to change a weight, so every repeat works on the same tokens.
*Journal* writes the responses of the step as `grpo.rollout.journal` does, but behind the sampling
and not while engines work. *Chain* is the link of the step with the hashes of all weights.

An *empty step* has the same verbs for one prompt and one token a response. Its time is what a step
costs before it has any work: Ray calls, the optimizer, the gathers of ZeRO-3, the weight sync.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from grpo.config import TrainConfig, load_config
from grpo.evaluation import metrics
from grpo.rollout.journal import Journal
from grpo.rollout.scoring import make_requests, sample_groups
from grpo.tracking.chain import Link, digests_of
from grpo.trainer import advantages_of, make_samples, step_settings, token_advantages
from grpo.types import Prompt, Response, ScoredGroup

# `long`: 512 responses x 256 tokens, all cut at the limit. All would score 0, and nothing would be
# learned, so their advantages are +1 and -1 in turn.
WORKLOADS: dict[str, list[str]] = {"tiny": [], "long": ["sampling.max_response_tokens=256"]}
LAYOUTS = [{"processes": 1, "threads": 2}, {"processes": 2, "threads": 1}]
GENERATION = [{**layout, "seeded": seeded} for layout in LAYOUTS for seeded in (True, False)]
LEARNING = [{**layout, "tokens": n} for layout in LAYOUTS for n in (2048, 8192, 32768)]


def main() -> None:
    """Measure each workload and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes to the recipe"
    )
    parser.add_argument(
        "--processes", nargs="+", type=int, default=[1, 2], help="of the bare layouts in the trial"
    )
    args = parser.parse_args()
    for name in args.workload:
        measure(name, args.repeats, args.set, args.processes)


def measure(name: str, repeats: int, changes: Sequence[str], processes: Sequence[int]) -> None:
    """One workload: step, bare generation and bare learning in turn."""
    from grpo.inputs import load_inputs
    from grpo.parts import start_parts
    from grpo.tracking import open_run

    fixed = ["optimizer.lr=1e-30", "tracking.wandb.mode=disabled", "health.weight_check_every=0"]
    config = load_config("tiny", [*fixed, *WORKLOADS[name], *changes])
    inputs = load_inputs(config, print)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_parts(config, inputs, print) as (rollouts, learner),
        open_run(Path(folder), config.as_tree(), config.tracking, name, repeats, None) as run,
    ):
        assert learner is not None
        learner.connect(rollouts)
        learner.push_weights(0)
        stepper = Stepper(config, inputs, rollouts, learner, run, always_long=name == "long")
        whole = inputs.prompts[: config.batch.num_prompts]
        stepper.step(whole)  # warm-up, and the tokens that the bare work will be done on
        work = Path(folder) / "work.json"
        work.write_text(json.dumps(stepper.work()))
        num_tokens = stepper.num_tokens
        generation, learning = (
            Bare.best(kind, work, [c for c in choices if c["processes"] in processes], num_tokens)
            for kind, choices in (("generation", GENERATION), ("learning", LEARNING))
        )
        steps, empty, generated, learned = [], [], [], []
        for repeat in range(repeats):
            steps.append(stepper.step(whole))
            generated.append(generation.run(num_tokens))
            learned.append(learning.run(num_tokens))
            empty.append(stepper.step(whole[:1], max_tokens=1))
            print(
                f"repeat {repeat + 1}: step {sum(steps[-1].values()):.3f} s, "
                f"bare {generated[-1]:.3f} + {learned[-1]:.3f} s"
            )
        generation.close()
        learning.close()
    report(steps, empty, generated, learned)
    print(f"journal: {stepper.journal_bytes / 1e3:.0f} kB a step")


class Finished:
    """Engines that have the responses of a step ready, for the journal to write."""

    def __init__(self, groups: Sequence[list[Response]]) -> None:
        self.groups = groups

    def completed(self) -> Iterator[list[Response]]:
        """Group by group."""
        yield from self.groups


class Stepper:
    """Steps of the trainer on the same prompts, timed by phase."""

    def __init__(
        self,
        config: TrainConfig,
        inputs: Any,
        rollouts: Any,
        learner: Any,
        run: Any,
        *,
        always_long: bool,
    ) -> None:
        self.config, self.inputs, self.rollouts, self.learner = config, inputs, rollouts, learner
        self.run, self.always_long = run, always_long
        self.scorer = config.rewards.scorer()
        self.sampling = replace(inputs.sampling, temperature=1.0, seed=0)
        if always_long:
            self.sampling = replace(self.sampling, stop=(), cut=(), ignore_eos=True)
        self.journal = Journal(run.output_dir / "journal", "", print)
        self.journal_bytes = 0  # of the last whole step
        self.chain = ""
        self.num_steps = 0
        self.groups: list[ScoredGroup] = []  # of the last step
        self.advantages_PG: list[list[float]] = []

    def step(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> dict[str, float]:
        """Seconds of one step by phase, which leave nothing out."""
        laps = [time.perf_counter()]
        sampling = replace(self.sampling, max_tokens=max_tokens or self.sampling.max_tokens)
        collected = sample_groups(prompts, sampling, 1, self.rollouts, self.scorer)
        laps.append(time.perf_counter())
        groups = collected.groups
        finished: Any = Finished([group.group.responses for group in groups])
        with self.journal.step(self.num_steps, self.num_steps, finished) as journaled:
            for _ in journaled.completed():
                pass
        if max_tokens is None:
            self.journal_bytes = journaled.path.stat().st_size
        laps.append(time.perf_counter())
        samples = make_samples(groups, self.num_steps)
        settings = step_settings(self.config, 0)
        laps.append(time.perf_counter())
        self.learner.prepare(samples, settings)
        laps.append(time.perf_counter())
        advantages_PG = advantages_of(self.config, groups)
        if self.always_long:
            advantages_PG = [[(-1.0) ** i for i in range(len(row_G))] for row_G in advantages_PG]
        advantages = token_advantages(self.config, advantages_PG, groups, samples)
        laps.append(time.perf_counter())
        stats = self.learner.optimise(advantages, settings)
        laps.append(time.perf_counter())
        self.num_steps += 1
        self.learner.push_weights(self.num_steps)
        laps.append(time.perf_counter())
        rows = metrics.rollout_rows(self.num_steps, groups, advantages_PG)
        arrays = metrics.rollout_arrays(groups)
        self.run.log_rollouts(self.num_steps, rows, arrays)
        record = {"step": self.num_steps, **metrics.rollout_metrics(groups), **stats}
        self.run.log_step(record)
        laps.append(time.perf_counter())
        found, digests = self.learner.fingerprint(), digests_of(rows, arrays, record)
        link = Link.made(self.num_steps, self.chain, digests, found.gradients, found.weights)
        self.run.log_link(link)
        self.chain = link.chain
        laps.append(time.perf_counter())
        self.groups, self.advantages_PG = groups, advantages_PG
        names = (
            *("sample", "journal", "make samples", "prepare", "advantages", "optimise"),
            *("sync", "record", "chain"),
        )
        seconds = {name: b - a for name, (a, b) in zip(names, pairwise(laps), strict=True)}
        seconds["sample"] -= collected.score_seconds
        return {**seconds, "score": collected.score_seconds}

    @property
    def num_tokens(self) -> int:
        """Response tokens of the last step."""
        return sum(len(r.token_ids) for group in self.groups for r in group.group.responses)

    def work(self) -> dict[str, Any]:
        """The work of the last step for the bare processes, as JSON."""
        prompts = [group.group.prompt for group in self.groups]
        requests = make_requests(prompts, self.sampling, 1)
        size = self.sampling.num_samples
        return {
            "model": self.inputs.model_folder,
            "max_model_len": self.inputs.max_model_len,
            "sampling": {
                "temperature": self.sampling.temperature,
                "max_tokens": self.sampling.max_tokens,
                "stop": [*self.sampling.stop, *self.sampling.cut],
                "ignore_eos": self.sampling.ignore_eos,
            },
            "groups": [
                {
                    "prompt": group.group.prompt.token_ids,
                    "seeds": [request.seed for request in requests[i * size : (i + 1) * size]],
                    "responses": [response.token_ids for response in group.group.responses],
                    "advantages": self.advantages_PG[i],
                }
                for i, group in enumerate(self.groups)
            ],
        }


class Bare:
    """Processes that share some bare work and do it on demand."""

    def __init__(self, kind: str, work: Path, choice: Mapping[str, int]) -> None:
        from grpo.runtime.environment import MALLOC

        environment = {**os.environ, **MALLOC, "OMP_NUM_THREADS": str(choice["threads"])}
        command = [sys.executable, "-m", f"benchmarks.bare_{kind}", str(work), json.dumps(choice)]
        meeting = tempfile.mktemp(dir=work.parent)
        self.processes = [
            subprocess.Popen(
                [*command, str(part), meeting],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for part in range(choice["processes"])
        ]
        self.run(1)  # returns when all are up, and warm

    @classmethod
    def best(cls, kind: str, work: Path, choices: Sequence[Mapping[str, int]], tokens: int) -> Bare:
        """The fastest of some choices, after a trial."""
        seconds = []
        for choice in choices:
            bare = cls(kind, work, choice)
            seconds.append(bare.run(tokens))
            bare.close()
            print(f"trial of bare {kind}, {choice}: {seconds[-1]:.3f} s")
        return cls(kind, work, choices[seconds.index(min(seconds))])

    def run(self, tokens: int) -> float:
        """Seconds for `tokens` response tokens: those of one go, from the first start to the last
        end, scaled by the number of tokens that it had.
        """
        start = time.perf_counter()
        for process in self.processes:
            print("go", file=process.stdin, flush=True)
        done = 0
        for process in self.processes:
            lines = (line.split() for line in process.stdout or ())
            done += next(int(words[1]) for words in lines if words[:1] == ["tokens"])
        return (time.perf_counter() - start) * tokens / done

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.communicate("stop\n")


def serve(work: Callable[[], int]) -> None:
    """The bare process's side: do `work()` for every line "go", and say how many tokens it had."""
    for line in sys.stdin:
        if line.strip() != "go":
            return
        print(f"tokens {work()}", flush=True)


def report(
    steps: Sequence[dict[str, float]],
    empty: Sequence[dict[str, float]],
    generated: Sequence[float],
    learned: Sequence[float],
) -> None:
    """Medians in seconds, and the ratio of each repeat."""
    whole = [sum(phases.values()) for phases in steps]
    bare = [sum(parts) for parts in zip(generated, learned, strict=True)]
    ratios = sorted(step / b for step, b in zip(whole, bare, strict=True))
    print(f"\nstep / bare: {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    print(f"step {median(whole):.3f} s, bare {median(bare):.3f} s; medians of {len(steps)}:")
    print(f"  {'':14}{'step':>8}{'bare':>8}{'above':>8}{'empty step':>12}")
    of_bare = {"sample": generated, "optimise": learned}
    for phase in steps[0]:
        mine = [phases[phase] for phases in steps]
        base = of_bare.get(phase, [0.0] * len(mine))
        above = median(a - b for a, b in zip(mine, base, strict=True))
        idle = median(phases[phase] for phases in empty)
        print(f"  {phase:14}{median(mine):8.3f}{median(base):8.3f}{above:8.3f}{idle:12.3f}")


if __name__ == "__main__":
    main()
