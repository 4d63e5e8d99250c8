"""How much a second, over the last minute: totals that are looked at every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping

INTERVAL, WINDOW = 5.0, 60.0  # seconds between two looks; over which the rates are


class Rates:
    """read: the totals now, by name; they never shrink."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read
        self._looks: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=round(WINDOW / INTERVAL) + 1)

    async def run(self) -> None:
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(INTERVAL)

    def look(self, now: float) -> None:
        self._looks.append((now, self._read()))

    def told(self, now: float) -> dict[str, float | None]:
        """Per second, by name; None while no look is a second old. `window_s`: over how long."""
        totals = self._read()
        since, before = self._looks[0] if self._looks else (now, totals)
        seconds = now - since
        told: dict[str, float | None] = {"window_s": round(seconds, 1)}
        for name, total in totals.items():
            told[name] = round((total - before.get(name, 0)) / seconds, 3) if seconds >= 1.0 else None
        return told
