"""Whole steps of this framework beside those of TRL's GRPOTrainer: sampled tokens a second, and
peak memory.

    make trl-venv      TRL, in an environment of its own
    python -m benchmarks.vs_trl --limit 256 --lengths long-tailed [--json]
    python -m benchmarks.vs_trl --limit 256 --lengths full --tune      TRL's settings, one by one

Both train the same model (the tiny recipe's base) on the same prompts, with as many samples, at
temperature 1, by the same rewards, with one update a step in float32. Ours is the tiny recipe on
Ray: two vLLM engines and two ZeRO-3 ranks. TRL samples with `generate` of transformers, since its
vLLM needs a GPU. `--tune` times its layouts of processes, micro-batches and malloc settings.

Lengths do not depend on what a model has learned. In a copy of the model one coordinate of the
hidden state is constant and decides every logit: EOS has a fixed probability (4 / limit for
`long-tailed`, so lengths are geometric with a mean of about a quarter of the limit; 0 for `full`)
and all words share the rest. The learning rate is too small to change a weight.

With `--ceiling` the bare work of our steps takes its turn as well (benchmarks/overhead.py says what
is bare about it): what engines and learner could give without a framework around them.

The two take turns, step by step. A token counts when it was sampled, up to and including EOS.
Memory is the largest sum of PSS over a side's processes: each half second of the warm-up, and after
each step. The malloc settings keep what was once taken, so nothing higher lies between.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.fixed_lengths import write_model
from benchmarks.overhead import Bare, Stepper
from benchmarks.trl_process import PYTHON, Trl, checked, pss
from grpo.common.command_line import run
from grpo.config import TrainConfig, load_config
from grpo.types import Prompt
from rewards import Sample, Score

TRL_CHOICE = {"processes": 2, "threads": 1, "rows": 64, "malloc": True}
CHOICES: list[dict[str, Any]] = [
    {"processes": processes, "threads": 2 // processes, "rows": rows, "malloc": malloc}
    for processes in (1, 2)
    for rows in (16, 64)  # of a micro-batch
    for malloc in (True, False)
]
BARE: dict[str, dict[str, Any]] = {  # two processes of one thread: the best layout for both
    "generation": {"processes": 2, "threads": 1, "seeded": False},
    "learning": {"processes": 2, "threads": 1, "tokens": 8192},
}
GIB = 2**30


def main(arguments: list[str]) -> int:
    """Measure one regime, or TRL's settings in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--limit", type=int, default=256, help="tokens of a response at most")
    parser.add_argument("--lengths", choices=("long-tailed", "full"), default="long-tailed")
    parser.add_argument("--prompts", type=int, default=64, help="a step, 8 samples each")
    parser.add_argument("--steps", type=int, default=3, help="after one warm-up")
    parser.add_argument("--trl-python", type=Path, default=PYTHON)
    parser.add_argument("--trl-choice", type=json.loads, default=TRL_CHOICE, help="JSON")
    parser.add_argument("--tune", action="store_true", help="time TRL's settings instead")
    parser.add_argument(
        "--ceiling", action="store_true", help="time bare generation and learning as well"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_args(arguments)
    checked(args.trl_python)
    with tempfile.TemporaryDirectory() as folder:
        with redirect_stdout(sys.stderr):  # progress and warnings, which are no result
            config = configure(args, Path(folder) / "model")
            found = None if args.tune else measure(config, args, Path(folder))
        if found is None:
            tune(config, args, Path(folder))
        elif args.json:
            print(json.dumps(found))
        else:
            report(found)
    return 0


def configure(args: argparse.Namespace, folder: Path) -> TrainConfig:
    """The tiny recipe with a model of the wanted lengths, which is written to `folder`."""
    from grpo.learner.model_folder import model_folder

    base = model_folder(load_config("tiny", []).model, lambda _: None)
    write_model(base, folder, 4 / args.limit if args.lengths == "long-tailed" else 0.0, args.limit)
    # vLLM's cache holds what runs at once, so that no sample is thrown out for lack of room
    longest = args.limit if args.lengths == "full" else args.limit / 2
    cache = 0.25 + 256 * (longest + 32) * 3072 / GIB
    return load_config(
        "tiny",
        [
            "model.base=null",
            f"model.path={folder}",
            f"batch.num_prompts={args.prompts}",
            f"sampling.max_response_tokens={args.limit}",
            f"rollout.kv_cache_gib={cache:.2f}",
            "optimizer.lr=1e-30",
            "tracking.wandb.mode=disabled",
        ],
    )


def measure(config: TrainConfig, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Steps of both in turn, after a warm-up of each, and the bare work with `--ceiling`."""
    from grpo.inputs import load_inputs
    from grpo.parts import start_parts
    from grpo.tracking import open_run

    # Ray's workers are nicer than other processes by default, and would stand back behind TRL's.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  (spelt so by Ray)
    inputs = load_inputs(config, lambda _: None)
    with (
        start_parts(config, inputs, lambda _: None) as (rollouts, learner),
        open_run(folder, config.as_tree(), config.tracking, "tiny", args.steps, None) as run,
    ):
        assert learner is not None
        learner.connect(rollouts)
        learner.push_weights(0)
        stepper = Stepper(config, inputs, rollouts, learner, run, always_long=False)
        trl = Trl(config, inputs, args.trl_python, args.trl_choice, folder)
        ours = Ours(stepper, inputs.prompts[: args.prompts], [p.pid for p in trl.processes])
        sides: dict[str, Ours | Trl] = {"ours": ours, "trl": trl}
        peaks = {name: watched_peak(side) for name, side in sides.items()}
        bare: list[Bare] = []
        if args.ceiling:
            work = folder / "bare.json"
            work.write_text(json.dumps(stepper.work()))
            bare = [Bare(kind, work, BARE[kind]) for kind in BARE]
            ours.others += [process.pid for part in bare for process in part.processes]
        steps: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
        ceilings = []
        for _ in range(args.steps):
            for name, side in sides.items():
                seconds, tokens = side.step()
                steps[name].append((seconds, tokens))
                peaks[name] = max(peaks[name], side.memory())
                print(f"{name}: {seconds:.2f} s, {tokens:,} tokens", file=sys.stderr, flush=True)
            if bare:
                parts = [part.run(stepper.num_tokens) for part in bare]
                ceilings.append(stepper.num_tokens / sum(parts))
                print("bare: {:.2f} + {:.2f} s".format(*parts), file=sys.stderr, flush=True)
        for process in (trl, *bare):
            process.close()
    speeds = {name: [tokens / seconds for seconds, tokens in done] for name, done in steps.items()}
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["trl"], strict=True)]
    shares = [a / b for a, b in zip(speeds["ours"], ceilings, strict=False)]
    return {
        "limit": args.limit,
        "lengths": args.lengths,
        "responses": config.batch.num_responses,
        "ours": median(speeds["ours"]),
        "trl": median(speeds["trl"]),
        "ratio": median(ratios),
        "ratios": ratios,
        "ours_gib": peaks["ours"] / GIB,
        "trl_gib": peaks["trl"] / GIB,
        "ceiling": median(ceilings) if ceilings else None,
        "share_of_ceiling": median(shares) if shares else None,
        "phases": ours.phases,
        "steps": steps,
        "trl_choice": args.trl_choice,
    }


class OddLength:
    """The reward of both sides, which needs no sense in a text: 1 for an odd length."""

    needs_tokens = False

    def score_groups(self, groups: Sequence[Sequence[Sample]]) -> list[list[Score]]:
        """Scores of some groups."""
        return [[Score(float(len(s.response) % 2), {}) for s in group] for group in groups]


class Ours:
    """Steps of this framework, whose responses EOS alone ends."""

    def __init__(self, stepper: Stepper, prompts: Sequence[Prompt], others: list[int]) -> None:
        self.stepper, self.prompts, self.others = stepper, prompts, others
        self.phases: list[dict[str, float]] = []  # seconds
        stepper.scorer = OddLength()
        stepper.sampling = replace(stepper.sampling, stop=(), cut=())

    def step(self) -> tuple[float, int]:
        """Seconds and sampled tokens."""
        self.phases.append(self.stepper.step(self.prompts))
        return sum(self.phases[-1].values()), self.stepper.num_tokens

    def memory(self) -> int:
        """PSS of this process, the cluster and all actors, in bytes."""
        return pss(os.getpid()) - sum(map(pss, self.others))


def watched_peak(side: Ours | Trl) -> int:
    """Bytes that a side held at most during one step."""
    held, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            held.append(side.memory())

    thread = threading.Thread(target=watch)
    thread.start()
    side.step()
    done.set()
    thread.join()
    return max(*held, side.memory())


def tune(config: TrainConfig, args: argparse.Namespace, folder: Path) -> None:
    """TRL alone: a warm-up and two steps with each of its settings."""
    from grpo.inputs import load_inputs

    inputs = load_inputs(config, lambda _: None)
    for choice in CHOICES:
        trl = Trl(config, inputs, args.trl_python, choice, folder)
        peak = watched_peak(trl)
        speeds = [tokens / seconds for seconds, tokens in (trl.step() for _ in range(2))]
        peak = max(peak, trl.memory())
        trl.close()
        print(f"{max(speeds):8,.0f} tokens/s  {peak / GIB:5.2f} GiB  {json.dumps(choice)}")


def report(found: dict[str, Any]) -> None:
    """Two lines for people."""
    print(
        f"{found['responses']} responses, {found['lengths']}, at most {found['limit']} tokens: "
        f"ours {found['ours']:,.0f} tokens/s, TRL {found['trl']:,.0f}, ratio {found['ratio']:.2f} "
        f"({min(found['ratios']):.2f} to {max(found['ratios']):.2f})\n"
        f"peak memory: ours {found['ours_gib']:.2f} GiB, TRL {found['trl_gib']:.2f} GiB"
    )
    if found["ceiling"]:
        print(
            f"bare generation + learning: {found['ceiling']:,.0f} tokens/s, "
            f"{found['ceiling'] / found['trl']:.2f} times TRL; ours reaches "
            f"{found['share_of_ceiling']:.0%} of it"
        )


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
