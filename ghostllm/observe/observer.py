"""Sees every exchange at its end: counts it and writes its access record."""

from __future__ import annotations

from ghostllm.message import Exchange
from ghostllm.observe.access import AccessLog
from ghostllm.observe.metrics import Metrics


class GatewayObserver:
    """Implements ports.Observer."""

    def __init__(self, metrics: Metrics, access: AccessLog | None) -> None:
        self._metrics = metrics
        self._access = access

    def opened(self, exchange: Exchange) -> None:
        self._metrics.in_flight += 1

    def finished(self, exchange: Exchange) -> None:
        self._metrics.in_flight -= 1
        self._count(exchange)
        if self._access is not None:
            self._access.write(exchange)

    def _count(self, exchange: Exchange) -> None:
        metrics = self._metrics
        backend = exchange.backend or ""
        # A name that no backend was found for is the client's invention: all of those share one label.
        model = exchange.call.model if exchange.call is not None and exchange.attempts else ""
        route = exchange.route or "none"
        finished = exchange.finished or exchange.received
        metrics.requests.add((route, model, backend, str(exchange.status)))
        metrics.duration.at((route, model)).observe(finished - exchange.received)
        if exchange.committed is not None:
            metrics.first_token.at((model, backend)).observe(exchange.committed - exchange.received)
        if exchange.outcome == "cancelled":
            metrics.cancelled.add((route,))
        elif exchange.error is not None:
            metrics.errors.add((route, exchange.error.code or str(exchange.error.status)))
        for attempt in exchange.attempts:
            metrics.attempts.add((attempt.backend, attempt.outcome))
        self._count_tokens(exchange, model, backend)

    def _count_tokens(self, exchange: Exchange, model: str, backend: str) -> None:
        usage, tokens = exchange.usage, self._metrics.tokens
        if usage.prompt:
            tokens.add(("prompt", model, backend), usage.prompt)
        if usage.completion:
            tokens.add(("completion", model, backend), usage.completion)
        if usage.cached:
            tokens.add(("cached", model, backend), usage.cached)
