"""How late the event loop is: a callback asked for every so often, and when it came."""

from __future__ import annotations

import asyncio

from ghostllm.observe.metrics import Histogram

INTERVAL = 0.25


class LoopLag:
    """Feeds `histogram` with seconds."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        assert self._loop is not None
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        assert self._loop is not None
        self._histogram.observe(max(0.0, self._loop.time() - self._due))
        self._arm()
