"""Budgets that hold over all nodes. Money is whole micro-units of the currency; sums are the server's
integers.

An estimate is held while a request runs and replaced by what it cost. The holds of a dead node are free when
its lease is over; what it spent on them is in its own ledger only, and `at_least` brings it here when it is
back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from ghostllm.cluster.holds import Holds
from ghostllm.cluster.link import Link
from ghostllm.cluster.scripts import RAISE, SPEND, SPENT

AFTERWARDS = 172_800  # seconds that the sum of a period is kept after its end


@dataclass(slots=True, frozen=True)
class Purse:
    """One subject's money of one period. subject: as "key:alice". period: a day or a month as the nodes call
    it, such as "2026-11". ends: its last second, since 1970. hard: the most that may be spent; None: no
    limit.
    """

    subject: str
    period: str
    ends: float
    hard: int | None = None

    @property
    def forgotten(self) -> int:
        return round(self.ends) + AFTERWARDS


@dataclass(slots=True, frozen=True)
class Exhausted:
    """Not admitted. spent: so far; held: by requests that run."""

    purse: Purse
    spent: int
    held: int


class Held:
    """Admitted. spent: of each purse, before this request. `settle` it once, however the request ends."""

    __slots__ = ("_amount", "_budgets", "keys", "member", "purses", "spent")

    def __init__(
        self, budgets: SharedBudgets, purses: Sequence[Purse], keys: Sequence[str], identity: str, amount: int
    ) -> None:
        self.purses = purses
        self.keys = keys
        self.member = f"{identity}:{amount}"
        self.spent: Sequence[int] = ()
        self._amount = amount
        self._budgets: SharedBudgets | None = budgets

    def __repr__(self) -> str:
        return f"<Held {self.member} {'open' if self._budgets else 'settled'}>"

    def settle(self, cost: int | None) -> bool:
        """cost: what was spent; None: nobody knows, so what was held. Does not wait; a second time does
        nothing. False: the server is away, and does not hear of it.
        """
        budgets, self._budgets = self._budgets, None
        return budgets is None or budgets.settle(self, self._amount if cost is None else cost)


class SharedBudgets:
    """lease: seconds after which the holds of a dead node are free."""

    def __init__(self, link: Link, lease: float) -> None:
        self.holds = Holds(link, lease, 0)
        self._link = link
        self._prefix = link.prefix + "budget:"

    def __repr__(self) -> str:
        return f"<SharedBudgets {self.holds!r}>"

    async def reserve(self, purses: Sequence[Purse], amount: int) -> Held | Exhausted:
        """Of all purses or of none. amount: the estimate. Raises Away."""
        keys = [self._key(purse, end) for purse in purses for end in ("gauge", "holds")]
        identity = self.holds.identity()
        rules = [figure for purse in purses for figure in (_or_none(purse.hard), purse.forgotten)]
        try:
            answer = await self._link.run(SPEND, keys, identity, amount, self.holds.lease, *rules)
        except asyncio.CancelledError:  # it may be held all the same: what follows it is done after it
            Held(self, purses, keys, identity, amount).settle(0)
            raise
        if answer[0] >= 0:
            return Exhausted(purses[answer[0]], int(answer[1]), int(answer[2]))
        held = Held(self, purses, keys, identity, amount)
        held.spent = [int(figure) for figure in answer[1:]]
        self.holds.add(held)
        return held

    def settle(self, held: Held, cost: int) -> bool:
        """See Held."""
        self.holds.discard(held)
        identity, _, amount = held.member.rpartition(":")
        ends = [purse.forgotten for purse in held.purses]
        return self._link.post(SPENT, held.keys, identity, amount, cost, *ends)

    def add(self, purses: Sequence[Purse], cost: int) -> bool:
        """What was spent without a hold, while the server was away. Does not wait. False: it still is."""
        keys = [self._key(purse, end) for purse in purses for end in ("gauge", "holds")]
        return self._link.post(SPENT, keys, "none", 0, cost, *(purse.forgotten for purse in purses))

    async def at_least(self, purse: Purse, spent: int) -> int:
        """A node's own ledger knows of so much: what is known now. Raises Away."""
        key = self._key(purse, "gauge")
        return int(await self._link.run(RAISE, [key], spent, purse.forgotten))

    async def run(self) -> None:
        """Renews the leases until it is cancelled."""
        await self.holds.run()

    def _key(self, purse: Purse, end: str) -> str:
        return f"{self._prefix}{purse.subject}:{purse.period}:{end}"


def _or_none(limit: int | None) -> int:
    return -1 if limit is None else limit
