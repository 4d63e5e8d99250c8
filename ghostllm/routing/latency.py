"""balance = "latency": the backend that answers soonest, by peak-EWMA (Finagle's): a slower answer counts at
once and in full, a faster one is believed little by little. Pure: `now` is an argument.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from ghostllm.routing.catalog import Target

MEMORY = 10.0
"""Seconds in which an old figure fades to a third."""

PENALTY = 10.0
"""Seconds that a failure counts at least: failing fast is no way to look fast."""


class PeakEwma:
    """Seconds to first token of one backend; None while nothing is known."""

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._at = 0.0

    def __repr__(self) -> str:
        return f"<PeakEwma {self._seconds} s>"

    def observed(self, seconds: float, now: float) -> None:
        old = self._seconds
        if old is None or seconds >= old:
            self._seconds = seconds
        else:
            keep = math.exp(-max(0.0, now - self._at) / MEMORY)
            self._seconds = old * keep + seconds * (1.0 - keep)
        self._at = max(self._at, now)

    def failed(self, seconds: float, now: float) -> None:
        """seconds: how long the attempt took."""
        self.observed(max(seconds, PENALTY, self._seconds or 0.0), now)

    def cost(self, in_flight: int, now: float) -> float | None:
        """Expected seconds with one request more. Without news the figure fades, so that a backend that was
        slow once is asked again.
        """
        if self._seconds is None:
            return None
        fade = math.exp(-max(0.0, now - self._at) / MEMORY)
        return self._seconds * fade * (in_flight + 1)


def order(
    targets: Sequence[Target],
    meter: Callable[[str], PeakEwma],
    load: Callable[[str], int],
    now: float,
    *,
    chance: random.Random,
) -> list[Target]:
    """Least cost per weight first, ties by chance. A backend without figures is asked first, but only with
    one request at a time: until that is answered it ranks with the failing.
    """

    def rank(target: Target) -> tuple[float, float]:
        in_flight = load(target.backend)
        cost = meter(target.backend).cost(in_flight, now)
        if cost is None:
            cost = PENALTY * in_flight
        return cost / max(target.weight, 1e-9), chance.random()

    return sorted(targets, key=rank)
