"""The `grpo` command. Every verb is a function elsewhere, imported when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from grpo.common.command_line import run
from grpo.common.errors import UserError
from grpo.common.names import hint


@dataclass(frozen=True, slots=True)
class Verb:
    """One word of the command line, and the `main(arguments) -> exit code` that it stands for."""

    module: str
    usage: str
    says: str


VERBS = {
    "train": Verb("grpo.train", "--config-name RECIPE [key=value ...]", "train as a recipe says"),
    "sft": Verb(
        "grpo.sft", "--config-name RECIPE [key=value ...]", "fine-tune on examples as a recipe says"
    ),
    "sample": Verb(
        "grpo.rejection",
        "--config-name RECIPE [key=value ...]",
        "sample a model and keep right, readable responses as examples for grpo sft",
    ),
    "average": Verb(
        "grpo.commands.average",
        "models=[FOLDER,FOLDER] output_dir=FOLDER [weights=[0.5,0.5]]",
        "average the weights of model folders, such as of a long and a short one",
    ),
    "pipeline": Verb(
        "grpo.pipeline",
        "--config-name RECIPE [key=value ...]",
        "run stages of fine-tuning, RL and sampling, each from what an earlier one made",
    ),
    "plan": Verb(
        "grpo.commands.plan",
        "--config-name RECIPE [--hardware NAME] [key=value ...]",
        "memory of every actor, time of every phase, and which setting makes a recipe fit",
    ),
    "eval": Verb(
        "grpo.commands.evaluate",
        "model=FOLDER data=[SET,...] [recipe=RECIPE] [key=value ...] | compare FIRST SECOND",
        "score a model folder on problem sets, or compare two scores by problem",
    ),
    "analyze": Verb(
        "grpo.commands.analyze",
        "FOLDER_OR_FILE [--output FILE]",
        "reflection, efficiency, loops, languages and lengths of recorded responses",
    ),
    "grade": Verb("rewards.grade", "--input FILE --output FILE", "grade the answers of a file"),
    "prepare": Verb(
        "data.prepare",
        "--input FILE ... --against FILE ... --output FILE",
        "make a clean training set of problem files",
    ),
    "schedule": Verb(
        "grpo.commands.schedule",
        "simulate --config-name RECIPE --metrics FILE [key=value ...]",
        "when the stages of a recipe would have switched on a recorded run",
    ),
    "plots": Verb("grpo.tracking.plots", "RUN_DIR", "draw the plots of a run"),
    "verify": Verb(
        "grpo.commands.verify",
        "RUN [--steps K] [--at STEP ...]",
        "check the hash chain of a run, and do some of its steps again, bit for bit",
    ),
    "replay": Verb(
        "grpo.commands.replay",
        "RUN STEP[.SAMPLE[.TOKEN]]",
        "make a sample of a run again, with its part of loss and gradient",
    ),
    "diff": Verb("grpo.commands.diff", "RUN_A RUN_B", "the first quantity in which two runs part"),
    "dry-run": Verb(
        "grpo.commands.dry_run",
        "--nodes N --gpus-per-node G --config-name RECIPE [key=value ...]",
        "commands, environment and placement of a recipe on a cluster, without one",
    ),
    "doctor": Verb(
        "grpo.commands.doctor",
        "[--self-test --config-name RECIPE [key=value ...]]",
        "what this machine has and lacks, or whether the stack of a recipe is exact",
    ),
}
_ENDS = """`grpo VERB --help` says more. Exit codes: 0 done; 70 a fault of this program; 75 stopped,
and the same command goes on; 76 the numbers of training went wrong; 78 something for you to mend;
130 and 143 stopped by Ctrl-C or SIGTERM with nothing to go on from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    return run(_main, argv)


def _main(argv: Sequence[str] | None) -> int:
    verb, *rest = list(argv or []) or ["--help"]
    if verb in ("-h", "--help"):
        print(usage())
        return 0
    if verb not in VERBS:
        raise UserError(f"unknown verb {verb!r}; {hint(verb, VERBS)}\n{_ENDS}")
    # The verb reads the rest by itself, so that its flags are described in one place.
    command: Callable[[list[str]], int] = importlib.import_module(VERBS[verb].module).main
    return command(rest)


def usage() -> str:
    """What `grpo --help` prints."""
    lines = [f"  grpo {name} {verb.usage}\n      {verb.says}" for name, verb in VERBS.items()]
    return "\n".join(["usage: grpo VERB [...]", "", *lines, "", _ENDS])


if __name__ == "__main__":
    sys.exit(main())
