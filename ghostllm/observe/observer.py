"""Sees every exchange at its beginning and its end: counts it and writes its access record."""

from __future__ import annotations

from ghostllm.message import Exchange
from ghostllm.observe.access import AccessLog
from ghostllm.observe.metrics import Metrics


class GatewayObserver:
    """Implements ports.Observer. access: None, when no access log is wanted."""

    def __init__(self, metrics: Metrics, access: AccessLog | None) -> None:
        self._metrics = metrics
        self._access = access

    def opened(self, exchange: Exchange) -> None:
        self._metrics.in_flight += 1

    def finished(self, exchange: Exchange) -> None:
        self._metrics.in_flight -= 1
        self._metrics.finished(exchange)
        if self._access is not None:
            self._access.finished(exchange)
