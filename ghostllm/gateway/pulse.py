"""What happens now and then, however many requests there are: signs of life for clients that wait, and the
limits of the queues.

One timer for all, and none while nothing is under way: a timer for each request would cost more than the rest
of its routing.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from ghostllm.routing.router import Router

TICK = 0.5  # seconds


class Living(Protocol):
    """A stream whose client may be waiting."""

    @property
    def over(self) -> bool: ...
    def pulse(self, now: float) -> None: ...


class Pulse:
    """router: whose queues are looked after."""

    __slots__ = ("_router", "_streams", "_timer")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._streams: set[Living] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Pulse of {len(self._streams)} streams>"

    def add(self, stream: Living) -> None:
        self._streams.add(stream)
        self.wake()

    def discard(self, stream: Living) -> None:
        self._streams.discard(stream)

    def wake(self) -> None:
        """Somebody waits in a queue."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        waiting = False
        for gate in self._router.gates():
            if gate.waiting:
                gate.expire(now)
                waiting = waiting or gate.waiting > 0
        for stream in list(self._streams):
            if stream.over:
                self._streams.discard(stream)
            else:
                stream.pulse(now)
        if waiting or self._streams:
            self.wake()
