"""The breaker: its table pair by pair, and what it promises over any history."""

import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import (
    ContextLengthExceeded,
    Overloaded,
    RequestError,
    UpstreamAnswered,
    UpstreamConnectError,
    UpstreamCut,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ghostllm.routing.breaker import TRANSITIONS, Breaker, Event, Settings, State, Verdict, judge
from ghostllm.routing.catalog import Target
from ghostllm.routing.ledger import Ledger, Prompt
from ghostllm.routing.screening import Standing, screen
from ghostllm.routing.smart import Condition

OK, BAD, GONE = Verdict.SUCCESS, Verdict.FAILURE, Verdict.ABANDONED


def fail(breaker, now=0.0, times=5, **more):
    for _ in range(times):
        breaker.settle(breaker.admit(now, force=True), BAD, now, **more)


def opened(**settings):
    breaker = Breaker(Settings(**settings))
    fail(breaker)
    assert breaker.state is State.OPEN
    return breaker


def reach(state):
    breaker = Breaker()
    if state is not State.CLOSED:
        fail(breaker)
    ticket = breaker.admit(2.0)
    return breaker, ticket


CASES = {
    (State.CLOSED, OK): State.CLOSED,
    (State.CLOSED, BAD): State.CLOSED,
    (State.CLOSED, GONE): State.CLOSED,
    (State.HALF_OPEN, OK): State.CLOSED,
    (State.HALF_OPEN, BAD): State.OPEN,
    (State.HALF_OPEN, GONE): State.OPEN,
}


@pytest.mark.parametrize("state, verdict", CASES)
def test_every_outcome_in_every_state(state, verdict):
    breaker, ticket = reach(state)
    assert breaker.state is state
    breaker.settle(ticket, verdict, 2.0)
    assert breaker.state is CASES[state, verdict]


def test_the_table_has_every_pair_but_those_that_cannot_be():
    ends = set(Event) - {Event.ADMITTED}
    assert set(product(State, Event)) - set(TRANSITIONS) == {(State.OPEN, event) for event in ends}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("admit", "force", "settle")),
            st.sampled_from(Verdict),
            st.none() | st.floats(0, 1000),
            st.floats(0, 10),
            st.integers(0, 30),
        ),
        max_size=80,
    )
)
def test_no_history_breaks_it_and_only_one_probe_is_out(actions):
    settings = Settings()
    breaker, now, tickets, probes = Breaker(settings), 0.0, [], []
    for action, verdict, retry_after, elapsed, at in actions:
        now += elapsed
        if action == "settle" and tickets:
            ticket = tickets.pop(at % len(tickets))
            breaker.settle(ticket, verdict, now, retry_after=retry_after)
            probes = [probe for probe in probes if probe.era == breaker._era]
        elif action != "settle":
            allowed = breaker.allows(now)
            ticket = breaker.admit(now, force=action == "force")
            assert (ticket is not None) == (allowed or action == "force")
            if ticket is not None:
                tickets.append(ticket)
                if action == "admit" and ticket.probe:
                    assert probes == []
                if ticket.probe:
                    probes.append(ticket)
        assert breaker.faults(now) >= 0
        assert breaker.until <= now + max(settings.period_max, settings.retry_after_max)


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not():
    breaker = Breaker()
    fail(breaker, times=4)
    breaker.settle(breaker.admit(0.0), OK, 0.0)
    fail(breaker, times=4)
    assert breaker.state is State.CLOSED
    fail(breaker, times=1)
    assert breaker.state is State.OPEN and not breaker.allows(1.9) and breaker.allows(2.0)


def test_half_of_many_opens_it_without_a_row():
    breaker = Breaker()
    for _ in range(10):
        for verdict in (OK, BAD):
            if (ticket := breaker.admit(0.0)) is not None:
                breaker.settle(ticket, verdict, 0.0)
    assert breaker.state is State.OPEN


def test_cancelled_requests_and_stragglers_say_nothing():
    breaker = Breaker()
    early = [breaker.admit(0.0) for _ in range(50)]
    for _ in range(100):
        breaker.settle(breaker.admit(0.0), GONE, 0.0)
    assert breaker.state is State.CLOSED and breaker.faults(0.0) == 0
    fail(breaker)
    for ticket in early:
        breaker.settle(ticket, OK, 1.0)
    assert breaker.state is State.OPEN
    probe = breaker.admit(2.0)
    breaker.settle(probe, OK, 2.5)
    assert breaker.state is State.CLOSED and breaker.closed_at == 2.5 and breaker.faults(2.5) == 0


