#!/usr/bin/env python
"""Lay out the wandb dashboard of a project: a saved view with one section for each group of
metrics.

    python launch/wandb_dashboard.py --project grpo               saves it, and prints its address
    python launch/wandb_dashboard.py --project grpo --dry-run     prints the layout as JSON, needs
    nothing

Runs of the project appear in it as they are logged. Saving needs a wandb key and the package
wandb-workspaces.
"""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # run from a clone, installed or not

from grpo.common.command_line import Parser, run
from grpo.common.errors import UserError
from grpo.tracking.redact import redact_text
from grpo.tracking.trackers import dashboard


def parse(arguments: Sequence[str] | None) -> Namespace:
    """The options of the command line.

    Raises:
        UserError: an unknown option, or a name that wandb does not take.
    """
    parser = Parser(
        "launch/wandb_dashboard.py",
        "Lay out the wandb dashboard of a project: a saved view, one section for each group.",
        "Saving needs a key of wandb and the package wandb-workspaces. --dry-run needs neither.",
    )
    add = parser.add_argument
    add("--project", default="grpo", help="tracking.wandb.project of the runs (default: grpo)")
    add("--entity", help="user or team (default: that of the key)")
    add("--name", default=dashboard.DEFAULT_NAME, help="name of the view (default: %(default)s)")
    add("--dry-run", action="store_true", help="print the layout as JSON and do nothing")
    options = parser.parse(arguments)
    for key in ("project", "entity", "name"):
        value = getattr(options, key)
        if value is not None and not value.strip():
            raise UserError(f"--{key} is empty; name one, or leave it out")
        if key != "name" and value is not None and (bad := re.search(r"[/\\#?%:]", value)):
            raise UserError(
                f"--{key} {value}: wandb takes no {bad[0]!r} in it; team and project are two "
                "options, --entity TEAM --project NAME"
            )
    return options


def main(arguments: Sequence[str] | None) -> int:
    """Save the dashboard or print it; returns the exit code.

    Raises:
        UserError: the package or the key is missing, or the key has no team and none was named.
    """
    options = parse(arguments)
    if options.dry_run:
        layout = {"name": options.name, "x_axis": "step", "sections": dashboard.layout()}
        print(json.dumps(layout, indent=2))
        return 0
    if problem := dashboard.missing():
        raise UserError(f"the dashboard cannot be saved: {problem}. The layout itself: --dry-run")
    try:
        print(dashboard.save(options.entity, options.project, options.name))
    except UserError:
        raise
    # What fails here is the service: no network, a refused key, no such project. One line says it
    # all.
    except Exception as error:
        reason = " ".join(redact_text(f"{type(error).__name__}: {error}").split())
        print(
            f"grpo: wandb did not take the dashboard for project {options.project}: {reason}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
