"""Breaks runs of the whole stack on purpose, and compares each with the run that nothing broke.

    python -m benchmarks.chaos [--all | --fast | --only C4 ...] [--output FOLDER]

Faults strike at fixed points of the code (`grpo.common.faults`), with real SIGKILL and SIGSTOP from
inside the process, so a scenario is the same every time. A run that merely ends is not a pass: the
exit code, that every fault has struck, that no process is left, and tokens, rewards, losses,
gradient norms and weights to the last bit.

What needs no engine (answers that hang or crash a grader, damaged data, trackers without a network,
numbers that are not finite) are tests of their own, which are run here as well and counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from grpo.checkpoint.folder import Checkpoints, DamagedError, read
from grpo.common.command_line import Parser, run, say
from grpo.common.errors import RecipeError, UserError
from grpo.common.files import write_atomically
from grpo.tracking.record import read_metrics, read_rollouts

STEPS, PROMPTS, SAMPLES = 6, 8, 4
RECIPE = [
    "model.base=null",
    "data.train={source: arithmetic, num_problems: 64, arithmetic: {lengths: [3], max_term: 9}}",
    "data.held_out={source: arithmetic, num_problems: 16, arithmetic: {lengths: [3], max_term: 9}}",
    *(f"batch.num_prompts={PROMPTS}", f"batch.num_samples={SAMPLES}"),
    "optimizer={lr: 1.0e-3, schedule: constant}",
    *("sampling.max_response_tokens=40", "rollout.max_model_len=512", "rollout.num_engines=2"),
    *("evaluation.every=0", "evaluation.num_samples=1", "checkpoint.every=2"),
    *("rollout.hang_timeout_seconds=30", "cluster.learn_timeout_seconds=60"),
    *("tracking.wandb.mode=disabled", "tracking.tensorboard=false", "tracking.plots=false"),
]
# Runs that nothing breaks, by name, and what they have besides. Responses have 8 to 40 tokens.
OLDER = "algorithm.mismatch.correction=truncate"
BASES: dict[str, tuple[str, ...]] = {
    "base": (),
    "base_ahead": ("rollout.max_staleness=1", OLDER),
    "base_partial": ("rollout.strategy=partial", "rollout.segment_tokens=12", OLDER),
}
TIMED = ("seconds/", "tokens_per_second")


@dataclass
class Result:
    """What became of a scenario."""

    name: str
    says: str
    planned: int = 0  # faults
    faults: int = 0  # that have struck
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0
    made_again: int = 0  # samples, after the loss of an engine
    replayed: int = 0  # samples that came from the journal
    exact: bool = False  # compared to the last bit
    account: Account | None = None  # of a run of the whole stack
    orphans: int = 0  # processes

    @property
    def passed(self) -> bool:
        """Nothing differs, and everything struck."""
        return not self.problems


@dataclass
class Account:
    """What the record of a run lacks, and what it has too much of."""

    samples: int  # that it should have
    lost_steps: int = 0
    lost: int = 0  # samples
    duplicated: int = 0
    stale: int = 0  # made by other weights than those that should have

    @property
    def problems(self) -> list[str]:
        """What is wrong."""
        wrong = {name: number for name, number in vars(self).items() if name != "samples"}
        return [f"{number} {name.replace('_', ' ')}" for name, number in wrong.items() if number]


def account(output: Path, steps: int, base: Path | None = None) -> Account:
    """Count the steps and samples of a run.

    Args:
        output: its folder.
        steps: that it should have.
        base: folder of the run without faults. Without one, a step has as many samples as `RECIPE`
            says and is sampled by the weights of the step before.
    """
    rows = [row["step"] for row in read_metrics(output) if "grad_norm" in row]
    told = Account(0, lost_steps=steps - len(set(rows)))
    for step in range(1, steps + 1):
        try:
            found = read_rollouts(output, step)
        except FileNotFoundError:
            found = []
        versions = {row["seed"]: set(row["versions"].tolist()) for row in found}
        right = {seed: {step - 1} for seed in versions}
        should = PROMPTS * SAMPLES
        if base is not None:
            right = {
                row["seed"]: set(row["versions"].tolist()) for row in read_rollouts(base, step)
            }
            should = len(right)
        told.samples += should
        told.lost += should - len(right.keys() & versions.keys())
        told.duplicated += len(found) - len(versions)
        told.stale += sum(versions[seed] != right[seed] for seed in right.keys() & versions.keys())
    return told


@dataclass
class Chaos:
    """Where runs are and what they start from."""

    folder: Path
    model: Path
    keeps_bases: bool  # of the last time
    _bases: dict[str, Path] = field(default_factory=dict)

    def base(self, name: str = "base") -> Path:
        """The folder of a run that nothing breaks, one of `BASES`. It is made when first asked for.

        Raises:
            UserError: it did not end well.
        """
        if name in self._bases:
            return self._bases[name]
        output = self.folder / name
        if not self.keeps_bases or not (output / "summary.json").exists():
            say(f"the run without faults: {name}")
            shutil.rmtree(output, ignore_errors=True)
            log = self.folder / f"{name}.log"
            with log.open("w", encoding="utf-8") as told:
                command = self.command(output, BASES[name])
                done = subprocess.run(command, stdout=told, stderr=subprocess.STDOUT)
            if done.returncode:
                raise UserError(f"the run without faults ended with {done.returncode}; see {log}")
        self._bases[name] = output
        return output

    def command(self, output: Path, overrides: Sequence[str]) -> list[str]:
        """The command of a run."""
        return [
            *(sys.executable, "-m", "grpo.train", "--config-name", "tiny", *RECIPE),
            *(f"model.path={self.model}", f"trainer.max_steps={STEPS}", f"output_dir={output}"),
            *overrides,
        ]

    def play(
        self,
        name: str,
        says: str,
        faults: Sequence[dict[str, Any]],
        codes: Sequence[int] = (0,),
        overrides: Sequence[str] = (),
        again: Sequence[str] = (),
        *,
        base: str = "base",
        exact: bool = True,
    ) -> Result:
        """Run with faults, as often as there are exit codes, and compare with the base run.

        Args:
            name: of the scenario.
            says: what it breaks.
            faults: the plan.
            codes: exit codes, one for each start of the command.
            overrides: of all starts.
            again: further ones of all starts but the first.
            base: name of the run to compare with, whose settings this one has too.
            exact: compare to the last bit; else losses up to step 3 to 1e-5.
        """
        unbroken = self.base(base)
        result, began = Result(name, says, len(faults), exact=exact), time.monotonic()
        output = self.folder / name.lower()
        shutil.rmtree(output, ignore_errors=True)
        plan = self.folder / f"{name.lower()}.plan.json"
        for old in self.folder.glob(f"{plan.name}*"):
            old.unlink()
        plan.write_text(json.dumps(list(faults)), encoding="utf-8")
        log, before = self.folder / f"{name.lower()}.log", adopt_orphans()
        with log.open("w", encoding="utf-8") as told:
            for number, expected in enumerate(codes):
                extra = again if number else ()
                code = subprocess.run(
                    self.command(output, [*BASES[base], *overrides, *extra]),
                    env={**os.environ, "CHAOS_PLAN": str(plan)},
                    stdout=told,
                    stderr=subprocess.STDOUT,
                    timeout=900,
                ).returncode
                if code != expected:
                    result.problems.append(f"start {number + 1}: exit code {code}, not {expected}")
        result.faults = len(list(self.folder.glob(f"{plan.name}.struck_*")))
        if result.faults != len(faults):
            result.problems.append(f"{result.faults} of {len(faults)} faults have struck")
        if orphans := left_over(before):
            result.problems.append(f"processes are left: {orphans}")
        result.orphans = len(orphans)
        count_told(result, log)
        result.account = account(output, STEPS, unbroken)
        result.problems += result.account.problems
        if not result.problems:
            result.problems += differences(unbroken, output, exact=exact)
        result.seconds = time.monotonic() - began
        return result


def count_told(result: Result, log: Path) -> None:
    """Add what a run has told of its samples."""

    def counted(phrase: str) -> int:
        parts = log.read_text(encoding="utf-8").split(phrase)[:-1]
        return sum(int(part.split()[-1]) for part in parts if part.split()[-1].isdecimal())

    result.made_again = counted(" samples are made again")
    result.replayed = counted(" samples were there already")


def adopt_orphans() -> set[int]:
    """Make this process the parent of those below it whose parents end; returns those there are.

    A worker of Ray changes its name and its environment, so a process that is left is known by
    nothing but its descent.

    Raises:
        OSError: the kernel does not do that.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")
    return {process.pid for process in psutil.Process().children(recursive=True)}


