"""Limits and budgets that hold over all nodes: the books of policy, asked and told through cluster. Part of
the composition root.

Each node's own books admit a request first; so none exceeds a limit by itself, whatever becomes of the
server. While that is away, each goes by its own or refuses, as is configured. What it spent meanwhile it
tells when the server is back, and a server that has lost its sums is told what this node's own books have.
"""

from __future__ import annotations

from collections.abc import Sequence

from ghostllm.cluster.away import Away, SharedStateAway
from ghostllm.cluster.budgets import Exhausted, Held, Purse, SharedBudgets
from ghostllm.cluster.limits import Bounds, Refusal, Reservation, Room, SharedLimits
from ghostllm.cluster.link import Link
from ghostllm.config.remember import Redis
from ghostllm.policy.account import Shortage
from ghostllm.policy.budgets import Budgets, Share
from ghostllm.policy.limits import Claim, lines_of, refused
from ghostllm.policy.prices import micros, shown
from ghostllm.policy.refusals import BudgetExceeded
from ghostllm.policy.subjects import Subject
from ghostllm.state.calendar import Calendar

KNOWN = 10_000  # purses of which the server has heard; all are told again above that


class Rates:
    """Implements policy.shared.SharedRates."""

    __slots__ = ("_reservation", "lines")

    def __init__(self, reservation: Reservation) -> None:
        self._reservation = reservation
        self.lines = _lines(reservation.rooms)

    def settle(self, used: int) -> None:
        self._reservation.settle(used)


class Money:
    """Implements policy.shared.SharedMoney."""

    __slots__ = ("_books", "_held")

    def __init__(self, books: SharedBooks, held: Held) -> None:
        self._books = books
        self._held = held

    def settle(self, cost: int) -> None:
        if not self._held.settle(cost):
            self._books.owe_purses(self._held.purses, cost)


class SharedBooks:
    """Implements policy.shared.SharedBooks. own: this node's budgets."""

    def __init__(self, link: Link, config: Redis, calendar: Calendar, own: Budgets) -> None:
        self.limits = SharedLimits(link, config.lease)
        self.budgets = SharedBudgets(link, config.lease)
        self.alone = 0  # requests that went by this node's own books
        self._config = config
        self._calendar = calendar
        self._own = own
        self._told: set[Purse] = set()
        self._owed: dict[Purse, int] = {}

    def __repr__(self) -> str:
        return f"<SharedBooks {self.limits!r} {self.budgets!r} owes {len(self._owed)}>"

    async def rates(self, claims: Sequence[Claim], tokens: int) -> Rates | None:
        bounds = [_bounds(claim) for claim in claims]
        try:
            answer = await self.limits.reserve(bounds, tokens)
        except Away:
            self._went_alone(self._config.limits)
            return None
        if isinstance(answer, Refusal):
            subject = claims[bounds.index(answer.bounds)][0]
            raise refused(_shortage(subject, answer), tokens, b"")
        return Rates(answer)

    async def money(self, shares: Sequence[Share], estimate: int, now: float) -> Money | None:
        purses = self._purses(shares, now)
        if not purses or not estimate:
            return None
        try:
            await self._tell(purses, now)
            answer = await self.budgets.reserve(list(purses), estimate)
        except Away:
            self._went_alone(self._config.budgets)
            return None
        if isinstance(answer, Exhausted):
            raise _exceeded(purses[answer.purse], answer, estimate, now)
        return Money(self, answer)

    def owe(self, shares: Sequence[Share], cost: int, now: float) -> None:
        self.owe_purses(list(self._purses(shares, now)), cost)

    def owe_purses(self, purses: Sequence[Purse], cost: int) -> None:
        for purse in purses:
            self._owed[purse] = self._owed.get(purse, 0) + cost

    def lost(self) -> None:
        """The server has gone: nobody knows what it will have when it is back."""
        self._told.clear()

    def back(self) -> None:
        """The server is there again: it is told what was spent without it."""
        owed, self._owed = self._owed, {}
        for purse, cost in owed.items():
            if not self.budgets.add([purse], cost):
                self.owe_purses([purse], cost)

    # --- steps

    async def _tell(self, purses: dict[Purse, tuple[Subject, str]], now: float) -> None:
        """A server that has never heard of a purse, or has lost it, gets this node's sum. Raises Away."""
        for purse, (subject, period) in purses.items():
            if purse not in self._told:
                day, month = self._own.spent(subject, now)
                await self.budgets.at_least(purse, day if period == "day" else month)
                if len(self._told) >= KNOWN:
                    self._told.clear()
                self._told.add(purse)

    def _purses(self, shares: Sequence[Share], now: float) -> dict[Purse, tuple[Subject, str]]:
        """The budgets there are, and whose they are, of the day or the month."""
        today = self._calendar.at(now)
        found: dict[Purse, tuple[Subject, str]] = {}
        for subject, budget in shares:
            if budget is None:
                continue
            name = f"{subject.kind}:{subject.name}"
            if budget.day is not None:
                purse = Purse(name, today.day, today.ends, micros(budget.day))
                found[purse] = subject, "day"
            if budget.month is not None:
                purse = Purse(name, today.month, today.month_ends, micros(budget.month))
                found[purse] = subject, "month"
        return found

    def _went_alone(self, policy: str) -> None:
        if policy == "refuse":
            raise SharedStateAway(max(1.0, self._config.pause)) from None
        self.alone += 1


def _bounds(claim: Claim) -> Bounds:
    subject, limits = claim
    return Bounds(
        f"{subject.kind}:{subject.name}",
        limits.requests_per_minute or None,
        limits.tokens_per_minute or None,
        limits.concurrent or None,
    )


def _shortage(subject: Subject, refusal: Refusal) -> Shortage:
    most = getattr(refusal.bounds, refusal.kind) or 0
    if refusal.kind == "concurrent":
        return Shortage(subject, "concurrent", most, 0)
    wait = None if refusal.retry_after is None else round(refusal.retry_after * 1e6)
    return Shortage(subject, refusal.kind, most, 0, wait, wait is None)


def _lines(rooms: Sequence[Room]) -> bytes:
    """Of requests and of tokens, where least is left."""
    requests = [
        (room.requests, room.bounds.requests, room.requests_reset)
        for room in rooms
        if room.requests is not None and room.bounds.requests is not None
    ]
    tokens = [
        (room.tokens, room.bounds.tokens, room.tokens_reset)
        for room in rooms
        if room.tokens is not None and room.bounds.tokens is not None
    ]
    lines = b""
    for what, rows in ((b"requests", requests), (b"tokens", tokens)):
        if rows:
            left, most, reset = min(rows)
            lines += lines_of(what, most, left, round(reset * 1e6))
    return lines


def _exceeded(whose: tuple[Subject, str], found: Exhausted, estimate: int, now: float) -> BudgetExceeded:
    subject, period = whose
    most = found.purse.hard or 0
    reserved = f" and {shown(found.held)} reserved for requests in flight" if found.held else ""
    return BudgetExceeded(
        f"The budget of {subject} for this {period} is {shown(most)}, of which {shown(found.spent)} is spent"
        f"{reserved} on all gateways; this request may cost {shown(estimate)}.",
        subject=subject,
        period=period,
        spent=found.spent,
        held=found.held,
        most=most,
        retry_after=max(0.0, found.purse.ends - now),
    )
