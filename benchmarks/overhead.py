"""What the framework adds to the bare work of a step: time of a step over bare generation + bare
learning.

    python -m benchmarks.overhead [--repeats 5] [--workload tiny long] [--set KEY=VALUE ...]

*Step*: sample, score, advantages, update, weight transfer, as the trainer does them, on the engines
and ranks of the tiny recipe. *Bare generation*: the same requests (prompts, seeds, log-probs, stop
rules) in one vLLM process without Ray, on all cores. *Bare learning*: forward and backward of the
same tokens in one process without DeepSpeed, on all threads, in length-sorted batches; no
optimizer. The three take turns, so that a machine whose speed drifts hurts all alike. Bare
processes get the best number of threads (and batch size) of a trial before the measurement, and the
same malloc settings as the actors.

The learning rate is too small to change a weight, so every repeat works on the same tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from grpo.config import TrainConfig, load_config
from grpo.rollout.scoring import make_requests, sample_groups

WORKLOADS = {
    "tiny": {"overrides": [], "ignore_eos": False},
    "long": {
        "overrides": ["sampling.max_response_tokens=256"],
        "ignore_eos": True,
    },  # 512 responses x 256 tokens
}


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
    args = parser.parse_args()
    for name in args.workload:
        measure(name, args.repeats, args.set)


def measure(name: str, repeats: int, changes: list[str]) -> None:
    """One workload: step, bare generation and bare learning in turn."""
    from grpo.run import load_inputs, start_parts

    workload: Any = WORKLOADS[name]
    config = load_config(
        "tiny",
        ["optimizer.lr=1e-30", "tracking.wandb.mode=disabled", *workload["overrides"], *changes],
    )
    inputs = load_inputs(config, print)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_parts(config, inputs, print) as (rollouts, learner),
    ):
        assert learner is not None
        learner.connect(rollouts)
        learner.push_weights(0)
        stepper = Stepper(config, inputs, rollouts, learner, ignore_eos=workload["ignore_eos"])
        stepper.step()  # warm-up, and the tokens that the bare work will be done on
        work = Path(folder) / "work.json"
        work.write_text(json.dumps(stepper.work()))
        generation = Bare("generation", work, choices=[{"threads": 1}, {"threads": 2}])
        learning = Bare(
            "learning",
            work,
            choices=[{"threads": t, "tokens": n} for t in (1, 2) for n in (2048, 8192, 32768)],
        )
        times: list[tuple[dict[str, float], float, float]] = []
        for repeat in range(repeats):
            times.append((stepper.step(), generation.run(), learning.run()))
            step, generated, learned = times[-1]
            print(
                f"repeat {repeat + 1}: step {step['step']:.3f} s, bare {generated:.3f} + "
                f"{learned:.3f} s"
            )
        generation.close()
        learning.close()
    report(name, stepper.num_tokens, times, generation.best, learning.best)


class Stepper:
    """Steps of the trainer on the same prompts, timed by phase."""

    def __init__(
        self, config: TrainConfig, inputs: Any, rollouts: Any, learner: Any, ignore_eos: bool
    ) -> None:
        self.config, self.inputs, self.rollouts, self.learner = config, inputs, rollouts, learner
        self.scorer = config.rewards.scorer()
        self.prompts = inputs.prompts[: config.batch.num_prompts]
        self.sampling = replace(inputs.sampling, temperature=1.0, seed=0)
        if ignore_eos:
            self.sampling = replace(self.sampling, stop=(), cut=(), ignore_eos=True)
        self.version = 0
        self.num_tokens = 0
        self.samples: list[Any] = []

    def step(self) -> dict[str, float]:
        """Seconds of one step and of its phases."""
        from grpo.trainer import advantages_of, make_samples, step_settings

        start = time.perf_counter()
        collected = sample_groups(self.prompts, self.sampling, 1, self.rollouts, self.scorer)
        sampled = time.perf_counter()
        samples = make_samples(collected.groups, self.version)
        settings = step_settings(self.config, 0)
        self.learner.prepare(samples, settings)
        advantages = [a for row_G in advantages_of(self.config, collected.groups) for a in row_G]
        self.learner.optimise(advantages, settings)
        learned = time.perf_counter()
        self.version += 1
        self.learner.push_weights(self.version)
        end = time.perf_counter()
        self.samples = list(zip(samples, advantages, strict=True))
        self.num_tokens = sum(sample.num_trained for sample in samples)
        return {
            "step": end - start,
            "sample": sampled - start,
            "learn": learned - sampled,
            "transfer": end - learned,
        }

    def work(self) -> dict[str, Any]:
        """The same work for the bare processes, as JSON."""
        requests = make_requests(self.prompts, self.sampling, 1)
        return {
            "model": self.inputs.model_folder,
            "max_model_len": self.inputs.max_model_len,
            "max_num_seqs": len(requests),
            "max_tokens": self.sampling.max_tokens,
            "stop": [*self.sampling.stop, *self.sampling.cut],
            "ignore_eos": self.sampling.ignore_eos,
            "prompts": [request.prompt_token_ids for request in requests],
            "seeds": [request.seed for request in requests],
            "samples": [
                [
                    s.token_ids_T[~s.loss_mask_T].tolist(),
                    s.token_ids_T[s.loss_mask_T].tolist(),
                    advantage,
                ]
                for s, advantage in self.samples
            ],
        }


class Bare:
    """A process that does bare work on demand, with the best of some settings."""

    def __init__(self, kind: str, work: Path, choices: Sequence[dict[str, int]]) -> None:
        trials = []
        for choice in choices:
            process = self._start(kind, work, choice)
            self._once(process)
            trials.append((min(self._once(process) for _ in range(2)), choice))
            self._stop(process)
        self.best = min(trials, key=lambda trial: trial[0])[1]
        self.process = self._start(kind, work, self.best)
        self._once(self.process)

    def run(self) -> float:
        """Seconds of one go."""
        return self._once(self.process)

    def close(self) -> None:
        """End the process."""
        self._stop(self.process)

    @staticmethod
    def _start(kind: str, work: Path, choice: dict[str, int]) -> subprocess.Popen:
        environment = {**os.environ, **malloc_settings(), "OMP_NUM_THREADS": str(choice["threads"])}
        command = [sys.executable, "-m", f"benchmarks.bare_{kind}", str(work), json.dumps(choice)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    @staticmethod
    def _once(process: subprocess.Popen) -> float:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith("seconds "):
                return float(line.split()[1])
        raise RuntimeError(f"{process.args} died")

    @staticmethod
    def _stop(process: subprocess.Popen) -> None:
        process.communicate("stop\n")


def malloc_settings() -> dict[str, str]:
    """What the actors get as well."""
    from grpo.runtime.ray.actors import MALLOC

    return MALLOC


def serve(work: Any) -> None:
    """The bare process's side: do `work()` for every line "go", and say how long it took."""
    for line in sys.stdin:
        if line.strip() != "go":
            return
        start = time.perf_counter()
        work()
        print(f"seconds {time.perf_counter() - start}", flush=True)


def report(
    name: str, tokens: int, times: Any, generation: dict[str, int], learning: dict[str, int]
) -> None:
    """Medians, and the ratio of each repeat."""
    steps = {key: median(t[0][key] for t in times) for key in times[0][0]}
    bare = [t[1] + t[2] for t in times]
    ratios = sorted(t[0]["step"] / b for t, b in zip(times, bare, strict=True))
    print(
        f"\n{name}: {tokens} response tokens a step; medians of {len(times)} interleaved "
        f"repeats, seconds"
    )
    print(f"  step {steps['step']:.3f} = sample {steps['sample']:.3f} + learn {steps['learn']:.3f} "
          f"+ transfer {steps['transfer']:.3f}")  # fmt: skip
    print(f"  bare {median(bare):.3f} = generation {median(t[1] for t in times):.3f} (best "
    f"{generation}) "
          f"+ learning {median(t[2] for t in times):.3f} (best {learning})")  # fmt: skip
    print(f"  step / bare: {median(ratios):.3f}  (min {ratios[0]:.3f}, max {ratios[-1]:.3f})\n")


if __name__ == "__main__":
    main()
