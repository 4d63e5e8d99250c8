"""How the gateway stands as a whole, for `/admin/api/status`."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ghostllm.app.fleet_life import FleetLife
from ghostllm.gateway.gateway import Gateway
from ghostllm.gateway.operate import IDENTITY
from ghostllm.net.server import Server
from ghostllm.observe import Observability, process
from ghostllm.observe.rates import Rates
from ghostllm.observe.render import timestamp
from ghostllm.routing.catalog import Model
from ghostllm.routing.router import Router
from ghostllm.routing.screening import refusal

STATES = ("up", "down", "unknown", "draining")


@dataclass(slots=True, kw_only=True)
class Standing:
    """listening: the addresses as bound."""

    fleet: FleetLife
    router: Router
    gateway: Gateway
    server: Server
    seen: Observability
    rates: Rates
    listening: Sequence[str] = ()

    def told(self) -> dict[str, Any]:
        """JSON."""
        now = time.monotonic()
        totals = self.seen.metrics.totals()
        queues = [
            {"name": gate.name, "waiting": gate.waiting, "running": gate.running}
            for gate in self.router.gates()
        ]
        return {
            "state": self._state(),
            **IDENTITY,
            "started": timestamp(process.STARTED),
            "uptime_s": round(time.time() - process.STARTED, 1),
            "listening": list(self.listening),
            "config": self._config(),
            "backends": self._backends(),
            "models": self._models(now),
            "requests": {
                "in_flight": self.seen.metrics.in_flight,
                "waiting": sum(gate.waiting for gate in self.router.gates()),
                **totals,
            },
            "queues": queues,
            "rates": self.rates.told(now),
            "process": self._process(),
        }

    def _state(self) -> str:
        if self.gateway.draining:
            return "draining"
        return "ready" if self.gateway.ready() else "not ready"

    def _config(self) -> dict[str, Any]:
        """Of the one that is in force: how many, and what is on."""
        config = self.gateway.snapshot.config
        return {
            "backends": len(config.backends),
            "models": len(config.models),
            "keys": len(config.keys),
            "state_file": config.state.file or None,
            "explain": config.routing.explain,
            "balance": config.routing.balance,
            "rescue": config.routing.rescue,
            "insecure": config.server.insecure,
        }

    def _backends(self) -> dict[str, int]:
        names = list(self.fleet.upstreams)
        found = Counter(
            "draining" if state.draining else state.health.state.name.lower()
            for state in map(self.router.state, names)
        )
        open_ones = sum(self.router.state(name).breaker.state.name != "CLOSED" for name in names)
        return {"total": len(names), **{state: found[state] for state in STATES}, "breaker_open": open_ones}

    def _models(self, now: float) -> dict[str, int]:
        """available: with a target that would be asked now, or that a request would wait for."""
        models = list(self.fleet.catalog.models.values())
        return {"total": len(models), "available": sum(self._able(model, now) for model in models)}

    def _able(self, model: Model, now: float) -> bool:
        return any(
            not refusal(replace(self.router.state(target.backend).standing(target.model, now), full=False))
            for target in model.targets
            if target.backend in self.fleet.upstreams
        )

    def _process(self) -> dict[str, float | None]:
        return {
            "pid": os.getpid(),
            "resident_bytes": process.resident_bytes(),
            "cpu_s": process.cpu_seconds(),
            "connections": self.server.connections,
            "descriptors": process.open_descriptors(),
            "most_descriptors": process.most_descriptors(),
            "loop_lag_max_s": self.seen.lag_max(),
        }