def test_a_probe_that_is_cancelled_makes_room_for_the_next_at_once():
    breaker = opened()
    probe = breaker.admit(2.0)
    assert breaker.admit(2.0) is None
    breaker.settle(probe, GONE, 3.0)
    assert breaker.admit(3.0).probe


def test_flapping_is_left_alone_for_longer_and_calm_forgives():
    breaker, now, pauses = opened(period=2.0, period_max=60.0), 0.0, []
    for _ in range(8):
        pauses.append(breaker.until - now)
        now = breaker.until
        breaker.settle(breaker.admit(now), OK, now)
        fail(breaker, now)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    breaker.settle(breaker.admit(breaker.until), OK, 1000.0)
    fail(breaker, 1060.0)
    assert breaker.until == 1062.0


def test_retry_after_is_kept_to_and_capped():
    breaker = Breaker(Settings(retry_after_max=100.0))
    fail(breaker, times=1, retry_after=7.0)
    assert breaker.until == 7.0
    breaker.settle(breaker.admit(7.0), BAD, 7.0, retry_after=1e9)
    assert breaker.until == 107.0


def test_the_last_target_is_forced_and_its_success_closes_it():
    breaker = opened()
    ticket = breaker.admit(0.5, force=True)
    breaker.settle(ticket, OK, 1.0)
    assert breaker.state is State.CLOSED


def test_faults_weigh_in_full_only_without_successes():
    failing, slipping = Breaker(), Breaker()
    fail(failing, times=3)
    for _ in range(60):
        slipping.settle(slipping.admit(0.0), OK, 0.0)
    fail(slipping, times=3)
    assert failing.faults(0.0) == 3 and slipping.faults(0.0) < 0.2
    assert failing.faults(10.0) == pytest.approx(1.5)


def answered(status, retryable):
    return UpstreamAnswered("no", upstream_status=status, status=status, code=None, retryable=retryable)


@pytest.mark.parametrize(
    "error, verdict",
    [
        (None, OK),
        (UpstreamConnectError("x"), BAD),
        (UpstreamProtocolError("x"), BAD),
        (UpstreamCut("x"), BAD),
        *(
            (UpstreamTimeout("x", limit=one), BAD)
            for one in ("connect", "load", "head", "first_token", "idle")
        ),
        (UpstreamTimeout("x", limit="total"), GONE),
        *((answered(status, True), BAD) for status in (429, 500, 502, 503, 504, 404)),
        (answered(401, False), BAD),
        (answered(400, False), GONE),
        (answered(422, False), GONE),
        (RequestError("x"), GONE),
        (ContextLengthExceeded("x"), GONE),
        (Overloaded("x"), GONE),
    ],
)
def test_what_counts(error, verdict):
    assert judge(error) is verdict
    assert judge(error, cancelled=True) is GONE


def test_a_target_that_fails_fast_attracts_nothing():
    """Of three backends one refuses at once; a thousand requests, of which each goes on to the next."""
    targets = [Target(name, "m") for name in "abc"]
    breakers = {name: Breaker() for name in "abc"}
    ledger, chance, tries, now = Ledger(), random.Random(1), 0, 0.0
    running = []

    def standing(target):
        breaker = breakers[target.backend]
        closed = breaker.allows(now)
        return Standing(open_until=None if closed else breaker.until)

    def condition(target):
        return Condition(faults=breakers[target.backend].faults(now))

    for number in range(1000):
        now += 0.05
        asked = Prompt("m", 8192, [hash((number, at)) for at in range(8)])
        allowed = screen(targets, standing).allowed
        seats = [ledger.seat(target) for target in allowed]
        for choice in ledger.order(seats, asked, [condition(one) for one in allowed], now, chance)[0]:
            name = choice[1].target.backend
            ticket = breakers[name].admit(now)
            sent = ledger.dispatched(choice[1], asked, now)
            if name != "a":
                running.append((name, ticket, sent))
                break
            tries += 1
            ledger.ended(sent, unsent=True)
            breakers[name].settle(ticket, BAD, now)
        if len(running) > 40:
            name, ticket, sent = running.pop(0)
            ledger.first_token(sent, now)
            ledger.ended(sent)
            breakers[name].settle(ticket, OK, now)
    assert 1 <= tries <= 20
