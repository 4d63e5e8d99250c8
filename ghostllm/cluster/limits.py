"""Limits that hold over all nodes: requests and tokens a minute, and requests at one time.

The rule is GCRA with a minute's worth at once. Requests are charged when they come. Tokens are held from an
estimate while a request runs, which counts as used, and charged with the true figure when it is over: so
however many run at one time, they cannot overshoot, and what was held too much is free again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ghostllm.cluster.holds import Holds
from ghostllm.cluster.link import Link
from ghostllm.cluster.scripts import RESERVE, SETTLE

KEEP = 120_000  # milliseconds that a gauge is kept after the last lease: no charge is older than a minute

Kind = Literal["requests", "tokens", "concurrent"]


@dataclass(slots=True, frozen=True)
class Bounds:
    """What one subject may do. subject: its kind and name, such as "key:alice". requests, tokens: a minute.
    None: no limit.
    """

    subject: str
    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None


@dataclass(slots=True, frozen=True)
class Refusal:
    """Not admitted. bounds: whose limit, of which kind. retry_after: seconds until there would be room if
    nobody else came; None: nobody knows (concurrent), or never (the request is larger than its limit).
    """

    bounds: Bounds
    kind: Kind
    retry_after: float | None


@dataclass(slots=True, frozen=True)
class Room:
    """What is left of one subject's limits, and seconds until all of it is. None where there is no limit."""

    bounds: Bounds
    requests: int | None
    requests_reset: float
    tokens: int | None
    tokens_reset: float


class Reservation:
    """Admitted. `settle` it once, however the request ends."""

    __slots__ = ("_limits", "_tokens", "bounds", "keys", "member", "rooms")

    def __init__(
        self, limits: SharedLimits, bounds: Sequence[Bounds], keys: Sequence[str], identity: str, tokens: int
    ) -> None:
        self.bounds = bounds
        self.keys = keys
        self.member = f"{identity}:{tokens}"
        self.rooms: Sequence[Room] = ()
        self._tokens = tokens
        self._limits: SharedLimits | None = limits

    def __repr__(self) -> str:
        return f"<Reservation {self.member} {'open' if self._limits else 'settled'}>"

    def settle(self, used: int | None) -> None:
        """used: tokens in all; None: nobody knows, so what was held. Does not wait; a second time does
        nothing. If the server is away it ends with its lease, and its tokens are nowhere charged.
        """
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.settle(self, self._tokens if used is None else used)


class SharedLimits:
    """lease: seconds after which the holds of a dead node are free."""

    def __init__(self, link: Link, lease: float) -> None:
        self.holds = Holds(link, lease, round(lease * 1000) + KEEP)
        self._link = link
        self._prefix = link.prefix + "limit:"

    def __repr__(self) -> str:
        return f"<SharedLimits {self.holds!r}>"

    async def reserve(self, bounds: Sequence[Bounds], tokens: int) -> Reservation | Refusal:
        """For all subjects or for none. tokens: the estimate. Raises Away."""
        holds = self.holds
        keys = [f"{self._prefix}{one.subject}{end}" for one in bounds for end in (":gauge", ":holds")]
        identity = holds.identity()
        limits = [_or_none(limit) for one in bounds for limit in (one.requests, one.tokens, one.concurrent)]
        try:
            answer = await self._link.run(RESERVE, keys, identity, tokens, holds.lease, holds.keep, *limits)
        except asyncio.CancelledError:  # it may be held all the same: what follows it is done after it
            Reservation(self, bounds, keys, identity, tokens).settle(0)
            raise
        if answer[0] == 0:
            _, index, kind, wait = answer
            return Refusal(bounds[index], kind.decode(), None if wait < 0 else wait / 1e6)
        reservation = Reservation(self, bounds, keys, identity, tokens)
        reservation.rooms = [_room(one, answer[1 + 4 * at : 5 + 4 * at]) for at, one in enumerate(bounds)]
        holds.add(reservation)
        return reservation

    def settle(self, reservation: Reservation, used: int) -> None:
        """See Reservation."""
        self.holds.discard(reservation)
        identity, _, held = reservation.member.rpartition(":")
        tokens = [_or_none(one.tokens) for one in reservation.bounds]
        self._link.post(SETTLE, reservation.keys, identity, held, used, self.holds.keep, *tokens)

    async def run(self) -> None:
        """Renews the leases until it is cancelled."""
        await self.holds.run()


def _or_none(limit: int | None) -> int:
    return -1 if limit is None else limit


def _room(bounds: Bounds, figures: Sequence[int]) -> Room:
    requests, requests_reset, tokens, tokens_reset = figures
    return Room(
        bounds,
        None if requests < 0 else requests,
        requests_reset / 1e6,
        None if tokens < 0 else tokens,
        tokens_reset / 1e6,
    )
