#!/usr/bin/env python
"""Lay out the wandb dashboard of a project: a saved view with one section for each group of
metrics.

    python launch/wandb_dashboard.py --project grpo               saves it, and prints its address
    python launch/wandb_dashboard.py --project grpo --dry-run     prints the layout as JSON, needs
    nothing

Runs of the project appear in it as they are logged. Saving needs a wandb key and the package
wandb-workspaces.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # run from a clone, installed or not

from grpo.tracking.redact import redact_text
from grpo.tracking.trackers import dashboard


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description="Lay out the wandb dashboard of a project.")
    parser.add_argument(
        "--project", default="grpo", help="tracking.wandb.project of the runs (default: grpo)"
    )
    parser.add_argument("--entity", default=None, help="user or team (default: that of the key)")
    parser.add_argument("--name", default=dashboard.DEFAULT_NAME, help="name of the saved view")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the layout as JSON and do nothing"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Save the dashboard or print it; returns the exit code."""
    options = parse(arguments)
    if options.dry_run:
        print(
            json.dumps(
                {"name": options.name, "x_axis": "step", "sections": dashboard.layout()}, indent=2
            )
        )
        return 0
    if problem := dashboard.missing():
        print(
            f"The dashboard cannot be saved: {problem}. The layout itself: --dry-run",
            file=sys.stderr,
        )
        return 78
    try:
        print(dashboard.save(options.entity, options.project, options.name))
    # What fails here is the service: no network, a refused key, no such project. One line says it
    # all.
    except Exception as error:
        reason = " ".join(redact_text(f"{type(error).__name__}: {error}").split())
        print(
            f"wandb did not take the dashboard for project {options.project}: {reason}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
