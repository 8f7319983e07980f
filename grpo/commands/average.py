"""`grpo average`: the weighted average of model folders.

grpo average models=[LONG,SHORT] weights=[0.5,0.5] output_dir=FOLDER
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo.common.command_line import Parser, run, say
from grpo.common.errors import UserError
from grpo.common.files import check_writable, write_atomically
from grpo.common.provenance import versions
from grpo.config.average import AverageConfig, load_average_config

POLICY, SUMMARY = "policy", "summary.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Average from the command line; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo average", "The weighted average of model folders of one architecture.")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as Hydra writes them")
    settings = parser.parse(arguments).settings
    if not settings:
        raise UserError("nothing to average; grpo average models=[LONG,SHORT] output_dir=FOLDER")
    folder = run_average(load_average_config(settings))
    print(f"the average is {folder / POLICY}")
    return 0


def run_average(config: AverageConfig) -> Path:
    """Average as the settings say. The folder that is returned has `policy/`, and `summary.json`
    with the SHA-256 of all weights.

    Raises:
        UserError: a model that cannot be used or differs from the first one, or a folder that holds
            something else.
    """
    started = time.perf_counter()
    folder = Path(config.output_dir).expanduser()
    check_writable([], [folder])
    asked: dict[str, Any] = {"models": list(config.models), "weights": list(config.shares)}
    if (folder / SUMMARY).is_file():
        before = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if all(before.get(key) == value for key, value in asked.items()):
            print(f"{folder} holds this average already; name another output_dir to make it again")
            return folder
        raise UserError(f"output_dir={folder}: holds another average; name another folder")
    ours = {POLICY, f"{POLICY}.partial"}  # of an average that was interrupted
    if folder.is_dir() and {file.name for file in folder.iterdir()} - ours:
        raise UserError(f"output_dir={folder}: is not empty; name another folder")

    from grpo.config.schema import ModelConfig
    from grpo.learner.average import average, check_alike
    from grpo.learner.model_folder import folder_sha256, model_folder

    folders = [model_folder(ModelConfig(path=path), say) for path in config.models]
    check_alike(folders)
    average(folders, config.shares, folder / POLICY)
    found = {
        **asked,
        "models_sha256": [folder_sha256(one) for one in folders],
        "weights_sha256": folder_sha256(folder / POLICY),
        "wall_seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
    }
    # The summary comes last: where it is, everything is.
    write_atomically({folder / SUMMARY: found})
    return folder


if __name__ == "__main__":
    sys.exit(main())
