"""Metrics that are read when somebody asks for them: connections, backends, what the router knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from ghostllm.app.fleet_life import FleetLife
from ghostllm.gateway.generate import Generator
from ghostllm.net.server import Server
from ghostllm.observe.exposition import Sample
from ghostllm.observe.metrics import Metrics
from ghostllm.routing.arms import Arms
from ghostllm.routing.breaker import State as BreakerState
from ghostllm.routing.health import State as HealthState
from ghostllm.routing.state import BackendState
from ghostllm.routing.upstream import Upstream


def add_gauges(metrics: Metrics, servers: Sequence[Server], fleet: FleetLife) -> None:
    metrics.gauge(
        "ghostllm_connections",
        "Open client connections.",
        lambda: [({}, sum(server.connections for server in servers))],
    )
    metrics.gauge("ghostllm_tasks", "Tasks of the event loop.", lambda: [({}, len(asyncio.all_tasks()))])
    metrics.gauge(
        "ghostllm_upstream_connections",
        "Connections to backends, by state, and calls waiting for one.",
        lambda: [
            ({"backend": name, "state": state}, getattr(upstream.pool, state))
            for name, upstream in fleet.upstreams.items()
            for state in ("idle", "active", "waiting")
        ],
    )
    metrics.gauge(
        "ghostllm_backend_up",
        "Whether the backend's model list answered last time.",
        lambda: [({"backend": name}, int(up)) for name, up in fleet.inventory.reachable.items()],
    )


def add_routing_gauges(metrics: Metrics, upstreams: Mapping[str, Upstream], generator: Generator) -> None:
    router = generator.router

    def states() -> list[BackendState]:
        return [router.state(name) for name in upstreams]

    def splits() -> list[Arms]:
        return [arms for arms in generator.splits.values() if arms is not None]

    def health() -> list[Sample]:
        return [
            ({"backend": state.name, "state": kind.name.lower()}, int(state.health.state is kind))
            for state in states()
            for kind in HealthState
        ]

    def breakers() -> list[Sample]:
        return [
            ({"backend": state.name, "state": kind.name.lower()}, int(state.breaker.state is kind))
            for state in states()
            for kind in BreakerState
        ]

    def waiting() -> list[Sample]:
        return [({"queue": gate.name}, gate.waiting) for gate in router.gates()]

    def running() -> list[Sample]:
        return [({"queue": gate.name}, gate.running) for gate in router.gates()]

    def in_flight() -> list[Sample]:
        return [({"backend": name}, upstream.in_flight) for name, upstream in upstreams.items()]

    def backlog() -> list[Sample]:
        now = time.monotonic()
        return [({"backend": name}, router.ledger.backlog(name).wait(now)) for name in upstreams]

    def arms_ended() -> list[Sample]:
        return [
            ({"model": arms.model, "arm": arm, "outcome": outcome}, times)
            for arms in splits()
            for arm, outcome, times in arms.ends()
        ]

    def first_tokens() -> list[Sample]:
        return [
            ({"model": arms.model, "arm": arm}, count)
            for arms in splits()
            for arm, count, _ in arms.first_tokens()
        ]

    def first_token_seconds() -> list[Sample]:
        return [
            ({"model": arms.model, "arm": arm}, total)
            for arms in splits()
            for arm, _, total in arms.first_tokens()
        ]

    gauge, counter = metrics.gauge, metrics.counter
    gauge("ghostllm_backend_health", "Whether the backend is there: 1 for the state it is in.", health)
    gauge("ghostllm_backend_breaker", "The backend's breaker: 1 for the state it is in.", breakers)
    gauge("ghostllm_backend_in_flight", "Attempts under way.", in_flight)
    gauge("ghostllm_backend_backlog_seconds", "Work that waits there, as estimated.", backlog, unit="seconds")
    gauge("ghostllm_queue_waiting", "Requests that wait for a turn, before a backend or a model.", waiting)
    gauge("ghostllm_queue_running", "Requests that have a slot there.", running)
    counter("ghostllm_split_requests", "Requests of split models by arm and how they ended.", arms_ended)
    counter("ghostllm_split_first_tokens", "First tokens of split models by arm.", first_tokens)
    counter(
        "ghostllm_split_first_token_seconds",
        "Time to the first tokens of split models, added up by arm.",
        first_token_seconds,
        unit="seconds",
    )
