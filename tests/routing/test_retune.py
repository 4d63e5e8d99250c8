"""Settings that change under what is known: it stays, and goes by the new ones."""

from __future__ import annotations

import random
from types import SimpleNamespace

from ghostllm.config.schema import BackendConfig, ModelConfig
from ghostllm.config.traffic import Breaker, Health, Queue, Routing, TargetConfig
from ghostllm.config.traffic import RetryBudget as BudgetSettings
from ghostllm.errors import UpstreamConnectError
from ghostllm.routing import health
from ghostllm.routing.breaker import State, Verdict
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.router import Router
from ghostllm.routing.state import BackendState

CONFIG = BackendConfig(name="b", kind="openai", url="http://h:1", max_inflight=1)


def fail(state, times, now=0.0):
    for _ in range(times):
        ticket = state.breaker.admit(now, force=True)
        state.breaker.settle(ticket, Verdict.FAILURE, now)


def test_a_breaker_counts_on():
    state = BackendState(CONFIG, Routing(breaker=Breaker(failures=100, volume=1000)), 0.0)
    fail(state, 4)
    assert state.breaker.state is State.CLOSED and not state.breaker.spotless
    state.retune(Routing(breaker=Breaker(failures=5, period=7.0)), 0.0)
    fail(state, 1)
    assert state.breaker.state is State.OPEN and state.breaker.until == 7.0
    state.retune(Routing(breaker=Breaker(failures=50)), 1.0)
    assert state.breaker.state is State.OPEN and state.breaker.until == 7.0, "it rests as long as it was told"


def inside(thing):
    """All that an object is made of, down to plain values and settings."""
    if type(thing).__module__.startswith("ghostllm.routing") and hasattr(thing, "__dict__"):
        return {name: inside(value) for name, value in vars(thing).items()}
    return thing


def test_nothing_computed_from_the_old_settings_is_left():
    old = Routing(retry_budget=BudgetSettings(burst=9.0))
    new = Routing(
        breaker=Breaker(memory=77.0, failures=2),
        retry_budget=BudgetSettings(burst=4.0),
        health=Health(fall=9),
    )
    state, fresh = BackendState(CONFIG, old, 0.0), BackendState(CONFIG, new, 0.0)
    state.retune(new, 0.0)
    for name in ("breaker", "health", "budget"):
        left, right = inside(getattr(state, name)), inside(getattr(fresh, name))
        left.pop("_ordinary", None), right.pop("_ordinary", None)  # a ticket is equal to itself only
        assert left == right, name
    assert (
        state._settings == fresh._settings
        and state.gate._admission._settings == fresh.gate._admission._settings
    )


def test_health_and_budget():
    state = BackendState(CONFIG, Routing(), 0.0)
    state.health.probed(False, 0.0)
    state.retune(Routing(health=Health(fall=2), retry_budget=BudgetSettings(burst=3.0)), 0.0)
    assert state.budget.tokens == 3.0, "no more is saved up than may be"
    state.health.probed(False, 1.0)
    assert state.health.state is health.State.DOWN


def test_a_queue_of_a_backend_keeps_those_who_run():
    state = BackendState(CONFIG, Routing(), 0.0)
    told = []
    waiter = SimpleNamespace(
        granted=lambda gate: told.append("granted"), expired=lambda gate, error: told.append("expired")
    )
    router = Router(Routing(), {}, random.Random(1), 0.0)
    call = SimpleNamespace(body=b"x")
    identity = SimpleNamespace(key="k", weight=1.0, priority=0)
    entries = [router.entry(identity, call, "m", 0.0) for _ in range(2)]
    assert state.gate.enter(entries[0], waiter, 0.0) and not state.gate.enter(entries[1], waiter, 0.0)
    state.retune(Routing(queue=Queue(wait=5.0)), 1.0)
    state.gate.expire(4.9)
    assert told == []
    state.gate.expire(5.0)
    assert told == ["expired"] and state.gate.running == 1


def model(slots):
    config = ModelConfig(name="m", targets=(TargetConfig(backend="b"),), max_inflight=slots)
    return Model("m", (Target("b", "m"),), "smart", config)


def test_the_queue_of_a_model():
    router = Router(Routing(), {}, random.Random(1), 0.0)
    call, identity = SimpleNamespace(body=b""), SimpleNamespace(key="k", weight=1.0, priority=0)
    told = []
    waiter = SimpleNamespace(granted=lambda gate: told.append(gate))
    gate = router.gate(model(1))
    for number in range(4):
        assert gate.enter(router.entry(identity, call, "m", 0.0), waiter, 0.0) is (number == 0)
    router.retune(Routing(), {"m": 2}, 1.0)
    assert told == [gate] and router.gate(model(2)) is gate
    router.retune(Routing(), {}, 2.0)
    assert told == [gate] * 3, "nobody is left behind"
    assert router.gate(model(0)) is None
    router.retune(Routing(), {"m": 3}, 3.0)
    assert router.gate(model(3)) is not None


def test_what_a_backend_answered_is_not_forgotten():
    upstream = SimpleNamespace(name="b", config=CONFIG, in_flight=0)
    router = Router(Routing(), {"b": upstream}, random.Random(1), 0.0)
    state = router.state("b")
    router.begin(
        router.plan(model(0), SimpleNamespace(body=b"", fields={}), None, {}, 0.0),
        Target("b", "m"), 0.0, hidden=False,
    ).end(UpstreamConnectError("gone"), 0.0)  # fmt: skip
    router.retune(Routing(affinity=1.0), {}, 0.0)
    router.prune()
    assert router.state("b") is state and not state.breaker.spotless
