"""Budgets are not overspent by more than the estimates were wrong, and days and months begin anew."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.money import Budget
from ghostllm.policy.budgets import Budgets
from ghostllm.policy.refusals import BudgetExceeded
from ghostllm.policy.subjects import Subject
from ghostllm.state.calendar import Calendar

ALICE, TEAM, MODEL = Subject("key", "alice"), Subject("team", "blue"), Subject("model", "big")
NOON = datetime(2026, 3, 30, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0


class Told(list):
    def __call__(self, crossed):
        self.append(crossed)


def budgets():
    told = Told()
    return Budgets(Calendar(), told), told


def refused(book, shares, estimate, now=NOON):
    with pytest.raises(BudgetExceeded) as caught:
        book.reserve(shares, estimate, now)
    return caught.value


def spend(book, shares, cost, now=NOON):
    book.reserve(shares, cost, now).settle(cost, now)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, DAY / 3), st.booleans(), st.integers(1, 400_000), st.integers(0, 100)),
        max_size=60,
    )
)
def test_what_is_spent_and_reserved_never_exceeds_a_budget(actions):
    book, _ = budgets()
    shares = ((ALICE, Budget(day=1.0)), (TEAM, Budget(day=1.5, month=2.0)), (MODEL, None))
    now, open_, days, months = NOON, [], {}, {}
    for step, settle, amount, choice in actions:
        now += step
        today = Calendar().at(now)
        if settle and open_:
            estimate, spending = open_.pop(choice % len(open_))
            cost = estimate * choice // 100
            spending.settle(cost, now)
            days[today.day] = days.get(today.day, 0) + cost
            months[today.month] = months.get(today.month, 0) + cost
        elif not settle:
            try:
                open_.append((amount, book.reserve(shares, amount, now)))
            except BudgetExceeded as error:
                assert error.retry_after is not None and error.retry_after > 0
        held = sum(estimate for estimate, _ in open_)
        spent = days.get(today.day, 0), months.get(today.month, 0)
        for subject, budget in shares:
            assert book.spent(subject, now) == spent
            assert budget is None or budget.month is None or spent[1] + held <= budget.month * 1e6
        if settle is False:  # a new day does not refuse what was reserved on the old one
            assert spent[0] + held <= 1_000_000
    for _, spending in open_:
        spending.settle(0, now)
    assert all(row["held"] == 0 for row in book.told(now))


def test_a_refusal_is_one_that_clients_understand():
    book, _ = budgets()
    shares = ((ALICE, Budget(day=10.0)), (TEAM, Budget(month=100.0)))
    spend(book, shares, 9_000_000)
    held = book.reserve(shares, 500_000, NOON)
    error = refused(book, shares, 600_000)
    assert (error.status, error.code) == (429, "insufficient_quota")
    assert error.lines == b"x-should-retry: false\r\n"
    assert (error.subject, error.period, error.spent, error.held, error.most) == (
        ALICE, "day", 9_000_000, 500_000, 10_000_000,
    )  # fmt: skip
    assert error.retry_after == DAY / 2
    assert error.message == (
        "The budget of key 'alice' for this day is 10.00, of which 9.00 is spent and 0.50 reserved for "
        "requests in flight; this request may cost 0.60."
    )
    held.settle(0, NOON)
    book.reserve(shares, 600_000, NOON)


def test_of_two_budgets_the_one_that_lasts_longer_is_told_of():
    book, _ = budgets()
    shares = ((ALICE, Budget(day=1.0)), (TEAM, Budget(day=1.0, month=1.0)))
    spend(book, shares, 1_000_000)
    error = refused(book, shares, 1)
    assert (error.subject, error.period, error.retry_after) == (TEAM, "month", 1.5 * DAY)


def test_a_budget_of_nothing_and_what_is_free():
    book, _ = budgets()
    shares = ((ALICE, Budget(day=0.0)),)
    refused(book, shares, 1)
    book.reserve(shares, 0, NOON).settle(0, NOON)


def test_settling_charges_the_truth_once():
    book, _ = budgets()
    shares = ((ALICE, Budget(day=1.0)),)
    spending = book.reserve(shares, 400_000, NOON)
    spending.settle(900_000, NOON)  # more than was estimated
    spending.settle(900_000, NOON)
    assert book.spent(ALICE, NOON) == (900_000, 900_000)
    book.reserve(shares, 50_000, NOON).settle(None, NOON)  # nobody knows
    assert book.spent(ALICE, NOON) == (950_000, 950_000)
    book.reserve(shares, 50_000, NOON).settle(-7, NOON)
    assert book.spent(ALICE, NOON) == (950_000, 950_000)


def test_a_new_day_and_a_new_month_begin_with_nothing():
    book, _ = budgets()
    shares = ((ALICE, Budget(day=1.0, month=2.0)),)
    spend(book, shares, 1_000_000)
    refused(book, shares, 1, NOON + DAY / 2 - 1)
    spend(book, shares, 1_000_000, NOON + DAY / 2)
    refused(book, shares, 1, NOON + 1.5 * DAY - 1)
    spend(book, shares, 1_000_000, NOON + 1.5 * DAY)  # April
    assert book.spent(ALICE, NOON + 1.5 * DAY) == (1_000_000, 1_000_000)


def test_a_clock_set_wrong_and_right_again_frees_nothing():
    book, _ = budgets()
    shares = ((ALICE, Budget(day=1.0, month=1.0)),)
    spend(book, shares, 1_000_000)
    spend(book, shares, 1_000_000, NOON + 40 * DAY)
    refused(book, shares, 1, NOON)
    spend(book, shares, 1_000_000, NOON - 40 * DAY)
    refused(book, shares, 1, NOON)
    refused(book, shares, 1, NOON + 40 * DAY)


def test_only_a_few_days_are_remembered():
    book, _ = budgets()
    for day in range(400):
        spend(book, ((ALICE, None),), 1, NOON + day * DAY)
    assert len(book._purses[ALICE].others) <= 8


def test_the_answering_model_is_charged():
    book, _ = budgets()
    other = Subject("model", "small")
    spending = book.reserve(((ALICE, None), (MODEL, Budget(day=1.0))), 300_000, NOON)
    spending.settle(200_000, NOON, "small")
    assert book.spent(MODEL, NOON) == (0, 0) and book.spent(other, NOON) == (200_000, 200_000)
    assert book.spent(ALICE, NOON) == (200_000, 200_000)
    book.reserve(((MODEL, Budget(day=1.0)),), 1_000_000, NOON)


# --- soft budgets


def test_a_soft_budget_is_told_of_once_for_each_period():
    book, told = budgets()
    shares = ((ALICE, Budget(day=1.0, month=10.0, soft=0.8)), (TEAM, Budget(day=100.0)))
    spending = book.reserve(shares, 790_000, NOON)
    spending.settle(790_000, NOON)
    assert told == [] and spending.lines(NOON) == b""
    for _ in range(3):
        spending = book.reserve(shares, 20_000, NOON)
        spending.settle(20_000, NOON)
    assert told == [(ALICE, "day", "2026-03-30", 810_000, 1_000_000)]
    assert spending.lines(NOON) == b"x-ghostllm-budget: key day 85%\r\n"
    spend(book, shares, 900_000, NOON + DAY)
    assert [crossed.label for crossed in told] == ["2026-03-30", "2026-03-31"]


def test_soft_zero_is_never_told_of():
    book, told = budgets()
    shares = ((ALICE, Budget(day=1.0, soft=0.0)),)
    spend(book, shares, 1_000_000)
    assert told == [] and book.told(NOON)[0]["day"] == 1_000_000


# --- the start


def test_the_ledger_tells_where_budgets_stand():
    book, told = budgets()
    shares = ((ALICE, Budget(day=1.0, month=3.0)), (TEAM, Budget(month=2.5)))
    spend(book, shares, 100_000)  # before the ledger had answered
    book.load(
        [
            ("key", "alice", "2026-03-02", 1_500_000),
            ("key", "alice", "2026-03-30", 700_000),
            ("team", "blue", "2026-03-02", 1_500_000),
            ("team", "blue", "2026-03-30", 700_000),
        ],
        NOON,
    )
    assert book.spent(ALICE, NOON) == (800_000, 2_300_000)
    assert book.spent(TEAM, NOON) == (800_000, 2_300_000)
    error = refused(book, shares, 210_000)
    assert error.period == "month" and error.subject == TEAM
    spend(book, shares, 150_000)
    assert told == []  # what had been crossed before was told of before


# --- memory


def test_who_spent_nothing_this_month_is_forgotten_and_who_is_in_flight_is_not():
    book, _ = budgets()
    held = book.reserve(((ALICE, Budget(day=1.0)), (TEAM, None), (MODEL, None)), 0, NOON)
    for number in range(3000):
        spend(book, ((Subject("key", str(number)), None),), 1, NOON)
    for number in range(3000):
        spend(book, ((Subject("key", f"next {number}"), None),), 0, NOON + 32 * DAY)
    assert len(book) < 100
    held.settle(5, NOON + 32 * DAY)
    assert [book.spent(subject, NOON + 32 * DAY)[0] for subject in (ALICE, TEAM, MODEL)] == [5, 5, 5]
