"""The books of the requests: what each may use is reserved before it is sent, and settled and written down
when it is over.

Rules by case. An answer from the cache, a follower of a shared call and a request that was refused by every
backend use no tokens, but count as requests. Of an answer that broke off counts what was said of it, and its
prompt; of one that nobody counted, what was reserved for it. A model's limits are of what is asked for under
its name; what is spent is the model's that answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ghostllm.api.outlay import Outlay, outlay
from ghostllm.config.schema import Config
from ghostllm.message import Call, Exchange, Parameters, Usage
from ghostllm.policy import subjects
from ghostllm.policy.budgets import Budgets, Crossed, Share, Spending
from ghostllm.policy.limits import Claim, Limiter, Reservation
from ghostllm.policy.prices import MICRO
from ghostllm.policy.refusals import BudgetExceeded, RateLimited
from ghostllm.policy.rules import Rules, Standing
from ghostllm.policy.shared import SharedBooks, SharedMoney, SharedRates
from ghostllm.state.calendar import Calendar
from ghostllm.state.ledger import Entry, Ledger

NONE_USED = Usage(0, 0)
EVENT_BYTES = 150
"""Of a stream, around one token: the dialects need 100 to 300."""

MOST_SERIES = 3000
MOST_ROWS = 1000
OTHERS = ("other", "other")


class Booking:
    """What was reserved for one exchange. model: as it asked for it. outlay: what it may use; None where
    only requests are limited. rates, money: what was reserved on all nodes. shares: whose money it spends.
    """

    __slots__ = ("model", "money", "outlay", "rates", "reservation", "shares", "spending")

    def __init__(
        self,
        model: str,
        outlay: Outlay | None,
        reservation: Reservation | None,
        spending: Spending | None,
    ) -> None:
        self.model = model
        self.outlay = outlay
        self.reservation = reservation
        self.spending = spending
        self.shares: Sequence[Share] = ()
        self.rates: SharedRates | None = None
        self.money: SharedMoney | None = None

    def __repr__(self) -> str:
        return f"<Booking {self.reservation!r} {self.spending!r}>"


class Accounts:
    """Implements ports.Accounts, for one thread. shared: the other nodes, where there are any. ledger: None
    where nothing is written down. crossed: told of each soft budget that has been spent.

    open: exchanges with something reserved. refused: requests by kind of subject and by what had no room.
    spent: millionths of the currency by model and key. soft: soft budgets spent, by kind of subject.
    """

    def __init__(
        self, config: Config, calendar: Calendar, ledger: Ledger | None, crossed: Callable[[Crossed], None]
    ) -> None:
        self.limiter = Limiter()
        self.budgets = Budgets(calendar, self._crossed)
        self.ledger = ledger
        self.shared: SharedBooks | None = None
        self.open = 0
        self.refused: dict[tuple[str, str], int] = {}
        self.spent: dict[tuple[str, str], int] = {}
        self.soft: dict[str, int] = {}
        self.active = False
        self._tell = crossed
        self.adopt(config)

    def __repr__(self) -> str:
        return f"<Accounts open={self.open} {self.limiter!r} {self.budgets!r}>"

    def adopt(self, config: Config) -> None:
        """Another configuration. What has been used stays used; what is reserved is settled as it was."""
        self._rules = Rules(config)
        self.limited = self._rules.limited
        self.active = self.active or self.limited or self.ledger is not None

    def reserve(
        self, exchange: Exchange, model: str, parameters: Parameters | None
    ) -> Coroutine[Any, Any, None] | None:
        """See ports.Accounts. Raises RateLimited, BudgetExceeded, Forbidden."""
        rules, call = self._rules, exchange.call
        standing = rules.of(exchange.identity, model)
        if standing.free:
            return None
        assert call is not None
        expected, spending, reservation, tokens = None, None, None, 0
        lines = exchange.fields
        if standing.least or standing.shares:
            expected = outlay(call, parameters, rules.answer_tokens)
            if standing.least:
                expected = _capped(expected, standing.least)
            tokens = expected.prompt + expected.answer
            if standing.shares:
                spending = self._reserve_money(exchange, standing, expected)
        claims = standing.limits
        if rules.address is not None:
            claims = (*claims, (subjects.address(exchange.request.peer), rules.address))
        if claims:
            try:
                reservation = self.limiter.reserve(claims, tokens, time.monotonic())
            except RateLimited as error:
                self._refused(exchange, error, error.limit)
                if spending is not None:
                    spending.settle(0, time.time())
                raise
            exchange.fields += reservation.lines
        exchange.booking = booking = Booking(model, expected, reservation, spending)
        self.open += 1
        if self.shared is None:
            return None
        booking.shares = standing.shares
        if not claims and not standing.budgeted:
            return None
        estimate = 0 if spending is None else spending.estimate
        return self._ask(self.shared, exchange, booking, _Asked(claims, tokens, estimate, lines))

    def closed(self, exchange: Exchange) -> None:
        """See ports.Accounts."""
        booking, call = exchange.booking, exchange.call
        if call is None or (booking is None and self.ledger is None):
            return
        now = time.time()
        rules, usage, model = self._rules, exchange.usage, ""
        expected: Outlay | None = None
        if booking is not None:
            assert isinstance(booking, Booking)
            exchange.booking = None
            expected, model = booking.outlay, booking.model
        if exchange.plan is not None:
            model = exchange.plan.name
        elif exchange.cache == "hit" and not model:
            model = call.model
        if usage.prompt is None or usage.completion is None or exchange.cache == "hit":
            usage = _used(exchange, call, expected, rules.answer_tokens)
        cost = rules.prices.cost(model, usage)
        if booking is not None:
            self.open -= 1
            self._settle(booking, usage, cost or 0, model, now)
        if cost:
            self._add_spent(model, exchange.identity.key, cost)
        if self.ledger is not None:
            self.ledger.record(_entry(exchange, call, model, usage, cost, now))

    def told(self) -> dict[str, Any]:
        """For the admin API. JSON: of `limits` what is left, `budgets` in units of the currency."""
        budgets = [
            {name: value / MICRO if isinstance(value, int) else value for name, value in row.items()}
            for row in self.budgets.told(time.time())[:MOST_ROWS]
        ]
        return {"limits": self.limiter.told(time.monotonic())[:MOST_ROWS], "budgets": budgets}

    # --- several nodes

    async def _ask(self, shared: SharedBooks, exchange: Exchange, booking: Booking, asked: _Asked) -> None:
        """What this node admits, the others may not. Raises RateLimited, BudgetExceeded, SharedStateAway."""
        try:
            if booking.reservation is not None:
                booking.rates = await shared.rates(asked.claims, asked.tokens)
            if booking.spending is not None:
                booking.money = await shared.money(booking.shares, asked.estimate, time.time())
        except (RateLimited, BudgetExceeded) as error:
            exchange.fields = asked.lines
            self._refused(exchange, error, error.limit if isinstance(error, RateLimited) else error.period)
            self._take_back(exchange, booking)
            raise
        except BaseException:  # the client has left, or nothing is served without the others
            self._take_back(exchange, booking)
            raise
        if booking.rates is not None:
            exchange.fields = asked.lines + booking.rates.lines

    def _take_back(self, exchange: Exchange, booking: Booking) -> None:
        """It is not admitted. If its client has left meanwhile, it is settled already."""
        if exchange.booking is not booking:
            return
        exchange.booking = None
        self.open -= 1
        if booking.reservation is not None:
            booking.reservation.undo(time.monotonic())
        if booking.spending is not None:
            booking.spending.settle(0, time.time())
        if booking.rates is not None:
            booking.rates.settle(0)

    # --- steps

    def _settle(self, booking: Booking, usage: Usage, cost: int, model: str, now: float) -> None:
        """model: the one that answered. now: seconds since 1970."""
        tokens = (usage.prompt or 0) + (usage.completion or 0)
        if booking.reservation is not None:
            booking.reservation.settle(tokens, time.monotonic())
        if booking.spending is not None:
            booking.spending.settle(cost, now, None if model == booking.model else model)
        if booking.rates is not None:
            booking.rates.settle(tokens)
        if booking.money is not None:
            booking.money.settle(cost)
        elif cost and self.shared is not None:
            self.shared.owe(booking.shares, cost, now)

    def _reserve_money(self, exchange: Exchange, standing: Standing, expected: Outlay) -> Spending:
        now, rates = time.time(), standing.rates
        estimate = 0 if rates is None else rates.estimate(expected.prompt, expected.answer)
        try:
            spending = self.budgets.reserve(standing.shares, estimate, now)
        except BudgetExceeded as error:
            self._refused(exchange, error, error.period)
            raise
        exchange.fields += spending.lines(now)
        return spending

    def _refused(self, exchange: Exchange, error: RateLimited | BudgetExceeded, what: str) -> None:
        """what: had no room."""
        exchange.fields += error.lines
        kind = error.subject.kind
        self.refused[kind, what] = self.refused.get((kind, what), 0) + 1

    def _add_spent(self, model: str, key: str, cost: int) -> None:
        where = model, key
        if where not in self.spent and len(self.spent) >= MOST_SERIES:
            where = OTHERS
        self.spent[where] = self.spent.get(where, 0) + cost

    def _crossed(self, crossed: Crossed) -> None:
        kind = crossed.subject.kind
        self.soft[kind] = self.soft.get(kind, 0) + 1
        self._tell(crossed)


class _Asked(NamedTuple):
    """What the other nodes are asked for. lines: of the answer's head, without what is told of limits."""

    claims: tuple[Claim, ...]
    tokens: int
    estimate: int
    lines: bytes


