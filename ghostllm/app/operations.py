"""What operators see of a running gateway and have it do: ports.Operations over the fleet and the router."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ghostllm.app.fleet_life import FleetLife
from ghostllm.app.standing import Standing
from ghostllm.errors import NotFound
from ghostllm.gateway.generate import Generator
from ghostllm.observe.log import Logger
from ghostllm.ports import Observed
from ghostllm.routing.health import State
from ghostllm.routing.presence import Probe, note
from ghostllm.routing.prober import Prober
from ghostllm.routing.router import Router
from ghostllm.routing.screening import refusal
from ghostllm.routing.upstream import Upstream


class Operator:
    """Implements ports.Operations, and takes in what the prober sees."""

    def __init__(self, fleet: FleetLife, generator: Generator, log: Logger) -> None:
        self.prober: Prober | None = None
        self.standing: Standing | None = None
        self._fleet = fleet
        self._generator = generator
        self._router: Router = generator.router
        self._log = log

    def answered(self, name: str) -> None:
        """A backend has listed its models: it is there."""
        if self._router.state(name).health.answered(time.monotonic()):
            self._router.ledger.index.forget(name)

    def probed(self, name: str, probe: Probe) -> None:
        """A look at a backend has shown something."""
        state, now = self._router.state(name), time.monotonic()
        before = state.health.state
        busy = self._fleet.upstreams[name].in_flight > 0
        note(probe, state.health, self._router.ledger, now, busy=busy)
        if probe.observed is not None:
            state.saw(probe.observed)
        if state.health.state is before:
            return
        if state.health.state is State.DOWN:
            self._log.warning("backend is away", backend=name, reason=probe.reason)
        elif before is State.DOWN:
            self._log.info("backend is back", backend=name)

    # --- ports.Operations

    def status(self) -> dict[str, Any]:
        if self.standing is None:
            raise NotFound("this gateway is only starting")
        return self.standing.told()

    def backends(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [self._backend(upstream, now) for upstream in self._fleet.upstreams.values()]

    def models(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [
            {
                "name": model.name,
                "balance": model.balance,
                "targets": [
                    {
                        "backend": target.backend,
                        "model": target.model,
                        "weight": target.weight,
                        "context": target.context,
                        "capabilities": sorted(target.capabilities),
                        **self._standing(target.backend, target.model, now),
                    }
                    for target in model.targets
                ],
            }
            for model in self._fleet.catalog.models.values()
        ]

    def splits(self) -> list[dict[str, Any]]:
        found = []
        for model in self._fleet.catalog.models.values():
            arms = self._generator.arms(model)
            if arms is not None:
                found.append(arms.told())
        return found

    def drain(self, name: str, on: bool) -> None:
        self._upstream(name)
        self._router.state(name).draining = on
        self._log.info("draining" if on else "no longer draining", backend=name)

    async def probe(self, name: str) -> dict[str, Any]:
        self._upstream(name)
        if self.prober is None:
            raise NotFound("this gateway is only starting")
        probe = await self.prober.probe_now(name)
        told: dict[str, Any] = {
            "backend": name,
            "passed": probe.passed,
            "reason": self._log.mask.text(probe.reason) or None,
        }
        if probe.observed is not None:
            told["observed"] = _observed(probe.observed)
        return told

    # --- rows

    def _upstream(self, name: str) -> Upstream:
        upstream = self._fleet.upstreams.get(name)
        if upstream is None:
            raise NotFound(f"no backend {name!r}")
        return upstream

    def _backend(self, upstream: Upstream, now: float) -> dict[str, Any]:
        state = self._router.state(upstream.name)
        reachable: Mapping[str, bool] = self._fleet.inventory.reachable
        return {
            "name": upstream.name,
            "kind": upstream.config.kind,
            "url": upstream.config.url or None,
            "in_flight": upstream.in_flight,
            "asleep": upstream.asleep,
            "lists_models": reachable.get(upstream.name),
            **state.told(now),
            "why": refusal(state.standing("", now)) or "",
        }

    def _standing(self, backend: str, model: str, now: float) -> dict[str, Any]:
        if backend not in self._fleet.upstreams:
            return {"state": "gone", "why": "no such backend now"}
        state = self._router.state(backend)
        stand = state.standing(model, now)
        return {
            "state": "draining" if state.draining else stand.health.name.lower(),
            "loaded": state.loaded(model),
            "why": refusal(stand) or "",
        }


def _observed(observed: Observed) -> dict[str, Any]:
    return {
        "running": observed.running,
        "waiting": observed.waiting,
        "kv_usage": observed.kv_usage,
        "cache_tokens": observed.cache_tokens,
        "loaded": None if observed.loaded is None else sorted(observed.loaded),
        "slots": observed.slots,
        "sleeping": observed.sleeping,
    }
