"""Sees every exchange at its beginning and its end: counts it, remembers it, writes its access record."""

from __future__ import annotations

from ghostllm.message import Exchange
from ghostllm.observe.access import AccessLog
from ghostllm.observe.metrics import Metrics
from ghostllm.observe.recorder import Recorder


class GatewayObserver:
    """Implements ports.Observer. access: None, when no access log is wanted. recorder: None, when nothing is
    to be remembered.
    """

    def __init__(self, metrics: Metrics, access: AccessLog | None, recorder: Recorder | None = None) -> None:
        self._metrics = metrics
        self._access = access
        self._recorder = recorder

    def use(self, access: AccessLog | None, recorder: Recorder | None) -> None:
        """In place of those that it has had."""
        self._access = access
        self._recorder = recorder

    def opened(self, exchange: Exchange) -> None:
        self._metrics.in_flight += 1
        if self._recorder is not None:
            self._recorder.opened(exchange)

    def finished(self, exchange: Exchange) -> None:
        self._metrics.in_flight -= 1
        self._metrics.finished(exchange)
        if self._recorder is not None:
            self._recorder.finished(exchange)
        if self._access is not None:
            self._access.finished(exchange)
