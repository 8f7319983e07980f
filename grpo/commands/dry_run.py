"""`grpo dry-run`: what a recipe would start on a cluster, before there is one.

It prints the commands of every node, their environment, and which process gets which GPU. Nothing
is started, and neither Ray nor a GPU is needed. Placement is by the function that a run uses.

    grpo dry-run --nodes 4 --gpus-per-node 8 --config-name r1_zero_qwen2.5_7b model.path=/shared/Q
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grpo.common.command_line import Parser, add_recipe, run
from grpo.common.errors import UserError
from grpo.config import load_config
from grpo.config.schema import RunConfig, cpu_problems, gpu_problems
from grpo.runtime.ray.placement import Node, place, units

ROOT = Path(__file__).resolve().parents[2]
# Ports of launch/cluster.env that a driver names; the others are between nodes.
JOB_PORT = 8265


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """One actor of a run."""

    kind: Literal["rank", "engine"]
    index: int
    node: str  # address
    gpus: tuple[int, ...]  # of the node, as Ray numbers them; none on CPU

    def __str__(self) -> str:
        gpus = f"GPU {','.join(map(str, self.gpus))}" if self.gpus else "CPU"
        return f"{self.kind} {self.index:<3} {self.node:<16} {gpus}"


def processes(config: RunConfig, nodes: Sequence[Node]) -> list[Process]:
    """Where a run would put its ranks and engines on an empty cluster.

    Args:
        config: the recipe.
        nodes: of the cluster, with all that they have.

    Raises:
        UserError: the settings cannot work on such nodes, or there is too little of something.
    """
    device = "cuda" if nodes[0].gpus and config.trainer.device != "cpu" else "cpu"
    if problems := (gpu_problems if device == "cuda" else cpu_problems)(config):
        raise UserError("\n".join(problems))
    wanted = units(config, device, with_learner=True)
    placed = place(wanted, nodes, spread_engines=config.cluster.placement == "SPREAD")
    if placed is None:
        need = ", ".join(f"{unit.count} x {unit.bundle}" for unit in wanted.values())
        raise UserError(
            f"{need} do not fit on {len(nodes)} nodes of {nodes[0].cpus:g} CPUs and "
            f"{nodes[0].gpus:g} GPUs, each of them on one node; use more nodes, or change "
            "learner.num_ranks, rollout.num_engines, rollout.gpus_per_engine"
        )
    found = []
    free = dict.fromkeys((node.address for node in nodes), 0)  # the first free GPU
    for role, places in placed.items():
        for i, node in enumerate(places):
            first, count = free[node.address], int(wanted[role].gpus)
            gpus = tuple(range(first, first + count))
            free[node.address] += count
            if role != "ranks":
                found.append(Process(kind="engine", index=i, node=node.address, gpus=gpus))
            if role == "ranks":
                found.append(Process(kind="rank", index=i, node=node.address, gpus=gpus))
            elif role == "pairs":  # each GPU of the engine has a rank too
                found += [
                    Process(kind="rank", index=i * count + j, node=node.address, gpus=(gpu,))
                    for j, gpu in enumerate(gpus)
                ]
    return sorted(found, key=lambda process: (process.kind != "rank", process.index))


def environments(config: RunConfig, device: str) -> dict[str, dict[str, str]]:
    """Variables that a run sets for its processes, by kind, and those of launch/cluster.env."""
    from grpo.learner.spec import LearnerSpec
    from grpo.rollout.vllm.engine import EngineSpec

    learner = LearnerSpec.environment_of(device, config.learner, colocated=config.cluster.colocate)
    rollout = config.rollout
    engine = EngineSpec.environment_of(
        device, rollout.threads_per_engine, eager=rollout.is_eager(device)
    )
    script = f"source {shlex.quote(str(ROOT / 'launch/cluster.env'))} && env -0"
    before = {"HOME": "~", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], env=before, capture_output=True, check=True)
    pairs = [line.partition("=") for line in done.stdout.decode().split("\0") if line]
    shell = {"PWD", "SHLVL", "_", "OLDPWD", *before}
    node = {name: value for name, _, value in pairs if name not in shell}
    return {"node": dict(sorted(node.items())), "rank": learner, "engine": engine}


def commands(addresses: Sequence[str], gpus: int, recipe: Sequence[str]) -> list[tuple[str, str]]:
    """Where to type what, in order; the last two are alternatives.

    Args:
        addresses: of the nodes, the head first.
        gpus: of each.
        recipe: arguments of `grpo train`.
    """
    head, *others = addresses
    arguments = shlex.join(recipe)
    listed = [(head, "launch/ray_node.sh head")]
    listed += [(other, f"launch/ray_node.sh worker {head}") for other in others]
    job = f"RAY_ADDRESS=http://{head}:{JOB_PORT} launch/ray_job.sh {arguments}"
    slurm = f"sbatch --nodes={len(addresses)} --gpus-per-node={gpus} launch/slurm.sbatch"
    return [*listed, ("anywhere", job), ("or with Slurm", f"{slurm} {arguments}")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the plan; returns the exit code."""
    return run(_main, arguments)


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser("grpo dry-run", "What a recipe would start on a cluster, and where.")
    add = parser.add_argument
    add("--nodes", type=int, default=1, help="nodes of the cluster (default: 1)")
    add("--gpus-per-node", type=int, default=8, help="GPUs of each (default: 8); 0 is CPU only")
    add("--cpus-per-node", type=int, default=64, help="CPUs of each (default: 64)")
    add("--addresses", help="of the nodes, with commas; the head first (default: node0,...)")
    add_recipe(parser)
    args = parser.parse(arguments)
    config = load_config(args.config_name, args.overrides, args.config_dir)
    addresses = (args.addresses or ",".join(f"node{i}" for i in range(args.nodes))).split(",")
    if args.nodes < 1 or len(addresses) != args.nodes:
        raise UserError(f"--nodes {args.nodes}: --addresses has {len(addresses)}; name each once")
    nodes = [
        Node(address, address, float(args.cpus_per_node), float(args.gpus_per_node))
        for address in addresses
    ]
    found = processes(config, nodes)
    recipe = ["--config-name", args.config_name, *args.overrides]
    if args.config_dir is not None:
        recipe = ["--config-dir", str(args.config_dir), *recipe]
    print("# commands, on every node in the same folder")
    for where, command in commands(addresses, args.gpus_per_node, recipe):
        print(f"{where:<16} {command}")
    device = "cuda" if found[0].gpus else "cpu"
    for kind, variables in environments(config, device).items():
        print(f"\n# environment of each {kind}" + (": launch/cluster.env" * (kind == "node")))
        for name, value in variables.items():
            print(f"{name}={shlex.quote(value)}")
    print("\n# placement")
    for process in found:
        print(process)
    rank = next(process for process in found if process.kind == "rank")
    print(
        f"\n# addresses\nranks and engines meet at {rank.node}, on ports that the system chooses\n"
        f"drivers join {addresses[0]}:6379 and submit jobs to http://{addresses[0]}:{JOB_PORT}"
    )
    used = {process.node for process in found}
    if idle := [address for address in addresses if address not in used]:
        print(f"nothing is placed on {', '.join(idle)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
