"""A lease holds what it counts, and gives everything back, in whatever order its events come."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.traffic import RetryBudget
from ghostllm.errors import (
    CannotContinue,
    RequestError,
    UpstreamAnswered,
    UpstreamConnectError,
    UpstreamCut,
    UpstreamResting,
    UpstreamTimeout,
)
from ghostllm.message import ANONYMOUS, Usage
from ghostllm.ports import Observed
from ghostllm.routing import health
from ghostllm.routing.breaker import State
from tests.routing.routers import break_open, call, model, plan, router


def begin(routes, made, now=0.0, target=None, **how):
    return routes.begin(made, target or made.targets[0], now, hidden=False, **how)


def answered(status, retry_after=None):
    return UpstreamAnswered(
        "no", upstream_status=status, status=status, code=None, retryable=True, retry_after=retry_after
    )


def test_a_full_answer_is_counted_and_gives_everything_back():
    routes = router("a", "b")
    made = plan(routes, model("smart", "a", "b"))
    lease = begin(routes, made)
    upstream, backlog = lease.upstream, routes.ledger.backlog(lease.target.backend)
    assert upstream.in_flight == 1 and backlog.waiting == 1
    lease.first_token(0.5)
    assert backlog.waiting == 0 and backlog.decoding == 1
    lease.end(None, 1.0)
    assert upstream.in_flight == 0 and backlog.in_flight == 0
    assert lease.state.health.state is health.State.UP


def test_it_ends_once():
    routes = router({"name": "a", "max_inflight": 2})
    lease = begin(routes, plan(routes, model("smart", "a")))
    for _ in range(3):
        lease.end(UpstreamCut("cut"), 1.0)
    lease.end(None, 2.0, cancelled=True)
    assert lease.upstream.in_flight == 0
    assert "row=1" in repr(lease.state.breaker)


def test_the_length_that_a_full_answer_reports_is_learned():
    routes = router("a", "b")
    made = plan(routes, model("smart", "a", "b"), call("x" * 4000))
    before = routes.ledger.ratio("m").value
    begin(routes, made).end(None, 1.0, usage=Usage(prompt=100))
    learned = routes.ledger.ratio("m").value
    assert learned > before
    begin(routes, made).end(None, 1.0, usage=Usage(prompt=4000, estimated=True))
    begin(routes, made).end(None, 1.0, usage=Usage())
    assert routes.ledger.ratio("m").value == learned


def test_what_was_never_sent_is_not_thought_to_be_cached():
    routes = router("a", "b")
    made = plan(routes, model("smart", "a", "b"), call("x" * 4000))
    unsent, sent = begin(routes, made), begin(routes, made, target=made.targets[1])
    unsent.end(UpstreamConnectError("refused"), 1.0)
    sent.end(UpstreamCut("cut"), 1.0)
    index = routes.ledger.index
    assert index.blocks(unsent.target.backend) == [] and len(index.blocks(sent.target.backend)) == 3


def test_a_model_that_was_loaded_first_shows_how_long_that_takes_and_nothing_of_the_prefill():
    routes = router("a", "b")
    state = routes.state("a")
    state.saw(Observed(loaded=frozenset(("other",))))
    made = plan(routes, model("smart", "a", "b"), call("x" * 4000))
    target = next(one for one in made.targets if one.backend == "a")
    rate = routes.ledger.rate(target).seconds
    lease = begin(routes, made, target=target)
    assert lease.loading
    lease.first_token(20.0)
    backlog = routes.ledger.backlog("a")
    assert state.loading == 20.0 and routes.ledger.rate(target).seconds == rate
    assert (backlog.waiting, backlog.decoding) == (0, 1), "it decodes, and is no longer work ahead of others"
    assert backlog.wait(20.0) == 0.0
    lease.end(None, 25.0)
    again = begin(routes, made, 30.0, target)
    again.first_token(40.0)
    assert state.loading == pytest.approx(17.0), "the newest counts for 0.3"
    again.end(None, 41.0)


@pytest.mark.parametrize("loaded", [None, frozenset(("m",)), frozenset(("m:latest",))])
def test_what_is_loaded_or_unknown_is_not_waited_for(loaded):
    routes = router("a")
    routes.state("a").saw(Observed(loaded=loaded))
    lease = begin(routes, plan(routes, model("smart", "a")))
    assert not lease.loading
    lease.first_token(9.0)
    assert routes.state("a").loading is None
    lease.end(None, 9.0)


def test_latency_is_metered_and_failing_fast_does_not_look_fast():
    routes = router("a", "b")
    of = model("latency", "a", "b")
    made = plan(routes, of)
    good, bad = begin(routes, made), begin(routes, made, target=made.targets[1])
    good.first_token(2.0)
    good.end(None, 3.0)
    bad.end(answered(500), 0.01)
    cost = routes.state(good.target.backend).meter.cost(0, 3.0)
    assert cost == pytest.approx(2.0, rel=0.2)
    assert routes.state(bad.target.backend).meter.cost(0, 3.0) > cost
    assert plan(routes, of, now=3.0).targets[0] is good.target


def test_who_answers_is_back_and_its_cache_is_forgotten():
    routes = router("a", "b")
    made = plan(routes, model("smart", "a", "b"), call("x" * 4000))
    lease = begin(routes, made)
    state = lease.state
    for _ in range(3):
        state.health.probed(False, 0.5)
    assert state.health.state is health.State.DOWN
    lease.end(None, 1.0)
    assert state.health.state is health.State.UP
    assert routes.ledger.index.blocks(lease.target.backend) == []
    assert state.weight(1.0) < 1.0, "it begins gently"


def test_a_half_open_breaker_lets_one_probe_through():
    routes = router("a", "b")
    made = plan(routes, model("smart", "a", "b"))
    state = routes.state("a")
    target = next(one for one in made.targets if one.backend == "a")
    break_open(state, 0.0)
    with pytest.raises(UpstreamResting) as caught:
        begin(routes, made, 0.5, target)
    assert caught.value.retry_after == pytest.approx(1.5)
    due = state.breaker.until
    probe = begin(routes, made, due, target)
    with pytest.raises(UpstreamResting):
        begin(routes, made, due, target)
    assert probe.upstream.in_flight == 1
    probe.end(None, due, cancelled=True)  # no word: the next one is the probe
    assert state.breaker.state is State.OPEN
    begin(routes, made, due, target).end(None, due)
    assert state.breaker.state is State.CLOSED


def test_the_only_target_is_tried_though_its_breaker_is_open():
    routes = router("a")
    made = plan(routes, model("smart", "a"))
    break_open(routes.state("a"), 0.0)
    begin(routes, made, 0.1).end(None, 0.2)
    assert routes.state("a").breaker.state is State.CLOSED


def test_retry_after_is_kept_to():
    routes = router("a", "b")
    made = plan(routes, model("failover", "a", "b"))
    begin(routes, made).end(answered(429, retry_after=7.0), 1.0)
    assert routes.state("a").breaker.until == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("error", "cancelled", "back"),
    [
        (None, False, True),
        (None, True, True),
        (UpstreamCut("cut"), False, False),
        (answered(503), False, False),
        (RequestError("no"), False, False),
    ],
)
def test_a_retry_is_paid_for_and_given_back_only_if_it_brought_something(error, cancelled, back):
    routes = router("a", "b", retry_budget=RetryBudget(burst=3.0, per_second=0.0, share=0.0))
    made = plan(routes, model("failover", "a", "b"))
    assert routes.pay(made.targets[1], 0.0)
    lease = begin(routes, made, target=made.targets[1], retry=True)
    assert lease.state.budget.tokens == 2.0
    lease.end(error, 1.0, cancelled=cancelled)
    assert lease.state.budget.tokens == (3.0 if back else 2.0)


ERRORS = (
    None, UpstreamCut("cut"), UpstreamConnectError("no"), UpstreamTimeout("slow", limit="total"),
    answered(429, 3.0), answered(401), RequestError("bad"), CannotContinue("no"),
)  # fmt: skip
steps = st.tuples(
    st.sampled_from(("begin", "token", "end", "cancel", "observe", "prune")),
    st.integers(0, 40),
    st.sampled_from(ERRORS),
    st.floats(0, 5),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=60), st.sampled_from(("smart", "latency", "least_requests", "failover")))
def test_leases_give_everything_back_in_whatever_order_their_events_come(actions, policy):
    routes = router({"name": "a", "max_inflight": 3}, "b", {"name": "c", "swap": 2})
    of = model(policy, "a", "b", "c")
    now, held, ended = 0.0, [], []
    for action, pick, error, elapsed in actions:
        now += elapsed
        if action == "begin":
            made = plan(routes, of, call("x" * 2048 * (pick % 3)), now)
            target = made.targets[pick % len(made.targets)]
            lease = take(routes, made, target, now, hidden=bool(pick % 2), retry=pick % 5 == 0)
            held += [] if lease is None else [lease]
        elif action == "observe":
            seen = Observed(loaded=frozenset(("m",) if pick % 2 else ()))
            routes.state("abc"[pick % 3]).saw(seen)
        elif action == "prune":
            routes.prune()
        elif held:
            lease = held[pick % len(held)]
            if action == "token":
                lease.first_token(now)
            else:
                held.remove(lease)
                ended.append(lease)
                lease.end(error, now, cancelled=action == "cancel" and error is None)
        for lease in ended[-2:]:
            lease.end(UpstreamCut("again"), now)
        at = {name: [one for one in held if one.target.backend == name] for name in "abc"}
        for name in "abc":
            state = routes.state(name)
            assert routes._upstreams[name].in_flight == len(at[name])
            assert state.gate is None or state.gate.running == len([one for one in at[name] if one.number])
            assert state.gate is None or state.gate.waiting == 0
            if policy == "smart":
                assert routes.ledger.backlog(name).in_flight == len(at[name])
            assert 0 <= state.budget.tokens <= 20.0
            probes = [one for one in at[name] if one.ticket.probe and one.ticket.era == state.breaker._era]
            assert len(probes) <= 1 or state.breaker.state is not State.HALF_OPEN
    for lease in held:
        lease.end(None, now, cancelled=True)
    for name in "abc":
        state, backlog = routes.state(name), routes.ledger.backlog(name)
        assert routes._upstreams[name].in_flight == 0 and backlog.in_flight == 0
        assert backlog.wait(now + 10) == 0.0
        assert state.gate is None or (state.gate.running, state.gate.waiting) == (0, 0)
        assert state.breaker.state is not State.HALF_OPEN


class Turned:
    """Waits for a slot; too many of them are turned away here."""

    def granted(self, gate):
        raise AssertionError("it has left")

    def expired(self, gate, error):
        raise AssertionError("it has left")


def take(routes, made, target, now, *, hidden, retry):
    """A lease with its slot, as the gateway takes it; None: there is none to be had."""
    gate = routes.state(target.backend).gate
    number = 0
    if gate is not None:
        entry = routes.entry(ANONYMOUS, call(), target.model, now)
        if not gate.enter(entry, Turned(), now):
            gate.leave(entry.number, now)
            return None
        number = entry.number
    try:
        lease = routes.begin(made, target, now, hidden=hidden, retry=retry)
    except UpstreamResting:
        if number:
            routes.give_back(target, number, now)
        return None
    lease.number = number
    return lease
