"""One record for each request: what its operator asks about it later. Never its words, headers or keys."""

from __future__ import annotations

from typing import Any

from ghostllm.message import Exchange
from ghostllm.observe.log import Logger


class AccessLog:
    """Writes the records to `log`."""

    def __init__(self, log: Logger) -> None:
        self._log = log

    def write(self, exchange: Exchange) -> None:
        level = "warning" if exchange.outcome in ("error", "broken") and exchange.status >= 500 else "info"
        self._log.record(level, "request", fields(exchange))


def fields(exchange: Exchange) -> dict[str, Any]:
    """Times are milliseconds. What is unknown or usual is left out."""
    request, usage, call = exchange.request, exchange.usage, exchange.call
    record: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": request.method,
        "path": request.path,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "duration_ms": _milliseconds(exchange.finished, exchange.received),
        "key": exchange.identity.key,
        "peer": request.peer,
        "bytes_out": exchange.bytes_out,
    }
    if call is not None:
        record["model"] = call.model
        record["stream"] = call.stream
        record["backend"] = exchange.backend
        record["attempts"] = len(exchange.attempts)
        if exchange.committed is not None:
            record["ttft_ms"] = _milliseconds(exchange.committed, exchange.received)
        if usage.known:
            record["prompt_tokens"] = usage.prompt
            record["completion_tokens"] = usage.completion
        if usage.cached is not None:
            record["cached_tokens"] = usage.cached
        if usage.estimated:
            record["estimated"] = True
        if usage.partial:
            record["partial"] = True
        if len(exchange.attempts) > 1 or exchange.outcome != "ok":
            record["tried"] = [
                {
                    "backend": attempt.backend,
                    "outcome": attempt.outcome,
                    "status": attempt.status,
                    "error": attempt.error,
                }
                for attempt in exchange.attempts
            ]
    retries = request.headers.get(b"x-stainless-retry-count")
    if retries is not None and retries != b"0":
        record["client_retries"] = retries[:8].decode("latin-1")
    if exchange.error is not None:
        record["error"] = exchange.error.message
    return record


def _milliseconds(later: float | None, earlier: float) -> float | None:
    return None if later is None else round((later - earlier) * 1000, 2)
