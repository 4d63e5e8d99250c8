"""Plans: never empty while anything could serve, each target once, and the reasons told."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.openai import door
from ghostllm.config.schema import BackendConfig
from ghostllm.config.traffic import Routing
from ghostllm.errors import Overloaded, UnsupportedValue, UpstreamResting
from ghostllm.message import Identity
from ghostllm.ports import Observed
from ghostllm.routing import health
from ghostllm.routing.breaker import State as BreakerState
from ghostllm.routing.catalog import Target
from ghostllm.routing.failover import Failover
from ghostllm.routing.state import BackendState
from tests.routing.routers import break_open, call, model, names, plan, router, upstream

POLICIES = ("smart", "sticky", "latency", "least_requests", "weighted", "round_robin", "failover")


class Waits:
    """One that stands before a gate for as long as the test lasts."""

    def granted(self, gate):
        pass

    def expired(self, gate, error):
        pass

    def closed(self, gate):
        self.told = gate


def occupy(routes, name, requests, now=0.0):
    for _ in range(requests):
        routes.state(name).gate.enter(routes.entry(Identity(name), call(), "m", now), Waits(), now)


def test_a_single_target_needs_no_choice():
    routes = router("a")
    made = plan(routes, model("smart", "a"))
    assert names(made) == ["a"] and made.usable == 1 and made.why(made.targets[0]) == "only target"
    assert made.told() == {"model": "m", "policy": "only target", "targets": [{"backend": "a", "model": "m"}]}


def test_without_any_target_it_is_overload():
    with pytest.raises(Overloaded, match="no backend of model 'm'") as caught:
        plan(router("a"), model("smart"))
    assert caught.value.retry_after == 5


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_orders_all_targets(policy):
    routes = router("a", "b", "c")
    for _ in range(9):
        made = plan(routes, model(policy, "a", "b", "c"))
        assert sorted(names(made)) == ["a", "b", "c"] and made.usable == 3 and made.policy == policy


def test_round_robin_goes_on_from_one_request_to_the_next():
    routes, of = router("a", "b", "c"), model("round_robin", "a", "b", "c")
    assert [names(plan(routes, of))[0] for _ in range(4)] == ["a", "b", "c", "a"]


def test_least_requests_sees_the_leases():
    routes, of = router("a", "b"), model("least_requests", "a", "b")
    first = plan(routes, of)
    lease = routes.begin(first, first.targets[0], 0.0, hidden=False)
    assert names(plan(routes, of))[0] == first.targets[1].backend
    lease.end(None, 1.0)
    assert {names(plan(routes, of))[0] for _ in range(30)} == {"a", "b"}


def test_smart_keeps_a_conversation_where_its_cache_is():
    routes, of = router("a", "b", "c"), model("smart", "a", "b", "c")
    opening = "x" * 30_000
    made = plan(routes, of, call(opening))
    routes.begin(made, made.targets[0], 0.0, hidden=False).end(None, 1.0)
    home = made.targets[0].backend
    assert {names(plan(routes, of, call(opening + "and on"), 2.0))[0] for _ in range(20)} == {home}
    other = {names(plan(routes, of, call(opening), 2.0, Identity("another")))[0] for _ in range(40)}
    assert other == {"a", "b", "c"}, "another key is told nothing by where it is sent"


@pytest.mark.parametrize(
    ("by", "same", "another"),
    [
        ("key", {"identity": Identity("k")}, {"identity": Identity("l")}),
        ("header:X-Session", {"headers": {b"x-session": b"1"}}, {"headers": {b"x-session": b"2"}}),
        ("conversation", {"asked": call("hi")}, {"asked": call("ho")}),
    ],
)
def test_sticky_stays_by_what_the_model_says(by, same, another):
    backends = [f"b{number}" for number in range(40)]
    routes, of = router(*backends), model("sticky", *backends, sticky=by)
    firsts = {names(plan(routes, of, **same))[0] for _ in range(10)}
    assert len(firsts) == 1
    assert names(plan(routes, of, **another))[0] not in firsts  # one in forty could be, but these are not


def test_without_the_header_to_stay_by_load_decides():
    routes, of = router("a", "b"), model("sticky", "a", "b", sticky="header:x-session")
    assert {names(plan(routes, of))[0] for _ in range(30)} == {"a", "b"}


# --- what stands behind the usable


def test_full_ones_wait_behind_the_usable_and_absent_ones_behind_those():
    routes = router("down", {"name": "full", "max_inflight": 1}, "open", "new", "up")
    for name in ("down", "full", "open", "up"):
        routes.state(name).health.answered(0.0)
    for _ in range(3):
        routes.state("down").health.probed(False, 0.0)
    occupy(routes, "full", 1)
    break_open(routes.state("open"), 0.0)
    made = plan(routes, model("failover", "down", "full", "open", "new", "up"))
    assert names(made) == ["up", "full", "new", "down", "open"] and made.usable == 1
    refused = {row["backend"]: row["why"] for row in made.told()["refused"]}
    assert refused == {"down": "down", "full": "full", "open": "breaker open", "new": "unknown"}
    assert [row["backend"] for row in made.told()["targets"]] == ["up"]


def test_when_all_are_full_the_plan_waits_for_any():
    routes = router({"name": "a", "max_inflight": 1}, {"name": "b", "max_inflight": 1})
    occupy(routes, "a", 1)
    occupy(routes, "b", 2)
    for policy in POLICIES:
        made = plan(routes, model(policy, "a", "b"))
        assert sorted(names(made)) == ["a", "b"] and made.usable == 0 and not made.forced


def test_the_last_ones_are_tried_though_their_breakers_are_open():
    routes = router("late", "soon")
    break_open(routes.state("late"), 5.0)
    break_open(routes.state("soon"), 0.0)
    made = plan(routes, model("smart", "late", "soon"), now=1.0)
    assert names(made) == ["soon", "late"] and made.usable == 1 and made.forced
    assert made.why(made.targets[1]) == "smart, forced" and made.told()["forced"] is True
    routes.begin(made, made.targets[0], 1.0, hidden=False).end(None, 1.5)


def test_the_only_one_fit_is_tried_though_it_was_full_and_its_breaker_opened():
    routes = router({"name": "a", "max_inflight": 1}, "b")
    of = model("failover", "a", Target("b", "m", capabilities=frozenset(("embeddings",))))
    occupy(routes, "a", 1)
    break_open(routes.state("a"), 0.0)
    made = plan(routes, of, now=1.0)
    assert names(made) == ["a"] and made.usable == 0
    routes.begin(made, made.targets[0], 1.0, hidden=False).end(None, 1.5)


def test_a_pin_is_kept_to_if_its_backend_may_be_had():
    routes, of = router("a", "b"), model("failover", "a", "b")
    pinned = {b"x-ghostllm-backend": b"b"}
    made = plan(routes, of, headers=pinned)
    assert names(made)[0] == "b" and made.usable == 1
    break_open(routes.state("b"), 0.0)
    assert names(plan(routes, of, headers=pinned, now=0.5))[0] == "a"
    assert names(plan(routes, of, headers={b"x-ghostllm-backend": b"\xff"}, now=0.5))[0] == "a"


def test_where_to_go_on_the_absent_the_draining_the_resting_and_the_full_are_not_able():
    routes = router("a", "down", "open", "drains", {"name": "full", "max_inflight": 1})
    assert routes.able(Target("a", "m"), 0.0)
    for _ in range(3):
        routes.state("down").health.probed(False, 0.0)
    break_open(routes.state("open"), 0.0)
    routes.state("drains").draining = True
    occupy(routes, "full", 1)
    for name in ("down", "open", "drains", "full", "gone"):
        assert not routes.able(Target(name, "m"), 0.0), name
    assert routes.able(Target("open", "m"), routes.state("open").breaker.until)


def test_a_queue_is_waited_in_before_the_absent_are_tried():
    routes = router("a", "down", {"name": "full", "max_inflight": 1})
    for name in ("a", "full"):
        routes.state(name).health.answered(0.0)
    routes.state("down").health.refused(0.0)
    occupy(routes, "full", 1)
    made = plan(routes, model("failover", "a", "down", "full"))
    failover = Failover(made.targets, routes._routing, routes.chance, routes)
    failover.trying(made.targets[0])
    target, _ = failover.after(UpstreamResting("resting"), 0.0)
    assert target.backend == "full"


# --- what the targets can do

CHAT, TOOLS = frozenset(("chat",)), frozenset(("chat", "tools"))
TOOL = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def test_a_target_that_cannot_do_it_is_left_out():
    routes = router("a", "b", "c")
    of = model("failover", Target("a", "m", capabilities=CHAT), Target("b", "m", capabilities=TOOLS), "c")
    assert names(plan(routes, of, call(tools=TOOL))) == ["b", "c"]
    assert plan(routes, of, call(tools=TOOL)).told()["refused"] == [
        {"backend": "a", "model": "m", "why": "tools"}
    ]
    assert names(plan(routes, of)) == ["a", "b", "c"]


def test_where_none_can_the_client_is_told_what_is_missing():
    routes = router("a", "b")
    of = model("smart", Target("a", "m", capabilities=CHAT), Target("b", "m", capabilities=CHAT))
    with pytest.raises(UnsupportedValue, match="can do this: tools") as caught:
        plan(routes, of, call(tools=TOOL))
    assert caught.value.param == "model"


def test_a_context_too_small_is_left_out_but_never_the_last_one():
    routes = router("a", "b")
    of = model("failover", Target("a", "m", context=1000), Target("b", "m", context=8000))
    assert names(plan(routes, of, call("x" * 400))) == ["a", "b"]
    assert names(plan(routes, of, call("x" * 12_000))) == ["b"]
    assert names(plan(routes, of, call("x" * 120_000))) == ["a", "b"], "it is an estimate"


def test_the_bytes_of_an_image_are_not_its_tokens():
    routes = router("a", "b")
    of = model("failover", Target("a", "m", context=1000), "b")
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    asked = call(messages=[{"role": "user", "content": [image]}])
    assert names(plan(routes, of, asked)) == ["a", "b"]


# --- what it remembers


def test_a_backend_that_is_replaced_begins_anew_and_one_that_stays_does_not():
    routes = router("a", "b")
    fleet, of = routes._upstreams, model("smart", "a", "b")
    made = plan(routes, of, call("x" * 3000))
    leases = [routes.begin(made, target, 0.0, hidden=False) for target in made.targets]
    break_open(routes.state("a"), 0.0)
    kept = routes.state("b")
    fleet["a"] = upstream("a", weight=2.0)
    routes.prune()
    assert routes.state("a").breaker.state is BreakerState.CLOSED and routes.state("b") is kept
    assert routes.ledger.index.blocks("a") == [] and routes.ledger.index.blocks("b") != []
    del fleet["b"]
    routes.prune()
    assert list(routes.states) == ["a"]
    for lease in leases:
        lease.first_token(1.0)
        lease.end(None, 1.0)
    assert [lease.upstream.in_flight for lease in leases] == [0, 0]


def test_who_waits_for_a_backend_that_goes_is_told():
    routes = router({"name": "a", "max_inflight": 1}, "b")
    occupy(routes, "a", 1)
    queue, waits = routes.state("a").gate, Waits()
    assert not queue.enter(routes.entry(Identity("k"), call(), "m", 0.0), waits, 0.0)
    assert routes.stands(queue, Target("a", "m"), 0.0)
    routes._upstreams["a"] = upstream("a", max_inflight=1, weight=2.0)
    routes.prune()
    assert waits.told is queue and queue.waiting == 0
    assert routes.state("a").gate.running == 0 and not routes.holds(queue, Target("a", "m"))


def test_a_slot_of_a_backend_that_has_fallen_ill_is_good_for_nothing():
    routes = router({"name": "a", "max_inflight": 1}, {"name": "b", "max_inflight": 1}, "c")
    a, b = Target("a", "m"), Target("b", "m")
    gates = {target: routes.state(target.backend).gate for target in (a, b)}
    assert routes.stands(gates[a], a, 0.0) and routes.stands(gates[b], b, 0.0)
    routes.state("a").health.refused(0.0)
    break_open(routes.state("b"), 0.0)
    assert not routes.stands(gates[a], a, 0.0) and not routes.stands(gates[b], b, 0.0)
    assert routes.stands(gates[b], b, routes.state("b").breaker.until)


def test_only_what_is_full_and_nothing_else_is_waited_for():
    routes = router({"name": "a", "max_inflight": 1}, {"name": "b", "max_inflight": 1}, "c")
    a, b, c = (Target(name, "m") for name in "abc")
    occupy(routes, "a", 1)
    occupy(routes, "b", 1)
    routes.state("b").draining = True
    assert [routes.waits(target, 0.0) for target in (a, b, c, Target("gone", "m"))] == [
        True,
        False,
        False,
        False,
    ]


def test_the_cache_that_the_configuration_names_bounds_the_index():
    routes = router({"name": "a", "cache_tokens": 512}, "b")
    made = plan(routes, model("smart", "a", "b"), call("x" * 20_000))
    for target in made.targets:
        routes.begin(made, target, 0.0, hidden=False).end(None, 1.0)
    assert len(routes.ledger.index.blocks("a")) == 2 and len(routes.ledger.index.blocks("b")) > 10


def test_only_what_bounds_something_has_a_queue():
    routes = router("free", {"name": "tight", "max_inflight": 2}, {"name": "swaps", "swap": 3})
    assert [routes.state(name).gate is None for name in ("free", "tight", "swaps")] == [True, False, False]
    assert routes.gate(model("smart", "free")) is None
    queue = routes.gate(model("smart", "free", name="few", max_inflight=1))
    assert queue is not None and queue is routes.gate(model("smart", "free", name="few", max_inflight=1))
    assert [one.name for one in routes.gates()] == ["few", "tight", "swaps"]


def test_a_place_in_a_queue_is_the_key_s():
    routes = router("a")
    who = Identity("k", weight=2.5, priority=3)
    one, two = routes.entry(who, call("x" * 400), "m", 7.0), routes.entry(who, call(), "m", 7.0)
    assert (one.key, one.model, one.since, one.weight, one.priority) == ("k", "m", 7.0, 2.5, 3)
    assert one.number != two.number and one.cost > two.cost > 1


def test_a_backend_returns_gently():
    routes = router("a", health=health.DEFAULTS)
    state = routes.state("a")
    assert state.weight(0.0) == 1.0
    state.health.refused(0.0)
    state.health.answered(10.0)
    weights = [state.weight(now) for now in (10.0, 25.0, 40.0, 99.0)]
    assert weights == [pytest.approx(0.1), pytest.approx(0.55), 1.0, 1.0]
    assert state.condition(Target("a", "m", 2.0), 10.0).weight == pytest.approx(0.2)


def test_a_gguf_file_is_there_from_the_start():
    state = BackendState(BackendConfig(name="g", kind="gguf", path="m.gguf"), Routing(), 0.0)
    assert state.health.state is health.State.UP and state.plain()


def test_what_is_told_of_a_backend_is_json():
    routes = router({"name": "a", "max_inflight": 1})
    state = routes.state("a")
    occupy(routes, "a", 2)
    state.saw(Observed(running=1, loaded=frozenset("zb")))
    break_open(state, 0.0)
    told = jsonx.loads(jsonx.dumps(state.told(0.5)))
    assert told["breaker"] == "open" and told["open_for_s"] == 1.5 and told["waiting"] == 1
    assert told["loaded"] == ["b", "z"] and told["state"] == "unknown" and told["server_waiting"] is None
    state.draining = True
    assert state.told(0.5)["state"] == "draining" and not state.plain()


# --- any state of the fleet

TROUBLES = st.fixed_dictionaries(
    {
        "health": st.sampled_from(("up", "down", "unknown")),
        "breaker": st.sampled_from(("closed", "open", "due", "half-open")),
        "drain": st.booleans(),
        "full": st.booleans(),
        "unfit": st.booleans(),
    }
)
NOW = 1.0


def stand(routes, name, trouble):
    """Brings a backend into a state, by what brings it there."""
    state = routes.state(name)
    if trouble["breaker"] != "closed":
        break_open(state, NOW if trouble["breaker"] == "open" else -10.0)
        if trouble["breaker"] == "half-open":
            assert state.breaker.admit(NOW).probe
    if trouble["health"] == "up":
        state.health.answered(-100.0)
    elif trouble["health"] == "down":
        state.health.refused(0.0)
    state.draining = trouble["drain"]
    if trouble["full"]:
        occupy(routes, name, 1)


def healthy(trouble):
    return trouble["health"] == "up" and trouble["breaker"] in ("closed", "due") and not trouble["drain"]


@settings(deadline=None)
@given(
    st.lists(TROUBLES, min_size=2, max_size=5),
    st.sampled_from(POLICIES),
    st.sampled_from((None, b"b0", b"b1", b"nobody")),
    st.floats(0, 3),
)
def test_a_plan_has_every_target_that_could_serve_once_and_the_best_first(troubles, policy, pin, weight):
    backends = [f"b{at}" for at in range(len(troubles))]
    routes = router(*({"name": name, "max_inflight": 1} for name in backends))
    targets = []
    for name, trouble in zip(backends, troubles, strict=True):
        stand(routes, name, trouble)
        capable = frozenset(("embeddings",)) if trouble["unfit"] else frozenset()
        targets.append(Target(name, "m", weight, capabilities=capable))
    of = model(policy, *targets)
    fit = {name: trouble for name, trouble in zip(backends, troubles, strict=True) if not trouble["unfit"]}
    headers = {} if pin is None else {b"x-ghostllm-backend": pin}
    if not fit:
        with pytest.raises(UnsupportedValue):
            plan(routes, of, headers=headers, now=NOW)
        return
    made = plan(routes, of, headers=headers, now=NOW)
    jsonx.dumps(made.told())
    order = names(made)
    assert made.targets and max(Counter(order).values()) == 1 and set(order) <= set(fit)
    ready = {name for name, trouble in fit.items() if healthy(trouble)}
    at_once = {name for name in ready if not fit[name]["full"]}
    usable = set(order[: made.usable])
    if at_once:
        pinned = pin is not None and pin.decode() in usable
        unknown = {name for name, trouble in fit.items() if trouble["health"] == "unknown"}
        assert usable == {pin.decode()} if pinned else at_once <= usable <= at_once | unknown
    elif ready:
        assert ready <= set(order) and not usable & ready
    if pin is None:
        assert ready <= set(order)
        absent = {n for n, t in fit.items() if t["health"] == "down" or t["breaker"] in ("open", "half-open")}
        assert absent <= set(order), "tried when all others have failed"
    if made.usable == 1 or len(made.targets) == 1:  # no other: it is not to be refused
        routes.begin(made, made.targets[0], NOW, hidden=False).end(None, NOW)
    for target in made.targets:
        assert made.why(target)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=5) | st.just("image"),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(("role", "content", "type", "images", "id", "output", "tools")),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from(("tools", "input", "prompt", "system", "conversation", "prompt_cache_key", "images")),
    st.sampled_from(POLICIES),
    st.integers(0, 500),
)
def test_no_body_upsets_a_plan(value, member, policy, depth):
    text = b"[" * depth + jsonx.dumps(value) + b"]" * depth
    body = b'{"model":"m","messages":[{"role":"user","content":%b}],"%b":%b}' % (text, member.encode(), text)
    asked = door.read_call("chat", body)
    routes = router("a", "b")
    small = Target("b", "m", context=10_000, capabilities=frozenset(("chat", "tools", "vision")))
    assert sorted(names(plan(routes, model(policy, "a", small), asked))) == ["a", "b"]
