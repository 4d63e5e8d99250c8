"""Limits hold for every subject, however many come at once and however they end."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.money import RateLimits
from ghostllm.policy.limits import OTHERS, Limiter, duration
from ghostllm.policy.refusals import RateLimited
from ghostllm.policy.subjects import Subject, address

ALICE, BOB, TEAM = Subject("key", "alice"), Subject("key", "bob"), Subject("team", "blue")
NONE = RateLimits()


def refused(limiter, claims, tokens, now):
    with pytest.raises(RateLimited) as caught:
        limiter.reserve(claims, tokens, now)
    return caught.value


def fields(lines):
    pairs = [line.split(": ") for line in lines.decode().splitlines()]
    return {name.removeprefix("x-ratelimit-"): value for name, value in pairs}


def test_two_hundred_at_once_on_fifty_requests_a_minute():
    limiter, limits = Limiter(), RateLimits(requests_per_minute=50)

    async def client(number):
        await asyncio.sleep(random.random() / 100)
        try:
            reservation = limiter.reserve(((ALICE, limits),), 10, 1000.0)
        except RateLimited:
            return 0
        await asyncio.sleep(random.random() / 100)
        reservation.settle(random.choice((None, 0, 10)), 1000.0)
        return 1

    async def everybody():
        return sum(await asyncio.gather(*map(client, range(200))))

    assert asyncio.run(everybody()) == 50


def test_two_hundred_at_once_on_a_hundred_tokens_use_no_more():
    limiter, limits, used = Limiter(), RateLimits(tokens_per_minute=100), []

    async def client(number):
        for _ in range(100):
            await asyncio.sleep(0)
            try:
                reservation = limiter.reserve(((ALICE, limits),), 10, 1000.0)
            except RateLimited:
                continue
            for _ in range(number % 7):
                await asyncio.sleep(0)
            used.append(number % 11)
            reservation.settle(used[-1], 1000.0)

    async def everybody():
        await asyncio.gather(*map(client, range(200)))

    asyncio.run(everybody())
    assert 90 < sum(used) <= 100  # all of it, but for less than another request would reserve


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 20), st.sampled_from("ask ask settle".split()), st.integers(0, 2), st.integers(0, 90)
        ),
        max_size=60,
    )
)
def test_all_subjects_or_none(actions):
    """After each step: nobody is over a limit, and what a refusal left behind is what was there before."""
    limits = {
        ALICE: RateLimits(requests_per_minute=12, tokens_per_minute=200, concurrent=3),
        BOB: RateLimits(tokens_per_minute=100),
        TEAM: RateLimits(requests_per_minute=15, tokens_per_minute=250, concurrent=4),
    }
    groups = ((ALICE, TEAM), (BOB, TEAM), (TEAM,))
    limiter, now, open_, admitted = Limiter(), 50.0, [], []
    for step, action, choice, tokens in actions:
        now += step
        if action == "settle":
            if open_:
                open_.pop(choice % len(open_))[1].settle(tokens // 2, now)
            continue
        claims = tuple((subject, limits[subject]) for subject in groups[choice])
        before = limiter.told(now)
        try:
            open_.append((groups[choice], limiter.reserve(claims, tokens, now)))
        except RateLimited as error:
            after = {(row["kind"], row["name"]): row for row in limiter.told(now)}
            assert all(row == after.get((row["kind"], row["name"]), row) for row in before)
            assert error.subject in groups[choice]
        else:
            admitted.append((now, groups[choice]))
        for subject, bounds in limits.items():
            holding = sum(subject in group for group, _ in open_)
            assert not bounds.concurrent or holding <= bounds.concurrent
            if bounds.requests_per_minute:
                times = [at for at, group in admitted if subject in group]
                for first, begin in enumerate(times):
                    allowed = bounds.requests_per_minute * (1 + (now - begin + 1e-6) / 60)
                    assert len(times) - first <= allowed
    for _, reservation in open_:
        reservation.settle(0, now)
    assert all(row["in_flight"] == 0 for row in limiter.told(now))
    later = now + 3700
    limiter.sweep(later)
    assert len(limiter) == 0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 70), st.booleans()), max_size=30), st.integers(1, 100)
)
def test_retry_after_is_when_this_very_request_is_admitted(history, tokens):
    limiter, now = Limiter(), 123.456
    claims = (
        (ALICE, RateLimits(requests_per_minute=10, tokens_per_minute=100)),
        (TEAM, RateLimits(tokens_per_minute=130)),
    )
    for step, cost, settled in history:
        now += step
        try:
            reservation = limiter.reserve(claims, cost, now)
        except RateLimited:
            continue
        if settled:
            reservation.settle(cost * 2, now)
    try:
        limiter.reserve(claims, tokens, now)
    except RateLimited as error:
        assert error.retry_after is not None and error.retry_after > 0
        if error.retry_after > 0.001:
            refused(limiter, claims, tokens, now + error.retry_after - 0.001)
        limiter.reserve(claims, tokens, now + error.retry_after)


def test_a_refusal_says_which_limit_whose_and_how_much():
    limiter = Limiter()
    claims = ((ALICE, RateLimits(requests_per_minute=1000)), (TEAM, RateLimits(tokens_per_minute=1000)))
    limiter.reserve(claims, 700, 0.0)
    error = refused(limiter, claims, 400, 6.0)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert (error.subject, error.limit, error.most) == (TEAM, "tokens", 1000)
    # Until it is settled the reservation does not drain: it counts as used after 64 s, and 100 tokens take 6.
    assert error.retry_after == pytest.approx(64 - 6 + 6, abs=1e-5)
    assert error.message == (
        "Rate limit reached for team 'blue': 1000 tokens a minute, of which 300 are left; "
        "this request needs up to 400. Try again in 1m4s."
    )
    assert fields(error.lines) == {
        "limit-requests": "1000",
        "remaining-requests": "1000",
        "reset-requests": "0s",
        "limit-tokens": "1000",
        "remaining-tokens": "300",
        "reset-tokens": "42s",
    }


def test_a_refusal_tells_of_what_takes_longest():
    limiter = Limiter()
    claims = ((ALICE, RateLimits(requests_per_minute=60)), (TEAM, RateLimits(requests_per_minute=6)))
    for _ in range(6):
        limiter.reserve(claims, 0, 0.0)
    error = refused(limiter, claims, 0, 0.0)
    assert error.subject == TEAM and error.retry_after == pytest.approx(10, abs=1e-5)
    assert error.message == "Rate limit reached for team 'blue': 6 requests a minute. Try again in 10s."


def test_a_request_that_can_never_fit_is_not_to_be_tried_again():
    limiter = Limiter()
    error = refused(limiter, ((ALICE, RateLimits(tokens_per_minute=100)),), 101, 0.0)
    assert error.retry_after is None and b"x-should-retry: false\r\n" in error.lines
    assert "needs up to 101 tokens, and key 'alice' may use 100 a minute" in error.message


def test_requests_at_one_time():
    limiter, claims = Limiter(), ((ALICE, RateLimits(concurrent=2)),)
    first, _ = limiter.reserve(claims, 0, 0.0), limiter.reserve(claims, 0, 0.0)
    error = refused(limiter, claims, 0, 0.0)
    assert (error.limit, error.most, error.retry_after) == ("concurrent", 2, None)
    assert b"x-should-retry" not in error.lines
    first.settle(0, 0.0)
    first.settle(0, 0.0)  # only the first call counts
    limiter.reserve(claims, 0, 0.0)
    refused(limiter, claims, 0, 0.0)


def test_settling_gives_back_charges_and_takes_the_estimate_where_nobody_knows():
    limiter, claims = Limiter(), ((ALICE, RateLimits(tokens_per_minute=100)),)

    def left():
        return limiter.told(0.0)[0]["remaining_tokens"]

    limiter.reserve(claims, 40, 0.0).settle(10, 0.0)
    assert left() == 90
    limiter.reserve(claims, 40, 0.0).settle(None, 0.0)
    assert left() == 50
    limiter.reserve(claims, 40, 0.0).settle(-5, 0.0)
    assert left() == 50
    limiter.reserve(claims, 10, 0.0).settle(80, 0.0)
    assert left() == 0
    assert refused(limiter, claims, 10, 0.0).retry_after == pytest.approx(24, abs=1e-5)


def test_header_fields_are_those_of_the_subject_with_least_left():
    limiter = Limiter()
    claims = (
        (ALICE, RateLimits(requests_per_minute=60, tokens_per_minute=6000)),
        (TEAM, RateLimits(requests_per_minute=600, tokens_per_minute=3000)),
    )
    reservation = limiter.reserve(claims, 1000, 0.0)
    assert fields(reservation.lines) == {
        "limit-requests": "60",
        "remaining-requests": "59",
        "reset-requests": "1s",
        "limit-tokens": "3000",
        "remaining-tokens": "2000",
        "reset-tokens": "20s",
    }
    reservation.settle(100, 0.0)
    assert fields(limiter.reserve(claims, 0, 1.0).lines)["remaining-tokens"] == "2950"
    assert limiter.reserve(((BOB, NONE),), 1, 0.0).lines == b""


def test_other_limits_after_a_reload_keep_what_was_used():
    limiter = Limiter()
    first = limiter.reserve(((ALICE, RateLimits(tokens_per_minute=100)),), 90, 0.0)
    refused(limiter, ((ALICE, RateLimits(tokens_per_minute=120, concurrent=5)),), 40, 0.0)
    refused(limiter, ((ALICE, RateLimits(concurrent=1)),), 40, 0.0)
    second = limiter.reserve(((ALICE, RateLimits(requests_per_minute=1)),), 0, 0.0)
    third = limiter.reserve(((ALICE, RateLimits(tokens_per_minute=100)),), 95, 0.0)
    first.settle(50, 0.0)  # of the meter that is no more
    assert limiter.told(0.0)[0] == {
        "kind": "key", "name": "alice", "in_flight": 2, "remaining_requests": None, "remaining_tokens": 5,
    }  # fmt: skip
    second.settle(0, 0.0)
    third.settle(0, 0.0)
    assert limiter.told(0.0)[0]["remaining_tokens"] == 100


# --- memory


def test_idle_subjects_make_room_for_new_ones():
    limiter, limits = Limiter(), RateLimits(requests_per_minute=60)
    most = 0
    for number in range(5000):  # ten a second, each back to where it was after one
        limiter.reserve(((Subject("key", str(number)), limits),), 0, number / 10).settle(0, number / 10)
        most = max(most, len(limiter))
    assert most < 60
    limiter.sweep(1000.0)
    assert len(limiter) == 0


def test_what_is_in_use_is_never_forgotten():
    limiter, limits = Limiter(), RateLimits(concurrent=1)
    claims = tuple((Subject("key", str(number)), limits) for number in range(4))
    held = limiter.reserve(claims, 0, 0.0)  # each new one looks at the others, which are idle until now
    for number in range(100):
        limiter.reserve(((Subject("key", f"other {number}"), limits),), 0, 1.0).settle(0, 1.0)
    for claim in claims:
        refused(limiter, (claim,), 0, 2.0)
    held.settle(0, 2.0)
    limiter.reserve(claims, 0, 2.0)


def test_addresses_beyond_the_most_share_one_account():
    limiter, limits = Limiter(most_addresses=10), RateLimits(requests_per_minute=2)
    for number in range(10):
        limiter.reserve(((address(f"10.0.0.{number}"), limits),), 0, 0.0).settle(0, 0.0)
    for number in (10, 11):
        limiter.reserve(((address(f"10.0.0.{number}"), limits),), 0, 0.0).settle(0, 0.0)
    assert len(limiter) == 11
    error = refused(limiter, ((address("10.0.0.12"), limits),), 0, 0.0)
    assert error.subject == OTHERS
    known = limiter.reserve(((address("10.0.0.3"), limits), (ALICE, limits)), 0, 0.0)  # it is as before
    known.settle(0, 0.0)
    limiter.sweep(120.0)
    assert len(limiter) == 0
    limiter.reserve(((address("10.0.0.12"), limits),), 0, 120.0)
    assert limiter.told(120.0)[0]["name"] == "10.0.0.12"


def test_refused_newcomers_leave_nothing_behind():
    limiter = Limiter(most_addresses=100)
    none, some = RateLimits(requests_per_minute=1), RateLimits(requests_per_minute=100)
    limiter.reserve(((ALICE, none),), 0, 0.0)
    for number in range(1000):
        refused(limiter, ((address(f"10.0.{number // 250}.{number % 250}"), some), (ALICE, none)), 0, 0.0)
    assert len(limiter) <= 3


# --- words


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0s"), (1, "1ms"), (12_000, "12ms"), (999_999, "1s"), (1_000_000, "1s"), (1_500_000, "1.5s"),
        (8_640_000, "8.64s"), (60_000_000, "1m0s"), (86_400_000, "1m26.4s"), (3_600_000_000, "1h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(microseconds, text):
    assert duration(microseconds) == text


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("no:address", "no:address"),
    ],
)
def test_who_has_one_address_of_a_network_has_all(peer, name):
    assert address(peer) == Subject("address", name)
