"""The requests of late, to be explained when somebody asks: those under way, and the last ones that are over.

Those that failed have room of their own, so that no number of good ones pushes them out. Few are kept: what
is remembered of a request takes memory that the next one would have found in the processor's cache, and a
thousand of them cost every request a tenth more.

Kept is what asked for a model, and whatever failed. Health checks, scrapes and the admin API's own requests
are not: at one a second they would push out within minutes what people ask about.
"""

from __future__ import annotations

import heapq
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ghostllm.message import Exchange
from ghostllm.observe.timeline import Facts, Recorded, facts

OWN = "admin_"  # how the names of the admin API's routes begin
FAILED = ("error", "broken")

Kept = tuple[Facts, float]
"""What is known of a request, and the Unix time at which it ended."""

Ring = OrderedDict[str, Kept]
"""By request id, the oldest first."""


class Recorder:
    """Implements ports.History. keep: how many that were answered, and how many that were not; 0: nothing is
    remembered at all.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self._open: dict[Exchange, None] = {}
        self._answered: Ring = OrderedDict()
        self._failed: Ring = OrderedDict()

    def __repr__(self) -> str:
        return f"<Recorder {len(self._answered)} and {len(self._failed)} failed, {len(self._open)} open>"

    def resize(self, keep: int) -> None:
        self.keep = keep
        for ring in (self._answered, self._failed):
            while len(ring) > keep:
                ring.popitem(last=False)
        if not keep:
            self._open.clear()  # their ends will not be told

    # --- on the request's path

    def opened(self, exchange: Exchange) -> None:
        if self.keep:
            self._open[exchange] = None

    def finished(self, exchange: Exchange) -> None:
        """Lets go of the exchange, and with it of the request; a repeated id is the newest request's."""
        if not self.keep:
            return
        self._open.pop(exchange, None)
        if exchange.call is None and (exchange.outcome == "ok" or exchange.route.startswith(OWN)):
            return
        ring, name = self._answered if exchange.outcome == "ok" else self._failed, exchange.request_id
        if name in ring:
            del ring[name]
        elif len(ring) >= self.keep:
            ring.popitem(last=False)
        ring[name] = facts(exchange), time.time()

    # --- when somebody asks

    def find(self, request_id: str) -> dict[str, Any] | None:
        """All that is known of a request, as JSON. None: it is not kept, or not any more."""
        for past in self._under_way():
            if past.id == request_id:
                return past.told()
        found = [ring[request_id] for ring in (self._answered, self._failed) if request_id in ring]
        return _recorded(*max(found, key=_ended)).told() if found else None

    def latest(
        self, limit: int, *, outcome: str | None = None, model: str | None = None, key: str | None = None
    ) -> list[dict[str, Any]]:
        """At most `limit` short rows, as JSON: those under way before those that are over, the newest first.

        outcome: as the exchange has it, or "failed" for errors and broken streams. model: as asked for. key:
        its name.
        """
        outcomes = FAILED if outcome == "failed" else (outcome,)
        rows: list[dict[str, Any]] = []
        for past in self._newest_first():
            if len(rows) >= limit:
                break
            fits = outcome is None or past.outcome in outcomes
            if fits and model in (None, past.model) and key in (None, past.key):
                rows.append(past.row())
        return rows

    def _newest_first(self) -> Iterator[Recorded]:
        yield from self._under_way()
        rings = (reversed(ring.values()) for ring in (self._answered, self._failed))
        for known, ended in heapq.merge(*rings, key=_ended, reverse=True):
            yield _recorded(known, ended)

    def _under_way(self) -> Iterator[Recorded]:
        ahead = time.time() - time.monotonic()
        for exchange in reversed(self._open):
            if not exchange.route.startswith(OWN):
                yield Recorded(facts(exchange), exchange.received + ahead)


def _ended(kept: Kept) -> float:
    return kept[1]


def _recorded(known: Facts, ended: float) -> Recorded:
    past = Recorded(known, ended)
    if past.finished is not None:
        past.began -= past.finished - past.received
    return past
