"""Work that waits on a backend, and the rates learned from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.backlog import Backlog, BytesPerToken, PrefillRate


def test_work_waits_until_its_first_token_and_the_head_has_had_its_time():
    backlog = Backlog()
    assert backlog.dispatched(1, 2.0, 10.0)
    assert not backlog.dispatched(2, 3.0, 10.0)
    assert backlog.wait(10.0) == 5.0
    assert backlog.wait(11.5) == 3.5
    assert backlog.wait(20.0) == 3.0  # late: but no more than its own estimate is ever taken off
    backlog.first_token(1, 20.0)
    assert backlog.wait(20.0) == 3.0
    assert backlog.wait(21.0) == 2.0
    assert (backlog.waiting, backlog.decoding, backlog.in_flight) == (1, 1, 2)


def test_a_cancelled_request_leaves_without_a_first_token():
    backlog = Backlog()
    backlog.dispatched(1, 2.0, 0.0)
    backlog.dispatched(2, 2.0, 1.0)
    backlog.left(1)
    assert backlog.wait(1.0) == 2.0
    backlog.left(1)
    backlog.left(2)
    assert (backlog.wait(1.0), backlog.in_flight) == (0.0, 0)


def test_a_first_token_that_cannot_be_seen_is_taken_to_have_come():
    backlog = Backlog()
    backlog.dispatched(1, 1.0, 0.0, hidden=True)
    backlog.dispatched(2, 1.0, 0.0, hidden=True)
    assert backlog.wait(1.9) == 1.0
    assert backlog.wait(2.0) == 0.0  # the first is done since 1.0, so the second has had its second too
    assert (backlog.waiting, backlog.decoding) == (1, 1)
    backlog.wait(100.0)
    assert (backlog.waiting, backlog.in_flight) == (0, 2)
    backlog.left(1)
    backlog.left(2)
    assert backlog.in_flight == 0


def test_a_reported_queue_adds_the_work_of_others_until_it_is_stale():
    backlog = Backlog()
    backlog.dispatched(1, 2.0, 0.0)
    backlog.scraped(4, 0.0)
    assert backlog.wait(0.0) == 2.0 + 3 * 2.0
    assert backlog.wait(3.5) == 0.0
    backlog.scraped(0, 4.0)
    assert backlog.wait(4.0) == 0.0


events = st.lists(
    st.tuples(
        st.sampled_from(("dispatched", "hidden", "first_token", "left")),
        st.integers(0, 6),
        st.floats(0, 5),
        st.floats(0, 3),
    ),
    max_size=60,
)


@given(events)
def test_the_wait_is_never_negative_and_nothing_when_nothing_waits(actions):
    backlog, now, known = Backlog(), 0.0, set()
    for action, request, work, elapsed in actions:
        now += elapsed
        if action in ("dispatched", "hidden"):
            if request not in known:
                backlog.dispatched(request, work, now, hidden=action == "hidden")
                known.add(request)
        elif action == "first_token":
            backlog.first_token(request, now)
        else:
            backlog.left(request)
            known.discard(request)
        wait = backlog.wait(now)
        assert wait >= 0 and (backlog.waiting or wait == 0)
        assert backlog.in_flight == len(known)
    for request in known:
        backlog.left(request)
    assert (backlog.in_flight, backlog.wait(now)) == (0, 0.0)


def test_rates_are_learned():
    rate = PrefillRate()
    for _ in range(100):
        rate.observed(10_000, 0.03 + 10_000 * 0.001)
    assert rate.seconds == pytest.approx(0.001, rel=0.01)
    rate.observed(10, 5.0)  # too short to say anything
    assert rate.seconds == pytest.approx(0.001, rel=0.01)
    ratio = BytesPerToken()
    for _ in range(100):
        ratio.observed(3000, 1000)
    assert ratio.value == pytest.approx(3.0, rel=0.01)
    ratio.observed(10, 0)
    ratio.observed(5, 100_000)
    assert ratio.value > 2.5
