"""How late the event loop is: the one number that says whether this process is overloaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from ghostllm.observe.exposition import Histograms, Readings, Sample

INTERVAL = 0.25  # seconds between two looks
WINDOW = 120  # looks: half a minute
BOUNDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0)


class LoopLag:
    """Asks for a callback every so often and sees when it comes.

    Measured with the real clock: uvloop's own is in whole milliseconds and stands still within a turn of the
    loop, so it does not see what a long turn costs.
    """

    def __init__(self) -> None:
        self.family = Histograms(
            "ghostllm_event_loop_lag_seconds", "How late callbacks of the event loop come.", (), BOUNDS
        )
        self.worst = Readings(
            "ghostllm_event_loop_lag_max_seconds",
            "The largest lag of the last half to whole minute.",
            self.read_worst,
            unit="seconds",
        )
        self._histogram = self.family.series(())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._looks = 0
        self._window_max = self._previous_max = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        assert self._loop is not None
        self._due = time.monotonic() + INTERVAL
        self._timer = self._loop.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        lag = max(0.0, time.monotonic() - self._due)
        self._histogram.observe(lag)
        self._window_max = max(self._window_max, lag)
        self._looks += 1
        if self._looks % WINDOW == 0:
            self._previous_max, self._window_max = self._window_max, 0.0
        self._arm()

    def read_worst(self) -> Iterable[Sample]:
        """Two windows, so that two scrapers see the same and neither resets it for the other."""
        return [({}, max(self._window_max, self._previous_max))] if self._looks else []