def left_over(before: Collection[int]) -> list[str]:
    """Processes below this one 10 seconds after the end of a run, but for those that were there.

    Two small helpers of Ray's node process need 70 seconds to notice that it was killed. They have
    100: nothing else may be left.
    """
    began = time.monotonic()
    while True:
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                if process.pid in before:
                    continue
                if process.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(process.pid, os.WNOHANG)  # adopted, and nobody else waits for it
                else:
                    found.append(f"{process.pid} {' '.join(process.cmdline() or ['-'])[:60]}")
        ours = [one for one in found if not one.split()[1].endswith(("DashboardAgent", "EnvAgent"))]
        if not found or time.monotonic() > began + (10 if ours else 100):
            return found
        time.sleep(0.2)


def differences(base: Path, other: Path, *, exact: bool = True) -> list[str]:
    """Where a run parts from the base run: numbers of its steps, samples, weights and chain."""
    problems = []
    mine, theirs = read_metrics(base), read_metrics(other)
    if [row["step"] for row in mine] != [row["step"] for row in theirs]:
        return [f"steps {[row['step'] for row in theirs]}"]
    lines = (other / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    updates = [row["step"] for row in map(json.loads, lines) if "grad_norm" in row]
    if updates != list(range(1, STEPS + 1)):
        problems.append(f"updates in the record: {updates}")
    for a, b in zip(mine, theirs, strict=True):
        if not exact and a["step"] > 3:
            break  # other roundings may have chosen another token by now
        for key, value in a.items():
            if key.startswith(TIMED) or not isinstance(value, int | float):
                continue
            close = abs(b[key] - value) <= 1e-5 * max(1.0, abs(value))
            if b[key] != value and (exact or (key in ("loss", "grad_norm") and not close)):
                problems.append(f"step {a['step']}, {key}: {value} and {b[key]}")
                break
    if not exact:
        return problems
    for step in range(1, STEPS + 1):
        pairs = zip(read_rollouts(base, step), read_rollouts(other, step), strict=True)
        for a, b in pairs:
            if a["seed"] != b["seed"] or list(a["token_ids"]) != list(b["token_ids"]):
                problems.append(f"step {step}: tokens of a sample differ")
                break
    ends = [
        json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        for folder in (base, other)
    ]
    return problems + [
        f"{key} of the summaries differ"
        for key in ("weights_sha256", "chain")
        if ends[0][key] != ends[1][key]
    ]


def kill(point: str, action: str = "kill", **where: Any) -> dict[str, Any]:
    """A fault of the plan."""
    return {"point": point, "where": where, "action": action}


# --- scenarios on the whole stack ---------------------------------------------------------------


def engines(chaos: Chaos) -> Result:
    """C1."""
    return chaos.play(
        "C1",
        "engines killed: with new requests, after the first responses, as new weights come",
        [kill("engine.submit"), kill("engine.finished"), kill("engine.update")],
    )


def hangs(chaos: Chaos) -> Result:
    """C3. What was stopped has left its stack, and so have the others."""
    result = chaos.play(
        "C3",
        "an engine, a rank that learns and a rank that sends weights stopped (SIGSTOP)",
        [
            kill("engine.finished", "stop"),
            kill("learner.forward", "stop", rank=1),
            kill("learner.transfer", "stop", rank=1, version=2),
        ],
        overrides=["rollout.hang_timeout_seconds=15", "cluster.learn_timeout_seconds=30"],
    )
    for process in ("engine_0", "engine_1", "learner_rank_0", "learner_rank_1"):
        files = list((chaos.folder / "c3" / "stacks").glob(f"*_{process}.txt"))
        if not any("Thread" in file.read_text(encoding="utf-8") for file in files):
            result.problems.append(f"no stack of {process} in {len(files)} files")
    return result


def ranks(chaos: Chaos) -> Result:
    """C4."""
    return chaos.play(
        "C4",
        "learner ranks killed: in a forward pass, before the optimizer step, sending weights",
        [
            kill("learner.forward", rank=1),
            kill("learner.step", rank=0),
            kill("learner.transfer", rank=1, version=2),
        ],
        overrides=["health.max_restarts=4"],
    )


def driver(chaos: Chaos) -> Result:
    """C5."""
    points = ["driver.sample", "driver.learn", "driver.transfer", "driver.record"]
    faults = [kill(point, step=step + 1) for step, point in enumerate(points)]
    faults += [kill("save.learner", step=4), kill("driver.committed", step=6)]
    return chaos.play(
        "C5", "the driver killed in six phases, supervised", faults, overrides=["supervise=true"]
    )


def seldom(chaos: Chaos) -> Result:
    """C5 with checkpoints that are seldom: the journal has the samples of several steps."""
    return chaos.play(
        "C5-seldom",
        "the driver killed, with a checkpoint every 5 steps, supervised",
        [kill("driver.learn", step=5), kill("driver.record", step=6)],
        overrides=["supervise=true", "checkpoint.every=5"],
    )


def ray_itself(chaos: Chaos) -> Result:
    """Processes of Ray that are neither ours nor watched by us."""
    return chaos.play(
        "ray",
        "an engine at rest, Ray's node process and Ray's control store killed, supervised",
        [
            kill("driver.learn", "kill ray::RolloutWorker", step=2),
            kill("driver.learn", "kill raylet", step=3),
            kill("driver.learn", "kill gcs_server", step=5),
        ],
        overrides=["supervise=true"],
    )


def ranks_change(chaos: Chaos) -> Result:
    """C9."""
    return chaos.play(
        "C9",
        "two ranks stopped after step 2, one rank goes on",
        [kill("driver.sample", "term", step=3)],
        codes=(75, 0),
        again=["learner.num_ranks=1", "allow_config_change=[learner]"],
        exact=False,
    )


def signals(chaos: Chaos) -> Result:
    """C11."""
    return chaos.play(
        "C11",
        "SIGTERM and Ctrl-C while sampling, in an update and in a save, and twice",
        [
            kill("driver.sample", "term", step=2),
            kill("driver.learn", "int", step=3),
            kill("save.learner", "term", step=4),
            kill("driver.learn", "term", step=5),
            kill("save.learner", "term", step=5),  # while it saves because of the first one
        ],
        codes=(75, 75, 75, -signal.SIGTERM, 0),
    )


def ahead(chaos: Chaos) -> Result:
    """The driver dies with a batch in flight."""
    faults = [
        kill("driver.sample", step=2),
        kill("journal.written", journal="step_000003"),  # while the learner works on step 2
        kill("driver.learn", step=3),
        kill("driver.transfer", step=4),
        kill("driver.committed", step=5),
    ]
    return chaos.play(
        "ahead",
        "one step ahead: the driver killed in five phases, one with half a batch, supervised",
        faults,
        overrides=["supervise=true"],
        base="base_ahead",
    )


def ahead_actors(chaos: Chaos) -> Result:
    """Engines and ranks die while the others work."""
    return chaos.play(
        "ahead-actors",
        "one step ahead: a rank killed while engines sample, an engine while ranks learn",
        [kill("learner.forward", rank=1), kill("engine.finished", version=1)],
        base="base_ahead",
    )


def ahead_alone(chaos: Chaos) -> Result:
    """The weights that the engine had are gone when a new one has started."""
    return chaos.play(
        "ahead-alone",
        "one step ahead: the only engine killed while ranks learn",
        [kill("engine.finished", version=2)],
        overrides=["rollout.num_engines=1"],
        base="base_ahead",
    )


def partial(chaos: Chaos) -> Result:
    """Responses that were begun go on after the end of who began them."""
    faults = [
        kill("driver.sample", step=2),
        kill("journal.written", journal="step_000003"),
        kill("engine.finished", version=3),
        kill("driver.record", step=5),
    ]
    return chaos.play(
        "partial",
        "partial rollouts: the driver killed in three phases, and an engine, supervised",
        faults,
        overrides=["supervise=true"],
        base="base_partial",
    )


# --- scenarios without engines ------------------------------------------------------------------

SAVE_POINTS = ("begun", "learner", "state", "manifest", "replaced", "renamed", "pruned")
# A run that saves twice, with files as a learner would write them.
SAVER = """
import sys
from pathlib import Path
from grpo.checkpoint.commits import Commits
from grpo.checkpoint.folder import Checkpoints
def save(folder):
    for rank in range(2):
        (Path(folder) / f"rank_{rank:03d}.safetensors").write_bytes(bytes(1000))
commits = Commits(Checkpoints(Path(sys.argv[1])), save, print)
for step in (2, 4, 6, 8):
    commits.note({"step": step}, due=True, keep=2)
"""


def save_points(chaos: Chaos) -> Result:
    """C6: SIGKILL at every point of a save: of the first, of later ones, of one that is there."""
    result, began = Result("C6", "killed at every point of a save"), time.monotonic()
    kills = [(point, step, False) for point in SAVE_POINTS for step in (2, 4, 6, 8)]
    # Of the step that is deleted, the first two.
    kills = [one for one in kills if one[0] != "pruned" or one[1] <= 4]
    kills += [(point, 8, True) for point in ("manifest", "replaced", "renamed")]
    for point, step, twice in kills:
        folder = chaos.folder / "c6" / f"{point}_{step}{'_again' if twice else ''}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        save = [sys.executable, "-c", SAVER, str(folder)]
        if twice:
            subprocess.run(save, check=True)
        plan = folder / "plan.json"
        plan.write_text(json.dumps([kill(f"save.{point}", step=step)]), encoding="utf-8")
        environment = {**os.environ, "CHAOS_PLAN": str(plan)}
        code = subprocess.run(save, env=environment).returncode
        where = f"{point} of step {step}{', which was there' if twice else ''}"
        result.planned += 1
        if code != -signal.SIGKILL:
            result.problems.append(f"{where}: the fault has not struck (exit code {code})")
            continue
        result.faults += 1
        checkpoints = Checkpoints(folder)
        newest = checkpoints.newest(lambda text: None)
        allowed = {step, step - 2} if point != "pruned" else {step + 4}
        if (0 if newest is None else newest.step) not in allowed:
            result.problems.append(f"{where}: {newest} is what can be read")
        subprocess.run(save, env=environment, check=True)
        if checkpoints.steps() != [6, 8] or list(checkpoints.folder.glob(".*")):
            result.problems.append(f"{where}: afterwards {checkpoints.steps()}, or remains")
    result.seconds = time.monotonic() - began
    return result


def damage(chaos: Chaos) -> Result:
    """C8: every file of a checkpoint cut short, changed by a bit, deleted, and swapped."""
    result, began = Result("C8", "every file of a checkpoint damaged"), time.monotonic()
    newest = Checkpoints(chaos.base()).path(STEPS)
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    shards = [path for path in files if path.suffix == ".safetensors"]

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def swap(path: Path) -> None:
        other = shards[(shards.index(original) + 1) % len(shards)]
        path.write_bytes(other.read_bytes())

    harms: dict[str, Callable[[Path], object]] = {
        "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "one bit": flip,
        "empty": lambda path: path.write_bytes(b""),
        "deleted": Path.unlink,
        "swapped": swap,
    }
    copy = chaos.folder / "c8" / "checkpoints" / newest.name
    for original in files:
        for name, harm in harms.items():
            if name == "swapped" and original not in shards:
                continue
            shutil.rmtree(copy.parent, ignore_errors=True)
            shutil.copytree(newest, copy)
            harm(copy / original.relative_to(newest))
            result.planned += 1
            result.faults += 1
            try:
                read(copy)
            except DamagedError:
                pass
            else:
                result.problems.append(f"{original.name} {name}: nobody noticed")
            try:
                Checkpoints(copy.parents[1]).newest(lambda text: None)
            except UserError:
                continue
            result.problems.append(f"{original.name} {name}: a start at step 0 in silence")
    result.seconds = time.monotonic() - began
    return result


WRONG = [
    *("batch.num_prompt=8", "batch.num_samples=0", "batch.num_samples=1.5", "optimizer.lr=-1"),
    *("optimizer.lr=nan", "optimizer.betas=[0.9]", "sampling.temperature=0", "seed=-1"),
    *("learner.zero_stage=4", "learner.num_ranks=0", "rollout.num_engines=x", "runtime=slurm"),
    *("algorithm.clip_low=2", "algorithm.aggregation=mean", "algorithm.kl_estimator=k9"),
    *("data.template=r1_zer", "data.train=5", "rewards.components={}", "trainer.max_steps=0"),
    *("trainer.device=tpu", "checkpoint.keep=1", "checkpoint.every=-1", "health.max_bad_steps=0"),
    *("rewards.components.accuracy.weight=much", "rollout.strategy=partial", "tracking=7"),
    *("rollout.max_staleness=1", "rollout.max_staleness=2", "model.path=x", "unknown=1"),
]


def recipes(chaos: Chaos) -> Result:
    """C10: thirty wrong recipes."""
    from grpo.config import load_config

    result, began = Result("C10", "wrong recipes are refused"), time.monotonic()
    for override in WRONG:
        start = time.monotonic()
        try:
            load_config("tiny", [override])
        except (RecipeError, UserError) as error:
            key = override.split("=", maxsplit=1)[0].split(".")[-1]
            if key not in str(error):
                result.problems.append(f"{override}: the message does not name it: {error}")
        else:
            result.problems.append(f"{override} is taken")
        if time.monotonic() - start > 2:
            result.problems.append(f"{override}: {time.monotonic() - start:.1f} s")
        result.planned += 1
        result.faults += 1
    result.seconds = time.monotonic() - began
    return result


TESTS = {
    "C7": ("disks that are full", ["tests/checkpoint/test_commits.py", "tests/tracking/test_run.py",
                                   "tests/rollout/test_journal.py"]),
    "C12": ("answers that hang, crash or fill a grader", ["tests/rewards/test_failures.py",
                                                          "tests/rewards/test_safety.py"]),
    "C13": ("damaged data", ["tests/data/test_bad_input.py"]),
    "C15": ("numbers that are not finite", ["tests/test_trainer.py"]),
    "C17": ("trackers without a network", ["tests/tracking/test_trackers.py"]),
    "C18": ("models, tokenizers and machines that lack something",
            ["tests/config/test_bad_input.py", "tests/runtime"]),
}  # fmt: skip


def tests(name: str) -> Callable[[Chaos], Result]:
    """A scenario that is a part of the tests."""

    def scenario(chaos: Chaos) -> Result:
        says, files = TESTS[name]
        result, began = Result(name, says), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *files], capture_output=True, text=True
        )
        tail = done.stdout.splitlines()
        result.faults = sum(
            line.count(".") for line in tail if re.fullmatch(r"[.sF]+ *\[ *\d+%\]", line)
        )
        if done.returncode:
            result.problems = [line for line in tail if line.startswith("FAILED")] or tail[-5:]
        result.seconds = time.monotonic() - began
        return result

    return scenario


