"""The order in which one request tries the targets of its model. Pure: chance and load are handed in."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ghostllm.routing.catalog import Target

Load = Callable[[str], int]
"""Requests in flight on a backend."""


class Rotation:
    """Where each model's round robin stands."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def step(self, model: str, size: int) -> int:
        at = self._next.get(model, 0) % size
        self._next[model] = at + 1
        return at


def order(
    policy: str,
    model: str,
    targets: Sequence[Target],
    *,
    load: Load,
    rotation: Rotation,
    chance: random.Random,
    warmth: Callable[[str], float] = lambda backend: 1.0,
) -> list[Target]:
    """failover: as configured. round_robin: each request begins one further. weighted: drawn by weight,
    without putting back. least_requests: fewest in flight per weight first, ties by chance. warmth: factor of
    a backend's weights, below 1 for a while after its return.
    """

    def weight(target: Target) -> float:
        return max(target.weight * warmth(target.backend), 1e-9)

    if len(targets) < 2 or policy == "failover":
        return list(targets)
    if policy == "round_robin":
        at = rotation.step(model, len(targets))
        return [*targets[at:], *targets[:at]]
    if policy == "weighted":
        # Efraimidis and Spirakis (2006): sorting by u^(1/w) draws without replacement in proportion to w.
        return sorted(targets, key=lambda target: -(chance.random() ** (1 / weight(target))))
    if policy == "least_requests":
        return sorted(
            targets,
            key=lambda target: ((load(target.backend) + 1) / weight(target), chance.random()),
        )
    raise ValueError(f"unknown balance policy {policy!r}")