def _capped(expected: Outlay, least: int) -> Outlay:
    """An answer to which nobody has set an end is not refused for what it might become: at most, it gets all
    that there is in a minute. least: the smallest of the limits.
    """
    if not expected.bounded and expected.prompt + expected.answer > least > expected.prompt:
        return Outlay(expected.prompt, least - expected.prompt, bounded=False)
    return expected


def _used(exchange: Exchange, call: Call, expected: Outlay | None, usual: int) -> Usage:
    """The usage of an exchange that is over, its gaps filled."""
    usage = exchange.usage
    if exchange.cache == "hit":  # what it is told was used by another
        return NONE_USED
    if usage.prompt is not None and usage.completion is not None:
        return usage
    if not exchange.attempts or (exchange.outcome == "error" and not usage.known):
        return NONE_USED
    if expected is None:
        expected = outlay(call, None, usual)
    prompt, answer = usage.prompt, usage.completion
    if prompt is None:
        prompt = expected.prompt
    if answer is None:
        answer = min(expected.answer, _most_tokens(exchange))
    guessed = prompt != (usage.prompt or 0) or answer != (usage.completion or 0)
    return replace(usage, prompt=prompt, completion=answer, estimated=usage.estimated or guessed)


def _most_tokens(exchange: Exchange) -> int:
    """What an answer may have been that nobody counted, by what of it has gone out. Leaving before the count
    comes must not make it free.
    """
    if exchange.outcome == "ok":
        return exchange.bytes_out  # a token is a byte at least
    return 0 if exchange.committed is None else -(-exchange.bytes_out // EVENT_BYTES)


def _entry(exchange: Exchange, call: Call, model: str, usage: Usage, cost: int | None, now: float) -> Entry:
    """Counts are what was told, as in the access record; only the cost rests on what is filled in."""
    told, received, finished = exchange.usage, exchange.received, exchange.finished
    if exchange.cache == "hit":
        told = NONE_USED
    committed = exchange.committed
    values = (
        now, exchange.request_id, exchange.identity.key, exchange.identity.team, call.model, model,
        exchange.backend or "", exchange.route, exchange.status, exchange.outcome, told.prompt,
        told.completion, told.cached, told.cache_write, told.reasoning, int(usage.estimated),
        int(told.partial), cost,
        None if finished is None else finished - received,
        None if committed is None else committed - received,
        len(exchange.attempts),
    )  # fmt: skip
    return tuple.__new__(Entry, values)  # without its own __new__, which is slower
