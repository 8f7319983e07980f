"""`grpo diff`: where two runs part first, in causal order.

grpo diff runs/tiny/FIRST runs/tiny/SECOND
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from grpo.common.command_line import Parser, file_path, run
from grpo.common.errors import UserError

EXIT_DIFFERENT = 1  # as diff(1) has it
_ELSEWHERE = ("output_dir", "resume", "tracking", "allow_config_change")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare from the command line; returns the exit code, 1 where the runs part."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        "grpo diff",
        "Names the first quantity in which two runs part: data, tokens, log-probs, rewards, "
        "advantages, settings, gradient by layer, weights by layer.",
    )
    parser.add_argument("first", type=file_path, metavar="RUN_A", help="the folder of a run")
    parser.add_argument("second", type=file_path, metavar="RUN_B", help="that of another one")
    args = parser.parse(arguments)
    from grpo.tracking.chain import DamagedRecordError, Record
    from grpo.tracking.difference import first_difference

    try:
        records = [Record(folder) for folder in (args.first, args.second)]
        for record in records:
            if not record.steps:
                raise UserError(f"{record.run_dir}: holds no record of a run; name its folder")
        steps = sorted(set(records[0].steps) & set(records[1].steps))
        if not steps:
            raise UserError(f"{args.first} and {args.second} have no step in common")
        found = first_difference(records[0], records[1], steps)
    except DamagedRecordError as error:
        raise UserError(f"{error}; grpo verify tells which run it is") from None
    for line in other_settings(args.first, args.second):
        print(f"setting {line}")
    if found is not None:
        print(f"the runs part at step {found.step}, first in {found.quantity}: {found.text}")
        return EXIT_DIFFERENT
    print(f"steps {steps[0]} to {steps[-1]}: no difference")
    lasts = [record.steps[-1] for record in records]
    if lasts[0] != lasts[1]:
        print(f"one run ends at step {min(lasts)}, and the other at step {max(lasts)}")
        return EXIT_DIFFERENT
    return 0


def other_settings(first: Path, second: Path) -> list[str]:
    """Settings in which the recipes of two runs differ, as `name: value against value`."""
    import yaml

    from grpo.checkpoint.resume import leaves

    try:
        trees = []
        for folder in (first, second):
            tree = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            # By name, so that one setting of one stage is told and not the whole plan.
            stages = {stage["name"]: stage for stage in tree.get("stages") or ()}
            trees.append(leaves({**tree, "stages": stages}))
    except (OSError, ValueError, AttributeError, KeyError, TypeError, yaml.YAMLError):
        return []  # the record can be compared without
    a, b = trees
    return [
        f"{key}: {a.get(key)!r} against {b.get(key)!r}"
        for key in sorted({*a, *b})
        if a.get(key) != b.get(key) and key.split(".")[0] not in _ELSEWHERE
    ]


if __name__ == "__main__":
    sys.exit(main())
