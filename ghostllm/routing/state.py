"""What is known of one backend at run time, in one place. It lives as long as the backend's name does, and so
outlives a change of the configuration around it.
"""

from __future__ import annotations

from ghostllm.config.schema import BackendConfig
from ghostllm.config.traffic import Routing
from ghostllm.ports import Observed
from ghostllm.routing import health
from ghostllm.routing.admission import Settings
from ghostllm.routing.breaker import Breaker
from ghostllm.routing.breaker import State as BreakerState
from ghostllm.routing.catalog import Target
from ghostllm.routing.gate import Gate
from ghostllm.routing.health import Health
from ghostllm.routing.latency import PeakEwma
from ghostllm.routing.retry_budget import RetryBudget
from ghostllm.routing.screening import Standing
from ghostllm.routing.smart import READY, Condition

NOTHING = Observed()


class BackendState:
    """gate: the queue before it, None where nothing bounds it. draining: by an operator's hand. observed:
    what it last said of itself (`saw`), None: nothing yet. loading: seconds that it took to load a model,
    None while nobody has seen it.
    """

    __slots__ = (
        "_settings", "_tells_loaded", "breaker", "budget", "config", "draining", "gate", "health", "loading",
        "meter", "name", "observed",
    )  # fmt: skip

    def __init__(self, config: BackendConfig, routing: Routing, now: float) -> None:
        self.name = config.name
        self.config = config
        self.breaker = Breaker(routing.breaker)
        self.health = Health(routing.health)
        if config.kind == "gguf":  # ours to start, so it is there
            self.health.answered(now)
        self.budget = RetryBudget(routing.retry_budget, now)
        self.meter = PeakEwma()
        self.gate = gate_before(config.name, config.max_inflight, routing, batch=config.swap)
        self.draining = False
        self.observed: Observed | None = None
        self.loading: float | None = None
        self._tells_loaded = False
        self._settings = routing.health

    def __repr__(self) -> str:
        return f"<BackendState {self.name} {self.health!r} {self.breaker!r} {self.gate!r}>"

    def retune(self, routing: Routing, now: float) -> None:
        """The configuration around it has changed; what is known of it stays."""
        self._settings = routing.health
        self.breaker.retune(routing.breaker)
        self.health.retune(routing.health)
        self.budget.retune(routing.retry_budget)
        if self.gate is not None:
            self.gate.retune(queue_settings(self.config.max_inflight, routing, batch=self.config.swap), now)

    @property
    def full(self) -> bool:
        """Whether a request more would have to wait."""
        gate = self.gate
        return gate is not None and (gate.waiting > 0 or (0 < self.config.max_inflight <= gate.running))

    def saw(self, observed: Observed) -> None:
        """It has said something of itself."""
        self.observed = observed
        self._tells_loaded = observed.loaded is not None

    def ordinary(self) -> bool:
        """Whether nothing at all is to be considered: `plain`, and `condition` of any target of weight 1 is
        READY. Told in a few look-ups.
        """
        return (
            self.breaker.spotless
            and self.health.steady
            and self.gate is None
            and not self.draining
            and not self._tells_loaded
        )

    def plain(self) -> bool:
        """Whether nothing speaks against it."""
        return (
            self.breaker.state is BreakerState.CLOSED
            and self.health.state is not health.State.DOWN
            and not self.draining
            and not self.full
        )

    def weight(self, now: float) -> float:
        """Factor of its configured weight: below 1 for a while after it has come back."""
        closed = self.breaker.closed_at
        if closed is None and self.health.returned is None:
            return 1.0
        return min(self.health.warmth(now), health.slow_start(closed, now, self._settings))

    def loaded(self, model: str) -> bool | None:
        """Whether a model is in its memory; None: unknown."""
        observed = self.observed
        if observed is None or observed.loaded is None:
            return None
        return model in observed.loaded or f"{model}:latest" in observed.loaded

    def standing(self, model: str, now: float, *, unfit: str = "") -> Standing:
        breaker = self.breaker
        return Standing(
            health=self.health.state,
            open_until=None if breaker.allows(now) else breaker.until,
            draining=self.draining,
            unfit=unfit,
            full=self.full,
        )

    def condition(self, target: Target, now: float) -> Condition:
        """What of it counts for `smart`."""
        if target.weight == 1.0 and self.health.steady and self.breaker.spotless and not self._tells_loaded:
            return READY
        weight = target.weight * self.weight(now)
        faults = self.breaker.faults(now)
        loaded = self.loaded(target.model)
        if weight == 1.0 and not faults and loaded is not False:
            return READY
        return Condition(loaded, self.loading, weight, faults)

    def told(self, now: float) -> dict[str, object]:
        """For operators."""
        gate, breaker, observed = self.gate, self.breaker, self.observed or NOTHING
        return {
            "state": "draining" if self.draining else self.health.state.name.lower(),
            "breaker": breaker.state.name.lower(),
            "open_for_s": max(0.0, round(breaker.until - now, 3)) if not breaker.allows(now) else 0.0,
            "faults": round(breaker.faults(now), 3),
            "retries_left": round(self.budget.tokens, 1),
            "weight": round(self.config.weight * self.weight(now), 3),
            "waiting": gate.waiting if gate is not None else 0,
            "max_inflight": self.config.max_inflight,
            "load_s": self.loading,
            "loaded": None if observed.loaded is None else sorted(observed.loaded),
            "server_running": observed.running,
            "server_waiting": observed.waiting,
            "kv_usage": observed.kv_usage,
        }


def gate_before(name: str, slots: int, routing: Routing, *, batch: int = 0) -> Gate | None:
    """The queue before a backend or a model; None where nothing bounds it."""
    if not slots and not batch:
        return None
    return Gate(name, queue_settings(slots, routing, batch=batch))


def queue_settings(slots: int, routing: Routing, *, batch: int = 0) -> Settings:
    queue = routing.queue
    return Settings(
        slots=slots,
        waiting=queue.waiting,
        waiting_model=queue.waiting_model,
        wait=queue.wait,
        starvation=queue.starvation,
        batch=batch,
    )
