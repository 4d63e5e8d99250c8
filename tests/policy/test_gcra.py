"""Rates hold in every window of time, whatever the order of what happens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.policy.gcra import DEBT, PERIOD, SLOT, SLOTS, Gcra, HeldGcra, Steady, slot_of

LIMITS = st.integers(1, 500)
STEPS = st.one_of(st.just(0), st.integers(0, 3_000_000), st.integers(0, 2 * PERIOD))


def fits(meter, cost, now):
    """Whether there would be room for it."""
    return meter.wait(cost, now) == 0


def most_in_any_window(charges, limit):
    """How far the worst window is beyond its bound, in units; charges: (time, amount), by time."""
    worst = 0
    for first, (begin, _) in enumerate(charges):
        total = 0
        for at, amount in charges[first:]:
            total += amount
            worst = max(worst, (total - limit) * PERIOD - (at - begin) * limit)
    return worst


@settings(deadline=None)
@given(LIMITS, st.lists(st.tuples(STEPS, st.integers(1, 60)), max_size=60))
def test_no_window_lets_more_through_than_its_bound(limit, asked):
    meter, now, passed = Gcra(limit, 0), 0, []
    for step, cost in asked:
        now += step
        if meter.take(cost, now):
            passed.append((now, cost))
    assert most_in_any_window(passed, limit) <= 0


@settings(deadline=None)
@given(LIMITS, st.lists(st.tuples(STEPS, st.integers(1, 600)), max_size=40))
def test_who_waits_as_told_is_let_through_and_not_a_microsecond_earlier(limit, asked):
    meter, now = Gcra(limit, 0), 0
    for step, cost in asked:
        now += step
        wait = meter.wait(cost, now)
        if cost > limit:
            assert wait is None and not fits(meter, cost, now)
            continue
        assert wait is not None
        assert not wait or not fits(meter, cost, now + wait - 1)
        now += wait
        assert meter.take(cost, now)


def test_a_minutes_worth_at_once_and_then_an_even_flow():
    meter = Gcra(50, 0)
    passed = 0
    for now in range(0, 60_000_000, 100_000):
        while meter.take(1, now):
            passed += 1
        if now == 0:
            assert passed == 50
    assert passed == 50 + 49  # one each 1.2 s after the first fifty


def test_what_is_left_and_when_all_is_there_again():
    meter = Gcra(60, 0)
    for _ in range(6):
        assert meter.take(1, 0)
    assert (meter.remaining(0), meter.reset(0)) == (54, 6_000_000)
    assert (meter.remaining(2_500_000), meter.reset(2_500_000)) == (56, 3_500_000)
    assert (meter.remaining(6_000_000), meter.reset(6_000_000)) == (60, 0)
    assert meter.remaining(10**12) == 60


def test_another_limit_keeps_what_was_used():
    meter = Gcra(10, 0)
    assert meter.take(10, 0)
    meter.change(20, 0)
    assert meter.remaining(0) == 10
    meter.change(5, 0)
    assert meter.remaining(0) == 0 and meter.wait(1, 0) == 6 * PERIOD // 5


# --- reservations


def begins(slot):
    return slot * SLOT


ACTIONS = st.lists(
    st.tuples(STEPS, st.sampled_from(("ask", "ask", "settle")), st.integers(0, 120), st.integers(0, 10**6)),
    max_size=60,
)


@settings(deadline=None)
@given(LIMITS, ACTIONS)
def test_reservations_never_overshoot_and_what_is_used_stays_within_every_window(limit, actions):
    meter, now, open_, used_at = HeldGcra(limit, 0), 0, [], []
    for step, action, amount, choice in actions:
        now += step
        if action == "ask":
            if meter.hold(amount, slot_of(now), now):
                open_.append((now, amount))
        elif open_:
            since, cost = open_.pop(choice % len(open_))
            used = choice % (cost + 1)
            matured = begins(slot_of(since)) <= now
            meter.settle(cost, slot_of(since), used, now)
            used_at.append((begins(slot_of(since)), cost) if matured else (now, used))
        meter.drain(now)
        assert 0 <= meter.level <= limit * PERIOD
        assert meter.level + meter.held * PERIOD <= limit * PERIOD
        assert meter.held == sum(cost for since, cost in open_ if begins(slot_of(since)) > now)
    used_at += [(begins(slot_of(since)), cost) for since, cost in open_ if begins(slot_of(since)) <= now]
    assert most_in_any_window(sorted(used_at), limit) <= 0


@settings(deadline=None)
@given(LIMITS, st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 60)), max_size=20), st.randoms())
def test_what_was_not_used_is_all_there_again(limit, asked, chance):
    meter, now, open_ = HeldGcra(limit, 0), 0, []
    for step, cost in asked:
        now += step
        if meter.hold(cost, slot_of(now), now):
            open_.append((cost, slot_of(now)))
    chance.shuffle(open_)
    for cost, slot in open_:
        meter.settle(cost, slot, 0, now)
    assert (meter.level, meter.held, meter.remaining(now), meter.reset(now)) == (0, 0, limit, 0)


@settings(deadline=None)
@given(LIMITS, ACTIONS, st.integers(1, 120))
def test_a_reservation_is_admitted_after_the_wait_that_was_told(limit, actions, cost):
    meter, now, open_ = HeldGcra(limit, 0), 0, []
    for step, action, amount, choice in actions:
        now += step
        if action == "ask" and meter.hold(amount, slot_of(now), now):
            open_.append((amount, slot_of(now)))
        elif action == "settle" and open_:
            held, slot = open_.pop(choice % len(open_))
            meter.settle(held, slot, choice % 300, now)  # debts as well
    wait = meter.wait(cost, now)
    if cost > limit:
        assert wait is None
        return
    assert wait is not None
    if wait:
        assert not fits(meter, cost, now + wait - 1)
    assert fits(meter, cost, now + wait)


def test_a_debt_is_paid_before_anything_passes():
    meter = HeldGcra(60, 0)
    assert fits(meter, 10, 0)
    assert meter.hold(10, slot_of(0), 0)
    meter.settle(10, slot_of(0), 180, 0)
    assert meter.wait(1, 0) == 121 * 1_000_000 and meter.remaining(0) == 0
    assert not fits(meter, 1, 121_000_000 - 1) and fits(meter, 1, 121_000_000)


def test_nonsense_from_a_backend_is_no_debt_for_ever():
    meter = HeldGcra(60, 0)
    assert meter.hold(10, slot_of(0), 0)
    meter.settle(10, slot_of(0), 10**30, 0)
    assert meter.wait(60, 0) == DEBT * PERIOD


def test_who_takes_longer_than_a_minute_has_used_what_was_reserved():
    meter = HeldGcra(60, 0)
    assert meter.hold(60, slot_of(0), 0)
    due = SLOTS * SLOT
    assert not fits(meter, 1, due - 1) and not fits(meter, 1, due)
    assert fits(meter, 30, due + 30_000_000)
    meter.settle(60, slot_of(0), 0, due + 30_000_000)  # no room is made a second time
    assert meter.remaining(due + 30_000_000) == 30


def test_who_takes_longer_than_a_minute_and_uses_more_has_a_debt():
    meter = HeldGcra(60, 0)
    assert meter.hold(60, slot_of(0), 0)
    later = SLOTS * SLOT + 30_000_000
    meter.settle(60, slot_of(0), 70, later)
    assert meter.remaining(later) == 20


# --- the clock


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=50))
def test_time_never_goes_back(readings):
    steady, last = Steady(), 0
    for reading in readings:
        now = steady.at(reading)
        assert now >= last
        last = now


def test_a_clock_set_back_neither_fills_nor_freezes_a_meter():
    steady = Steady()
    meter = Gcra(60, steady.at(10_000.0))
    assert meter.take(60, steady.at(10_000.0))
    assert not fits(meter, 1, steady.at(9_999.5))  # read before, told after
    assert not fits(meter, 1, steady.at(100.0))  # set back by hours
    assert not fits(meter, 2, steady.at(101.0)) and fits(meter, 1, steady.at(101.0))
    assert not fits(meter, 60, steady.at(159.0)) and fits(meter, 60, steady.at(160.0))