SCENARIOS: dict[str, Callable[[Chaos], Result]] = {
    "C1": engines,
    "C3": hangs,
    "C4": ranks,
    "C5": driver,
    "C5-seldom": seldom,
    "C6": save_points,
    "C7": tests("C7"),
    "C8": damage,
    "C9": ranks_change,
    "C10": recipes,
    "C11": signals,
    "C12": tests("C12"),
    "C13": tests("C13"),
    "C15": tests("C15"),
    "C17": tests("C17"),
    "C18": tests("C18"),
    "ray": ray_itself,
    "ahead": ahead,
    "ahead-actors": ahead_actors,
    "ahead-alone": ahead_alone,
    "partial": partial,
}
FAST = ("C6", "C8", "C10", "C1")
# More of the same kind, for a change of what they break: with all of them it takes half an hour.
MORE = ("C5-seldom", "ray", "ahead-actors", "ahead-alone")
# C2, an engine core that dies alone, is a process of its own on GPUs only; C14 and C16 are in
# tests/stack, which `make test` runs.


def verdict(one: Result) -> list[str]:
    """Lines of the scorecard about one scenario."""
    told = "survived" if one.passed else "FAILED"
    line = f"{one.name:12} {told:8} {one.faults:4} faults {one.seconds:6.0f} s  {one.says}"
    return [line, *(f"{'':13}{problem}" for problem in one.problems[:5])]


