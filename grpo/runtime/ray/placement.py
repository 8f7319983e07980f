"""Which node gets which process. No Ray in here, so that a dry run places as a real run does.

Learner ranks come first, on as few nodes as hold them, because every step they exchange more than
the engines do. Engines are placed on nodes without ranks where there are such. With
`cluster.colocate` an engine and the ranks on its GPUs are one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grpo.config.schema import RunConfig


@dataclass(frozen=True, slots=True)
class Node:
    """What a node has free."""

    id: str  # Ray's
    address: str
    cpus: float
    gpus: float

    def room(self, unit: Unit) -> int:
        """How many of these units fit."""
        by_kind = [(self.cpus, unit.cpus), (self.gpus, unit.gpus)]
        return min(int((have + 1e-6) / need) for have, need in by_kind if need)

    def without(self, unit: Unit, count: int) -> Node:
        """What is left beside `count` of these units."""
        return replace(self, cpus=self.cpus - count * unit.cpus, gpus=self.gpus - count * unit.gpus)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What is placed whole on one node, and how many there are of it: one bundle of Ray each."""

    cpus: float
    gpus: float
    count: int

    @property
    def bundle(self) -> dict[str, float]:
        """The resources, as Ray names them."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return {kind: amount for kind, amount in wanted.items() if amount}


def units(
    config: RunConfig, device: str, *, with_learner: bool, with_engines: bool = True
) -> dict[str, Unit]:
    """What the recipe asks for: `ranks` and `engines`, or `pairs` of an engine and its ranks.

    Args:
        config: the recipe.
        device: "cpu" or "cuda".
        with_learner, with_engines: leave one of them out.
    """
    rollout, learner = config.rollout, config.learner
    on_gpu = device == "cuda"
    if config.cluster.colocate and with_learner and with_engines:
        ranks = int(rollout.gpus_per_engine)
        cpus = rollout.cpus_per_engine + ranks * learner.cpus_per_rank
        return {"pairs": Unit(cpus=cpus, gpus=ranks, count=rollout.num_engines)}
    wanted = {}
    if with_learner:
        gpus = learner.gpus_per_rank if on_gpu else 0
        wanted["ranks"] = Unit(cpus=learner.cpus_per_rank, gpus=gpus, count=learner.num_ranks)
    if with_engines:
        gpus = rollout.gpus_per_engine if on_gpu else 0
        wanted["engines"] = Unit(cpus=rollout.cpus_per_engine, gpus=gpus, count=rollout.num_engines)
    return wanted


def place(
    wanted: dict[str, Unit], nodes: Sequence[Node], *, spread_engines: bool = False
) -> dict[str, list[Node]] | None:
    """The node of every unit, by role. Ranks of one node have consecutive numbers.

    Args:
        wanted: of `units`, ranks before engines.
        nodes: with what they have free, in an order that every run sees alike.
        spread_engines: one engine a node in turn, rather than node after node.

    Returns:
        None where it does not fit. The nodes in it are those that were given.
    """
    given = {node.id: node for node in nodes}
    free = dict(given)
    taken: set[str] = set()
    placed: dict[str, list[Node]] = {}
    for role, unit in wanted.items():
        # sort() keeps the order of equals: first nodes that no other role uses, then the largest.
        order = sorted(free.values(), key=lambda node: (node.id in taken, -node.room(unit)))
        whole = [node for node in order if node.id not in taken and node.room(unit) >= unit.count]
        if whole:  # the tightest node that holds all of them, so that large ones stay whole
            order.insert(0, min(whole, key=lambda node: node.room(unit)))
        places: list[str] = []
        if role == "engines" and spread_engines:
            rooms = {node.id: node.room(unit) for node in order}
            while len(places) < unit.count and any(rooms.values()):
                for node_id in [node_id for node_id, room in rooms.items() if room]:
                    places.append(node_id)
                    rooms[node_id] -= 1
        else:
            for node in dict.fromkeys(order):
                places += [node.id] * node.room(unit)
        if len(places) < unit.count:
            return None
        places = places[: unit.count]
        for node_id in set(places):
            free[node_id] = free[node_id].without(unit, places.count(node_id))
        taken.update(places)
        placed[role] = [given[node_id] for node_id in places]
    return placed
