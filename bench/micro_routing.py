"""Rows of `bench.micro`: what it costs to decide where a request goes, and to hold its place there."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from bench.micro import Rows, Timed
from bench.micro_path import chat, openai_backend

if TYPE_CHECKING:
    from ghostllm.message import Call, Identity
    from ghostllm.routing.catalog import Catalog, Model
    from ghostllm.routing.plan import RoutePlan
    from ghostllm.routing.router import Router

ROWS = Rows()


class Route(NamedTuple):
    """A router over backends that nothing is sent to, and what it is asked."""

    router: Router
    catalog: Catalog
    call: Call
    identity: Identity
    headers: dict[bytes, bytes]

    def model(self) -> Model:
        model = self.catalog.find("bench")
        assert model is not None and model.open_to(self.identity, "chat")
        return model

    def plan(self, now: float) -> RoutePlan:
        return self.router.plan(self.model(), self.call, self.identity, self.headers, now)


def routed(targets: int, balance: str = "smart", *, max_inflight: int = 0) -> Route:
    from ghostllm.config.schema import BackendConfig
    from ghostllm.config.traffic import Routing
    from ghostllm.message import Identity
    from ghostllm.routing.catalog import Catalog, Model, Target
    from ghostllm.routing.router import Router
    from ghostllm.routing.upstream import Upstream

    async def never() -> str:
        raise AssertionError("nothing is sent")

    upstreams = {}
    for number in range(targets):
        config = BackendConfig(
            name=f"b{number}", kind="openai", url="http://127.0.0.1:1", max_inflight=max_inflight
        )
        upstreams[config.name] = Upstream(config, config.url, openai_backend(), tls=None, wake=never)
    router = Router(Routing(), upstreams, random.Random(1), 0.0)
    model = Model("bench", tuple(Target(name, "bench") for name in upstreams), balance)
    identity, headers = Identity("bench", ("bench*",)), {b"host": b"gateway", b"accept": b"*/*"}
    return Route(router, Catalog({"bench": model}), chat(), identity, headers)


def held(route: Route) -> Timed:
    """A plan, and a lease on its first target from beginning to end."""
    now = 0.0

    def hold() -> None:
        nonlocal now
        now += 0.001
        made = route.plan(now)
        lease = route.router.begin(made, made.targets[0], now, hidden=False)
        lease.end(None, now)

    return hold


@ROWS("routing: plan and lease, one target")
def route_of_one() -> Timed:
    return held(routed(1))


@ROWS("routing: plan and lease, smart among three targets")
def route_of_three() -> Timed:
    return held(routed(3))


@ROWS("routing: plan and lease, least requests among three targets")
def route_by_load() -> Timed:
    return held(routed(3, "least_requests"))


@ROWS("routing: a stream's lease, first token included")
def lease() -> Timed:
    route, now = routed(3), 0.0
    made = route.plan(now)

    def hold() -> None:
        nonlocal now
        now += 0.001
        lease = route.router.begin(made, made.targets[0], now, hidden=False)
        lease.first_token(now)
        lease.end(None, now)

    return hold


@ROWS("routing: a turn at a queue that has a slot")
def turn() -> Timed:
    from ghostllm.gateway.turn import Turn

    route, now = routed(1, max_inflight=4), 0.0
    [target] = route.model().targets
    gate = route.router.state(target.backend).gate
    assert gate is not None

    def take() -> None:
        nonlocal now
        now += 0.001
        entry = route.router.entry(route.identity, route.call, "bench", now)
        assert Turn(entry, [(gate, target)], lambda place, number: None, print).enter(now) is not None
        gate.release(entry.number, now)

    return take
