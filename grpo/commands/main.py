"""The `grpo` command. Thin: every verb is a function elsewhere, imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable

USAGE = """usage: grpo VERB [...]

  grpo train --config-name RECIPE [key=value ...]   train as a recipe says (also: python -m grpo.train)
  grpo eval  --config-name RECIPE --checkpoint DIR [key=value ...]
                                                    held-out evaluation of a checkpoint folder
  grpo grade --input FILE --output FILE             grade answers in a file (also: python -m rewards.grade)
  grpo doctor                                       what this machine has, what is missing, how to get it

`grpo VERB --help` says more. Exit codes: 0 done; 1 an internal error; 78 something for you to mend.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        print(USAGE)
        return 0
    if verb not in VERBS:
        print(f"grpo: unknown verb {verb!r}\n\n{USAGE}", file=sys.stderr)
        return 78
    return VERBS[verb](rest)


def _train(argv: list[str]) -> int:
    from grpo.train import main

    return main(argv)


def _eval(argv: list[str]) -> int:
    from grpo.commands.evaluate import main

    return main(argv)


def _grade(argv: list[str]) -> int:
    from rewards.grade import main

    return main(argv)


def _doctor(argv: list[str]) -> int:
    from grpo.commands.doctor import main

    return main(argv)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "eval": _eval,
    "grade": _grade,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
