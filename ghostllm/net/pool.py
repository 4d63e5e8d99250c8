"""Which connection a call gets: decided here without touching a socket, carried out by the client.

A pool holds connections of type C and calls that wait for one. Most recently used first: the others grow old
and expire.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C")
W = TypeVar("W")


@dataclass(slots=True, frozen=True)
class PoolStats:
    idle: int
    active: int
    waiting: int


class Pool(Generic[C, W]):
    """active counts connections in use or being opened. limit: of idle and active together; 0 = none."""

    __slots__ = ("_idle", "_limit", "_waiting", "active")

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._idle: deque[tuple[C, float]] = deque()
        self._waiting: deque[W] = deque()
        self.active = 0

    def __repr__(self) -> str:
        return f"<Pool idle={len(self._idle)} active={self.active} waiting={len(self._waiting)}>"

    @property
    def stats(self) -> PoolStats:
        return PoolStats(len(self._idle), self.active, len(self._waiting))

    def take(self) -> C | None:
        """An idle connection, now active."""
        if not self._idle:
            return None
        self.active += 1
        return self._idle.pop()[0]

    def reserve(self) -> bool:
        """Room for one more connection, counted active from now on; False: the caller has to wait."""
        if self._limit and self.active + len(self._idle) >= self._limit:
            return False
        self.active += 1
        return True

    def wait(self, call: W) -> None:
        self._waiting.append(call)

    def leave(self, call: W) -> None:
        """The call no longer waits."""
        if call in self._waiting:
            self._waiting.remove(call)

    def free(self, connection: C | None, now: float) -> W | None:
        """An active place has become free: the call to serve with it, which keeps it counted active. If
        nobody waits, its connection, if there is one, becomes idle.
        """
        if self._waiting:
            return self._waiting.popleft()
        self.active -= 1
        if connection is not None:
            self._idle.append((connection, now))
        return None

    def drop(self, connection: C) -> bool:
        """An idle connection is gone; False if it was not idle."""
        for entry in self._idle:
            if entry[0] is connection:
                self._idle.remove(entry)
                return True
        return False

    def expired(self, before: float) -> list[C]:
        """Takes out the connections idle since earlier than `before`."""
        gone: list[C] = []
        while self._idle and self._idle[0][1] < before:
            gone.append(self._idle.popleft()[0])
        return gone

    def clear(self) -> list[C]:
        return self.expired(float("inf"))
