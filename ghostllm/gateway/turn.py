"""A request that waits for its turn: at the queue of its model, or at those of all backends that could serve
it, whichever has a slot first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ghostllm.errors import GhostError, QueueFull
from ghostllm.routing.admission import Entry, Outlook
from ghostllm.routing.catalog import Target
from ghostllm.routing.gate import Gate

Place = tuple[Gate, Target]
"""A queue, and the target that a slot there is for."""


class Turn:
    """Implements ports.Work and routing.gate.Waiter. granted: called with the place and the entry's number,
    in a later turn of the loop than the one in which somebody else gave the slot back. failed: it has waited
    too long.
    """

    __slots__ = ("_failed", "_granted", "_places", "_won", "entry")

    def __init__(
        self,
        entry: Entry,
        places: Sequence[Place],
        granted: Callable[[Place, int], None],
        failed: Callable[[GhostError], None],
    ) -> None:
        self.entry = entry
        self._places = list(places)
        self._granted = granted
        self._failed = failed
        self._won: Place | None = None

    def __repr__(self) -> str:
        return f"<Turn at {' '.join(gate.name for gate, _ in self._places)}>"

    def enter(self, now: float) -> Place | None:
        """The place that begins at once; None: it waits. Raises QueueFull where every queue is full."""
        entered: list[Place] = []
        refused: QueueFull | None = None
        for place in self._places:
            try:
                if place[0].enter(self.entry, self, now):
                    self._places = []
                    self._leave(entered, now)
                    return place
            except QueueFull as error:
                if refused is None or (error.retry_after or 0.0) < (refused.retry_after or 0.0):
                    refused = error
            else:
                entered.append(place)
                if self._won is not None:  # its coming stirred the queues, and one of them has a slot for it
                    return None
        if not entered and refused is not None:
            raise refused
        self._places = entered
        return None

    def cancel(self) -> None:
        """Waits no longer; a slot that was just given goes back."""
        now = time.monotonic()
        won, self._won = self._won, None
        if won is not None:
            won[0].release(self.entry.number, now)
        self._leave(self._settled(), now)

    def outlook(self, now: float) -> Outlook | None:
        """Of the queue where it is furthest ahead."""
        views = (gate.outlook(self.entry.number, now) for gate, _ in self._places)
        return min((view for view in views if view is not None), key=_position, default=None)

    # --- routing.gate.Waiter

    def granted(self, gate: Gate) -> None:
        now = time.monotonic()
        places = self._settled()
        won = next((place for place in places if place[0] is gate), None)
        if won is None:  # while it was leaving this queue for another one's slot
            gate.release(self.entry.number, now)
            return
        self._won = won
        self._leave([place for place in places if place is not won], now)
        # Who gives a slot back is in the middle of its own end.
        asyncio.get_running_loop().call_soon(self._begin)

    def expired(self, gate: Gate, error: GhostError) -> None:
        self._leave([place for place in self._settled() if place[0] is not gate], time.monotonic())
        self._failed(error)

    def closed(self, gate: Gate) -> None:
        """It waits on at the other queues. Where there is none, `granted` is called and finds it gone."""
        gone = next((place for place in self._places if place[0] is gate), None)
        if gone is not None:
            self._places.remove(gone)
            if not self._places:
                self._won = gone
                asyncio.get_running_loop().call_soon(self._begin)

    def _settled(self) -> list[Place]:
        """Where it waited. Leaving a queue can stir the others: none of them is to count for it any more."""
        places, self._places = self._places, []
        return places

    def _begin(self) -> None:
        won, self._won = self._won, None
        if won is not None:
            self._granted(won, self.entry.number)

    def _leave(self, places: Sequence[Place], now: float) -> None:
        for gate, _ in places:
            gate.leave(self.entry.number, now)


def _position(outlook: Outlook) -> int:
    return outlook.position