def card(results: Sequence[Result]) -> str:
    """The scorecard."""
    names = ("ray", "deepspeed", "torch")
    stack = "  ".join(f"{name} {metadata.version(name)}" for name in names)
    lines = [f"chaos  {stack}", ""]
    for one in results:
        lines += verdict(one)
    faults = [one for one in results if one.planned]
    survived = sum(one.faults for one in faults if one.passed)
    runs = [one for one in results if one.account is not None]
    exact = [one for one in results if one.exact]
    saves = [one for one in results if one.name == "C6"]
    tested = [one for one in results if one.name in TESTS]

    def total(name: str) -> int:
        return sum(getattr(one.account, name) for one in runs)

    told = {"faults survived": f"{survived}/{sum(one.planned for one in faults)}"}
    if runs:
        told |= {
            "lost steps": total("lost_steps"),
            "lost samples": f"{total('lost')} of {total('samples')}",
            "duplicated samples": total("duplicated"),
            "stale samples": total("stale"),
            "orphans": sum(one.orphans for one in runs),
            "samples made again": f"{sum(one.made_again for one in runs)} not finished before",
            "samples replayed": f"{sum(one.replayed for one in runs)} that were not made twice",
        }
    if exact:
        whole = sum(one.passed for one in exact)
        told["resumed curve identical"] = f"{whole}/{len(exact)} to the last bit"
    if saves:
        told["save kill points"] = f"{saves[0].faults - len(saves[0].problems)}/{saves[0].planned}"
    if tested:
        passed = sum(one.passed for one in tested)
        told["tests of other faults"] = (
            f"{sum(one.faults for one in tested)}, {passed}/{len(tested)} scenarios"
        )
    told["scenarios survived"] = f"{sum(one.passed for one in results)}/{len(results)}"
    told["seconds"] = f"{sum(one.seconds for one in results):.0f}"
    lines += ["", *(f"{name:24} {value}" for name, value in told.items())]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None) -> int:
    """Play the scenarios and print the scorecard; exit code 1 when one was not survived."""
    parser = Parser("benchmarks.chaos", "Break runs on purpose.")
    add = parser.add_argument
    add("--output", type=Path, default=Path("runs/chaos"), help="folder of runs and results")
    add("--only", nargs="+", metavar="NAME", choices=SCENARIOS, help="these scenarios alone")
    add("--fast", action="store_true", help=f"only {', '.join(FAST)}")
    add("--all", action="store_true", help=f"{', '.join(MORE)} too")
    add("--keep-base", action="store_true", help="runs without faults of the last time")
    options = parser.parse(arguments)
    from tests.models import SMALL_MODEL

    folder = options.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    chaos = Chaos(folder, SMALL_MODEL, options.keep_base)
    results: list[Result] = []
    usual = [name for name in SCENARIOS if options.all or name not in MORE]
    for name in options.only or (FAST if options.fast else usual):
        say(name)
        results.append(SCENARIOS[name](chaos))
        say("\n".join(verdict(results[-1])))
    print(card(results))
    told = [{**asdict(one), "passed": one.passed} for one in results]
    write_atomically({folder / "scorecard.json": {"scenarios": told}})
    return 0 if all(one.passed for one in results) else 1


if __name__ == "__main__":
    sys.exit(run(main))
