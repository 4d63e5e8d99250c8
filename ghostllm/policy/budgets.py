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
from typing import NamedTuple

from ghostllm.config.money import Budget
from ghostllm.message import Pairs
from ghostllm.policy.prices import micros, shown
from ghostllm.policy.refusals import BudgetExceeded
from ghostllm.policy.subjects import Subject
from ghostllm.state.calendar import Calendar, Today

DAYS = 3  # beside today, of which it is remembered what was spent, in case the clock goes back
FIELD = b"x-ghostllm-budget"

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
    """What one subject has spent, and what is reserved. spent: by day and by month."""

    __slots__ = ("budget", "day", "held", "in_flight", "month", "soft", "spent", "subject", "told")

    def __init__(self, subject: Subject, budget: Budget | None) -> None:
        self.subject = subject
        self.held = 0
        self.in_flight = 0
        self.spent: dict[str, int] = {}
        self.told: set[str] = set()  # periods whose soft budget was told of
        self.adopt(budget)

    def __repr__(self) -> str:
        return f"<Purse {self.subject} held={self.held} {self.spent}>"

    def adopt(self, budget: Budget | None) -> None:
        self.budget = budget
        self.day = None if budget is None or budget.day is None else micros(budget.day)
        self.month = None if budget is None or budget.month is None else micros(budget.month)
        self.soft = 0 if budget is None else micros(budget.soft)

    def lacking(self, estimate: int, today: Today) -> BudgetExceeded | None:
        """What keeps `estimate` from being spent; of both periods the month, which lasts longer."""
        if self.month is not None:
            spent = self.spent.get(today.month, 0)
            if spent + self.held + estimate > self.month:
                return self._error("month", spent, self.month, estimate)
        if self.day is not None:
            spent = self.spent.get(today.day, 0)
            if spent + self.held + estimate > self.day:
                return self._error("day", spent, self.day, estimate)
        return None

    def charge(self, cost: int, today: Today) -> None:
        spent = self.spent
        if today.day in spent:
            spent[today.day] += cost
        else:
            self._forget(today)
            spent[today.day] = cost
        spent[today.month] = spent.get(today.month, 0) + cost

    def add(self, label: str, cost: int) -> None:
        self.spent[label] = self.spent.get(label, 0) + cost

    def crossed(self, today: Today) -> list[Crossed]:
        """Soft budgets that are spent, and have not been told of before."""
        found: list[Crossed] = []
        if not self.soft:
            return found
        for period, label, budget in (("day", today.day, self.day), ("month", today.month, self.month)):
            if budget is None or label in self.told:
                continue
            spent = self.spent.get(label, 0)
            if spent and spent * 1_000_000 >= budget * self.soft:
                self.told.add(label)
                found.append(Crossed(self.subject, period, label, spent, budget))
        return found

    def share(self, today: Today) -> tuple[float, str]:
        """The larger share of its budgets that is spent, if a soft one is; 0 if not."""
        largest, which = 0.0, ""
        if self.soft:
            for period, label, budget in (("day", today.day, self.day), ("month", today.month, self.month)):
                if budget:
                    share = self.spent.get(label, 0) / budget
                    if share * 1_000_000 >= self.soft and share > largest:
                        largest, which = share, period
        return largest, which

    def _forget(self, today: Today) -> None:
        """On a new day, what no clock will come back to."""
        days = sorted(label for label in self.spent if len(label) > 7)
        months = sorted(label for label in self.spent if len(label) == 7)
        for label in (*days[:-DAYS], *months[:-2]):
            if label != today.month:
                del self.spent[label]
        self.told &= self.spent.keys() | {today.day, today.month}

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

    def fields(self, now: float) -> Pairs:
        """`x-ghostllm-budget: key day 83%`: of soft budgets that are spent the one with least left."""
        return self._budgets.fields(self._purses, now)


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
        loaded: set[Subject] = set()
        for kind, name, day, cost in rows:
            subject = Subject(kind, name)
            loaded.add(subject)
            purse = self._purses.get(subject)
            if purse is None:
                purse = self._purses[subject] = Purse(subject, None)
            purse.add(day[:7], cost)
            if day == today.day:
                purse.add(day, cost)
        for subject in loaded:
            self._purses[subject].told.update(
                label for label in (today.day, today.month) if label in self._purses[subject].spent
            )

    def reserve(self, shares: Sequence[Share], estimate: int, now: float) -> Spending:
        """shares: each subject once, with its budget. estimate: what the request may cost, rather too much;
        one of 0 is always admitted.

        Raises BudgetExceeded; nothing is reserved then.
        """
        today = self._calendar.at(now)
        purses: list[Purse] = []
        lacking: BudgetExceeded | None = None
        known = len(self._purses)
        for subject, budget in shares:
            purse = self._purses.get(subject)
            if purse is None:
                purse = self._purses[subject] = Purse(subject, budget)
            elif purse.budget is not budget:
                purse.adopt(budget)
            purses.append(purse)
            if budget is not None and estimate and (error := purse.lacking(estimate, today)) is not None:
                if lacking is None or error.period == "month":
                    lacking = error
        if lacking is not None:
            ends = today.month_ends if lacking.period == "month" else today.ends
            lacking.retry_after = max(0.0, ends - now)
            self._make_room(known, today)
            raise lacking
        for purse in purses:
            purse.held += estimate
            purse.in_flight += 1
        if len(self._purses) > known:  # not before: those in hand are in use only now
            self._make_room(known, today)
        return Spending(self, purses, estimate)

    def settle(
        self, purses: Sequence[Purse], estimate: int, cost: int, now: float, model: str | None
    ) -> None:
        """For `Spending.settle`."""
        today = self._calendar.at(now)
        for purse in purses:
            purse.held -= estimate
            purse.in_flight -= 1
            if model is not None and purse.subject.kind == "model" and purse.subject.name != model:
                answered = Subject("model", model)
                purse = self._purses.get(answered) or self._purses.setdefault(answered, Purse(answered, None))
            if cost:
                purse.charge(cost, today)
                if purse.soft:
                    for crossed in purse.crossed(today):
                        self._crossed(crossed)

    def fields(self, purses: Sequence[Purse], now: float) -> Pairs:
        """For `Spending.fields`."""
        today = self._calendar.at(now)
        largest, told = 0.0, b""
        for purse in purses:
            if purse.soft and purse.told:  # it is told of a soft budget when that has been crossed
                share, period = purse.share(today)
                if share > largest:
                    largest = share
                    told = f"{purse.subject.kind} {period} {int(share * 100)}%".encode()
        return ((FIELD, told),) if told else ()

    def spent(self, subject: Subject, now: float) -> tuple[int, int]:
        """Of the day and of the month, without what is reserved."""
        today = self._calendar.at(now)
        purse = self._purses.get(subject)
        if purse is None:
            return 0, 0
        return purse.spent.get(today.day, 0), purse.spent.get(today.month, 0)

    def told(self, now: float) -> list[dict[str, str | int | None]]:
        """For the admin API: each subject with its budgets (None: none) and what is spent of them."""
        today = self._calendar.at(now)
        return [
            {
                "kind": subject.kind,
                "name": subject.name,
                "held": purse.held,
                "day": purse.spent.get(today.day, 0),
                "day_budget": purse.day,
                "month": purse.spent.get(today.month, 0),
                "month_budget": purse.month,
            }
            for subject, purse in self._purses.items()
        ]

    def _make_room(self, known: int, today: Today) -> None:
        """For each new subject two old ones are looked at, and forgotten if they spent nothing this month."""
        for _ in range(min(2 * (len(self._purses) - known), len(self._purses))):
            subject, purse = next(iter(self._purses.items()))
            if purse.in_flight or today.month in purse.spent:
                self._purses.move_to_end(subject)
            else:
                del self._purses[subject]
