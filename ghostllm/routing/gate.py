"""A queue with those who wait in it: an `Admission`, and whom to tell when a turn comes.

A request may wait at several gates at once, one for each backend that could serve it; the first that has a
slot gets it, and it leaves the others without having cost its key anything there.
"""

from __future__ import annotations

from typing import Protocol

from ghostllm.errors import GhostError
from ghostllm.routing.admission import Admission, Entry, Outlook, Settings


class Waiter(Protocol):
    """Told once: its turn has come at that gate, it has waited too long, or that gate is no more."""

    def granted(self, gate: Gate) -> None: ...
    def expired(self, gate: Gate, error: GhostError) -> None: ...
    def closed(self, gate: Gate) -> None: ...


class Gate:
    """name: of the backend or model that it stands before. What begins is released exactly once."""

    __slots__ = ("_admission", "_waiters", "name")

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._admission = Admission(settings)
        self._waiters: dict[int, Waiter] = {}

    def __repr__(self) -> str:
        return f"<Gate {self.name} {self._admission!r}>"

    @property
    def waiting(self) -> int:
        return self._admission.waiting

    @property
    def running(self) -> int:
        return self._admission.running

    @property
    def loaded(self) -> str | None:
        """The model that a backend of one model at a time holds, as far as is known."""
        return self._admission.loaded

    def enter(self, entry: Entry, waiter: Waiter, now: float) -> bool:
        """True: it begins at once. False: it waits, and the waiter will be told. Raises QueueFull."""
        self._admission.enter(entry, now)
        self._waiters[entry.number] = waiter
        return self._begin(now, entry.number)

    def leave(self, number: int, now: float) -> None:
        """It no longer waits."""
        self._waiters.pop(number, None)
        if self._admission.leave(number):
            self._begin(now)  # it may have been the one for whose model the slots were kept empty

    def release(self, number: int, now: float) -> None:
        """What had begun is over."""
        self._admission.release(number, now)
        self._begin(now)

    def retune(self, settings: Settings, now: float) -> None:
        """There may be more slots now."""
        self._admission.retune(settings)
        self._begin(now)

    def expire(self, now: float) -> None:
        """Tells those who have waited as long as they may."""
        late = self._admission.expired(now)
        for entry, error in late:
            waiter = self._waiters.pop(entry.number, None)
            if waiter is not None:  # None: that another one left has just let it begin elsewhere
                waiter.expired(self, error)
        if late:
            self._begin(now)

    def close(self) -> None:
        """What it stood before is gone: nobody waits for that any longer."""
        waiters, self._waiters = self._waiters, {}
        for number, waiter in waiters.items():
            self._admission.leave(number)
            waiter.closed(self)

    def outlook(self, number: int, now: float) -> Outlook | None:
        return self._admission.outlook(number, now)

    def _begin(self, now: float, entering: int = 0) -> bool:
        """Tells those who begin now. True: the one that is entering is among them, and is told by this."""
        at_once = False
        for entry in self._admission.next(now):
            waiter = self._waiters.pop(entry.number, None)
            if waiter is None:  # it has gone since, while others were told
                self.release(entry.number, now)
            elif entry.number == entering:
                at_once = True
            else:
                waiter.granted(self)
        return at_once
