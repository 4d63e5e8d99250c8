"""Budgets by reservation: what keys, teams and models spend in a day and in a month.

    spending = budgets.reserve(((subject, budget), ...), estimate, now)   # or BudgetExceeded
    ...
    spending.settle(cost, now)                                            # exactly once, however it ended

As with limits, the estimated cost is reserved for all subjects or for none, and settled with the true one.
Money is in whole millionths of the currency. `now` is the time of day (seconds since 1970): budgets go by the
calendar. What was spent is kept by day and month, so a clock that is set back finds what was there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ghostllm.config.money import Budget
from ghostllm.policy.prices import micros, shown
from ghostllm.policy.refusals import BudgetExceeded
from ghostllm.policy.subjects import Subject
from ghostllm.state.calendar import Calendar, Today

DAYS = 3  # beside today, of which it is remembered what was spent, in case the clock goes back
LINE: Final = b"x-ghostllm-budget: %b\r\n"
NEVER: Final = 1 << 62

Share = tuple[Subject, Budget | None]
"""None: counted without a budget, so that one set later finds what was spent."""


class Crossed(NamedTuple):
    """A soft budget has been spent. period: "day" or "month". label: which one: "2026-03-01", "2026-03"."""

    subject: Subject
    period: str
    label: str
    spent: int
    budget: int


class Purse:
    """What one subject has spent, and what is reserved. Of `today`, which whoever asks sets first (`turn`):
    spent since it was set, before that in its day and in its month, room: how much can be spent and held
    since then, alert: how much until a soft budget is spent that has not been told of. others: what was spent
    in other days and months that are remembered.
    """

    __slots__ = (
        "alert", "before_day", "before_month", "budget", "day", "held", "in_flight", "month", "others",
        "room", "soft", "spent", "subject", "today", "told",
    )  # fmt: skip

    def __init__(self, subject: Subject, budget: Budget | None, today: Today) -> None:
        self.subject = subject
        self.today = today
        self.held = self.in_flight = self.spent = self.before_day = self.before_month = 0
        self.others: dict[str, int] = {}
        self.told: set[str] = set()  # periods whose soft budget was told of
        self.adopt(budget)

    def __repr__(self) -> str:
        return f"<Purse {self.subject} held={self.held} {self.today.day}: {self.in_day} {self.in_month}>"

    @property
    def in_day(self) -> int:
        return self.before_day + self.spent

    @property
    def in_month(self) -> int:
        return self.before_month + self.spent

    def adopt(self, budget: Budget | None) -> None:
        self.budget = budget
        self.day = None if budget is None or budget.day is None else micros(budget.day)
        self.month = None if budget is None or budget.month is None else micros(budget.month)
        self.soft = 0 if budget is None else micros(budget.soft)
        self._watch()

    def turn(self, today: Today) -> None:
        """To another day, be it an earlier one; nothing happens if it is the same."""
        others, before = self.others, self.today
        if before is today:
            return
        if self.in_month:
            others[before.day], others[before.month] = self.in_day, self.in_month
        self.today, self.spent = today, 0
        self.before_day, self.before_month = others.pop(today.day, 0), others.pop(today.month, 0)
        self._forget()
        self._watch()

    def lacking(self, estimate: int) -> BudgetExceeded | None:
        """What keeps `estimate` from being spent; of both periods the month, which lasts longer."""
        wanted = self.held + estimate
        if self.month is not None and self.in_month + wanted > self.month:
            return self._error("month", self.in_month, self.month, estimate)
        if self.day is not None and self.in_day + wanted > self.day:
            return self._error("day", self.in_day, self.day, estimate)
        return None

    def load(self, day: str, cost: int) -> None:
        """What had been spent before the start, on a day of this month."""
        self.before_month += cost
        if day == self.today.day:
            self.before_day += cost
        self.told.add(self.today.month)  # whatever that crossed was told of then
        if self.in_day:
            self.told.add(self.today.day)
        self._watch()

    def crossed(self) -> list[Crossed]:
        """Soft budgets that are spent, and have not been told of before."""
        found: list[Crossed] = []
        for period, label, spent, budget in self._periods():
            if budget is not None and label not in self.told and spent >= self._soft(budget):
                self.told.add(label)
                found.append(Crossed(self.subject, period, label, spent, budget))
        self._watch()
        return found

    def share(self) -> tuple[float, str]:
        """The larger share of its budgets that is spent, if a soft one is; 0 if not."""
        largest, which = 0.0, ""
        for period, _, spent, budget in self._periods():
            if budget and self.soft:
                share = spent / budget
                if share * 1_000_000 >= self.soft and share > largest:
                    largest, which = share, period
        return largest, which

    def _periods(self) -> tuple[tuple[str, str, int, int | None], ...]:
        """Of day and month: label, spent, budget."""
        today = self.today
        return (
            ("day", today.day, self.in_day, self.day),
            ("month", today.month, self.in_month, self.month),
        )

    def _watch(self) -> None:
        self.room = self.alert = NEVER
        for _, label, spent, budget in self._periods():
            if budget is not None:
                before = spent - self.spent
                self.room = min(self.room, budget - before)
                if self.soft and label not in self.told:
                    self.alert = min(self.alert, self._soft(budget) - before)

    def _soft(self, budget: int) -> int:
        return max(1, -(-budget * self.soft // 1_000_000))

    def _forget(self) -> None:
        """What no clock will come back to."""
        if len(self.others) > DAYS:
            days = sorted(label for label in self.others if len(label) > 7)
            months = sorted(label for label in self.others if len(label) == 7)
            for label in (*days[:-DAYS], *months[:-2]):
                del self.others[label]
        self.told &= self.others.keys() | {self.today.day, self.today.month}

    def _error(self, period: str, spent: int, most: int, estimate: int) -> BudgetExceeded:
        reserved = f" and {shown(self.held)} reserved for requests in flight" if self.held else ""
        return BudgetExceeded(
            f"The budget of {self.subject} for this {period} is {shown(most)}, of which {shown(spent)} is "
            f"spent{reserved}; this request may cost {shown(estimate)}.",
            subject=self.subject,
            period=period,
            spent=spent,
            held=self.held,
            most=most,
            retry_after=0.0,
        )


class Spending:
    """One admitted request. estimate: what was reserved."""

    __slots__ = ("_budgets", "_open", "_purses", "estimate")

    def __init__(self, budgets: Budgets, purses: list[Purse], estimate: int) -> None:
        self.estimate = estimate
        self._budgets = budgets
        self._purses = purses
        self._open = True

    def __repr__(self) -> str:
        return f"<Spending {shown(self.estimate)} {'open' if self._open else 'settled'}>"

    def settle(self, cost: int | None, now: float, model: str | None = None) -> None:
        """The request is over. cost: in millionths; 0 where nothing was sent to a backend; None where nobody
        knows: the estimate stands. model: the one that answered, if it is not the one that was reserved for:
        the cost is its. Only the first call counts.
        """
        if not self._open:
            return
        self._open = False
        cost = self.estimate if cost is None else max(0, cost)
        self._budgets.settle(self._purses, self.estimate, cost, now, model)

    def lines(self, now: float) -> bytes:
        """`x-ghostllm-budget: key day 83%`: of soft budgets that are spent the one with least left. A header
        line, or nothing.
        """
        for purse in self._purses:
            if purse.told:
                return self._budgets.lines(self._purses, now)
        return b""


class Budgets:
    """For one thread. crossed: called once for each soft budget and period; it must be quick."""

    def __init__(self, calendar: Calendar, crossed: Callable[[Crossed], None]) -> None:
        self._calendar = calendar
        self._crossed = crossed
        self._purses: OrderedDict[Subject, Purse] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Budgets of {len(self._purses)} {self._calendar!r}>"

    def __len__(self) -> int:
        """Subjects that are remembered."""
        return len(self._purses)

    def load(self, rows: Iterable[tuple[str, str, str, int]], now: float) -> None:
        """Once, at the start: what the ledger says was spent this month, as kind, name, day, cost. It is
        added to what has been spent since; soft budgets that it has crossed were told of before.
        """
        today = self._calendar.at(now)
        for kind, name, day, cost in rows:
            self._purse(Subject(kind, name), None, today).load(day, cost)

    def reserve(self, shares: Sequence[Share], estimate: int, now: float) -> Spending:
        """shares: each subject once, with its budget. estimate: what the request may cost, rather too much;
        one of 0 is always admitted.

        Raises BudgetExceeded; nothing is reserved then.
        """
        today, every = self._calendar.at(now), self._purses
        purses: list[Purse] = []
        known = len(every)
        for subject, budget in shares:
            purse = every.get(subject)
            if purse is None or purse.budget is not budget or purse.today is not today:
                purse = self._purse(subject, budget, today)
            held = purse.held + estimate
            if held + purse.spent > purse.room and estimate:
                for one in purses:
                    one.held -= estimate
                    one.in_flight -= 1
                refusal = self._refusal(shares, estimate, today, now)
                self._make_room(known, today)
                raise refusal
            purse.held = held
            purse.in_flight += 1
            purses.append(purse)
        if len(every) > known:  # not before: those in hand are in use only now
            self._make_room(known, today)
        return Spending(self, purses, estimate)

    def settle(
        self, purses: Iterable[Purse], estimate: int, cost: int, now: float, model: str | None
    ) -> None:
        """For `Spending.settle`."""
        today = self._calendar.at(now)
        for purse in purses:
            purse.held -= estimate
            purse.in_flight -= 1
            if not cost:
                continue
            if model is not None and purse.subject.kind == "model":
                answered = Subject("model", model)
                purse = self._purses.get(answered) or self._purse(answered, None, today)
            if purse.today is not today:
                purse.turn(today)
            purse.spent += cost
            if purse.spent >= purse.alert:
                for crossed in purse.crossed():
                    self._crossed(crossed)

    def lines(self, purses: Iterable[Purse], now: float) -> bytes:
        """For `Spending.lines`."""
        today = self._calendar.at(now)
        largest, told = 0.0, b""
        for purse in purses:
            purse.turn(today)
            if purse.told:  # it is told of a soft budget when that has been crossed
                share, period = purse.share()
                if share > largest:
                    largest = share
                    told = f"{purse.subject.kind} {period} {int(share * 100)}%".encode()
        return LINE % told if told else b""

    def spent(self, subject: Subject, now: float) -> tuple[int, int]:
        """Of the day and of the month, without what is reserved."""
        purse = self._purses.get(subject)
        if purse is None:
            return 0, 0
        purse.turn(self._calendar.at(now))
        return purse.in_day, purse.in_month

    def told(self, now: float) -> list[dict[str, str | int | None]]:
        """For the admin API: each subject with its budgets (None: none) and what is spent of them."""
        today = self._calendar.at(now)
        for purse in self._purses.values():
            purse.turn(today)
        return [
            {
                "kind": subject.kind,
                "name": subject.name,
                "held": purse.held,
                "day": purse.in_day,
                "day_budget": purse.day,
                "month": purse.in_month,
                "month_budget": purse.month,
            }
            for subject, purse in self._purses.items()
        ]

    def _refusal(self, shares: Sequence[Share], estimate: int, today: Today, now: float) -> BudgetExceeded:
        """Tells of a budget that has no room, of a month's if one is."""
        every = [self._purse(subject, budget, today).lacking(estimate) for subject, budget in shares]
        lacking = [error for error in every if error is not None]
        refusal = next((error for error in lacking if error.period == "month"), lacking[0])
        ends = today.month_ends if refusal.period == "month" else today.ends
        refusal.retry_after = max(0.0, ends - now)
        return refusal

    def _purse(self, subject: Subject, budget: Budget | None, today: Today) -> Purse:
        """As of today, with its present budget."""
        purse = self._purses.get(subject)
        if purse is None:
            purse = self._purses[subject] = Purse(subject, budget, today)
            return purse
        if purse.budget is not budget:
            purse.adopt(budget)
        purse.turn(today)
        return purse

    def _make_room(self, known: int, today: Today) -> None:
        """For each new subject two old ones are looked at, and forgotten if they spent nothing this month."""
        for _ in range(min(2 * (len(self._purses) - known), len(self._purses))):
            subject, purse = next(iter(self._purses.items()))
            purse.turn(today)
            if purse.in_flight or purse.in_month:
                self._purses.move_to_end(subject)
            else:
                del self._purses[subject]
