"""What follows a failed attempt."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.traffic import Routing
from ghostllm.errors import (
    CannotContinue,
    QueueFull,
    RequestError,
    UnsupportedParameter,
    UpstreamAnswered,
    UpstreamConnectError,
    UpstreamRefused,
    UpstreamResting,
    UpstreamTimeout,
)
from ghostllm.routing.catalog import Target
from ghostllm.routing.failover import Failover

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")


def answered(status, retry_after=None, retryable=True):
    return UpstreamAnswered(
        f"said {status}",
        upstream_status=status,
        status=status,
        code=None,
        retryable=retryable,
        retry_after=retry_after,
    )


class Open:
    """Every target may be had, and paid for, but for those named."""

    def __init__(self, resting=(), broke=(), full=()):
        self.resting, self.broke, self.full = set(resting), set(broke), set(full)

    def able(self, target, now):
        return target not in self.resting | self.full

    def waits(self, target, now):
        return target in self.full

    def pay(self, target, now):
        return target not in self.broke


class Tries:
    """A failover whose steps are taken."""

    def __init__(self, failover):
        self.failover = failover
        failover.trying(failover.current)

    def after(self, error, **how):
        step = self.failover.after(error, 0.0, **how)
        if step is not None:
            self.failover.trying(step[0])
        return step

    def __getattr__(self, name):
        return getattr(self.failover, name)


def plan(*targets, ways=None, **routing):
    return Tries(Failover(targets, Routing(**routing), random.Random(3), ways or Open()))


def test_the_next_target_is_tried_at_once():
    failover = plan(A, B)
    assert failover.after(UpstreamConnectError("down")) == (B, 0.0)


def test_a_fault_of_the_request_ends_it():
    failover = plan(A, B)
    fault = RequestError("no")
    assert failover.after(fault) is None
    assert failover.verdict() is fault


def test_a_single_target_is_tried_again_after_growing_jittered_pauses():
    failover = plan(A, attempts=4, backoff=1.0, backoff_max=100.0)
    pauses = [failover.after(answered(500))[1] for _ in range(3)]
    for pause, full in zip(pauses, (1.0, 2.0, 4.0), strict=True):
        assert full / 2 <= pause <= full
    assert failover.after(answered(500)) is None


def test_retry_after_is_waited_for_up_to_the_cap():
    failover = plan(A, retry_after_max=20.0)
    assert failover.after(answered(429, retry_after=7.0)) == (A, 7.0)
    impatient = plan(A, retry_after_max=5.0)
    assert impatient.after(answered(429, retry_after=7.0)) is None
    assert impatient.verdict().retry_after == 7.0


def test_of_those_that_asked_to_wait_the_soonest_is_tried_again():
    failover = plan(A, B, attempts=3)
    failover.after(answered(429, retry_after=9.0))
    assert failover.after(answered(503, retry_after=2.0)) == (B, 2.0)


def test_when_all_refuse_for_load_the_shortest_wait_is_told():
    failover = plan(A, B, attempts=2)
    failover.after(answered(429, retry_after=3.0))
    assert failover.after(answered(429, retry_after=30.0)) is None
    assert failover.verdict().retry_after == 3.0


def test_a_refusal_that_would_not_change_is_not_repeated():
    assert plan(A).after(answered(401)) is None
    assert plan(A).after(UpstreamTimeout("slow", limit="head")) is None
    assert plan(A, B).after(answered(401)) == (B, 0.0)


def test_what_one_backend_cannot_do_another_may_and_costs_no_attempt():
    failover = plan(A, B, C, attempts=1)
    assert failover.after(UnsupportedParameter("n", param="n")) == (B, 0.0)
    assert failover.after(UnsupportedParameter("n", param="n")) == (C, 0.0)
    assert failover.after(UnsupportedParameter("n", param="n")) is None
    assert failover.verdict().param == "n"


@given(
    size=st.integers(1, 5),
    attempts=st.integers(1, 6),
    errors=st.lists(
        st.sampled_from([500, 503, 429, 401, 404]).map(lambda status: answered(status, 0.1)),
        min_size=12,
        max_size=12,
    ),
)
def test_attempts_are_bounded_and_targets_are_first_tried_in_order(size, attempts, errors):
    targets = [Target(f"b{index}", "m") for index in range(size)]
    failover = plan(*targets, attempts=attempts)
    tried = [failover.current]
    for error in errors:
        step = failover.after(error)
        if step is None:
            break
        tried.append(step[0])
    assert len(tried) <= attempts
    assert tried[:size] == targets[: len(tried[:size])]


def test_those_that_may_be_had_come_before_those_that_rest():
    failover = plan(A, B, C, ways=Open(resting=[B]))
    assert failover.after(answered(401)) == (C, 0.0)
    assert failover.after(answered(401)) == (B, 0.0), "better than nothing"
    assert failover.last


def test_a_rest_is_not_broken_while_another_may_be_tried_again():
    failover = plan(A, B, ways=Open(resting=[B]))
    target, pause = failover.after(answered(500))
    assert target == A and pause > 0


def test_a_queue_is_waited_in_before_a_target_is_tried_again():
    failover = plan(A, B, C, ways=Open(resting=[B], full=[C]))
    assert failover.after(UpstreamConnectError("down")) == (C, 0.0)
    target, pause = failover.after(UpstreamConnectError("down"))
    assert target == A and pause > 0


def test_a_target_that_rests_is_likelier_than_one_where_nothing_listens():
    failover = plan(A, B, ways=Open(resting=[B]))
    assert failover.after(UpstreamRefused("refused")) == (B, 0.0)
    target, pause = failover.after(UpstreamRefused("refused"))
    assert target == A and pause > 0


def test_what_cannot_be_paid_for_is_not_tried():
    assert plan(A, B, ways=Open(broke=[B])).after(answered(401)) is None
    assert plan(A, B, ways=Open(broke=[A, B])).after(answered(500)) is None
    assert plan(A, B, C, ways=Open(broke=[B])).after(answered(500)) == (C, 0.0)


def test_no_error_of_one_that_goes_on_with_a_stream_is_the_client_s_fault():
    refused = answered(400, retryable=False)
    assert plan(A, B).after(refused) is None
    assert plan(A, B).after(refused, resuming=True) == (B, 0.0)


def test_nothing_sent_is_no_attempt():
    failover = plan(A, B, C, attempts=1)
    assert failover.after(UpstreamResting("resting")) == (B, 0.0)
    assert failover.after(QueueFull("full", retry_after=2.0)) == (C, 0.0)
    assert failover.after(CannotContinue("no way")) is None
    assert isinstance(failover.verdict(), QueueFull)


def test_a_knock_at_a_door_that_nobody_opens_costs_no_attempt_but_once():
    refused = UpstreamRefused("nobody listens")
    failover = plan(A, B, C, attempts=1)
    assert failover.after(refused) == (B, 0.0)
    assert failover.after(refused) == (C, 0.0)
    assert failover.after(answered(500)) is None
    alone = plan(A, attempts=3)
    steps = [alone.after(refused) for _ in range(10)]
    assert sum(step is not None for step in steps) == 3
