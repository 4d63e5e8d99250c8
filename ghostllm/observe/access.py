"""The access record: one for each exchange, made when it is over.

It says who asked what of whom, how it went and what it took; never what was said: no prompt, no answer, no
header value, no key. The query of the target is left out for the same reason.

One dict and one `dumps`: a template filled by hand, with its strings escaped one by one, saves nothing worth
having two formats for (bench/micro.py).
"""

from __future__ import annotations

import time

from ghostllm.message import Attempt, Exchange
from ghostllm.observe.log import LEVELS
from ghostllm.observe.render import Record, Renderer, timestamp
from ghostllm.observe.sink import LogSink

LONGEST_NAME = 256  # of a path or a model: clients choose them
LONGEST_ERROR = 300


class AccessLog:
    """Writes the records at or above `level`: requests that the gateway or a backend failed are warnings,
    all others information.
    """

    def __init__(self, sink: LogSink, render: Renderer, level: str) -> None:
        self._write = sink.write
        self._render = render
        self._least = LEVELS[level]

    def finished(self, exchange: Exchange) -> None:
        if exchange.status >= 500 or exchange.outcome == "broken":
            if self._least <= LEVELS["warning"]:
                self._write(self._render(access_record(exchange, "warning", time.time())))
        elif self._least <= LEVELS["info"]:
            self._write(self._render(access_record(exchange, "info", time.time())))


def access_record(exchange: Exchange, level: str, now: float) -> Record:
    """now: Unix time. Times in the record are milliseconds since the request's head was there; a status of
    null means that the client left before it saw one; a token count of null that nobody told it.
    """
    request = exchange.request
    received, finished = exchange.received, exchange.finished
    path = request.path
    if len(path) > LONGEST_NAME:
        path = shortened(path)
    record: Record = {
        "time": timestamp(now),
        "level": level,
        "event": "request",
        "request_id": exchange.request_id,
        "key": exchange.identity.key,
        "peer": request.peer,
        "method": request.method,
        "path": path,
        "status": exchange.status or None,
        "outcome": exchange.outcome,
        "duration_ms": None if finished is None else int((finished - received) * 1e6 + 0.5) / 1000,
        "bytes_out": exchange.bytes_out,
    }
    call = exchange.call
    if call is not None:
        usage, attempts, committed = exchange.usage, exchange.attempts, exchange.committed
        record |= {
            "model": call.model if len(call.model) <= LONGEST_NAME else shortened(call.model),
            "stream": call.stream,
            "backend": exchange.backend,
            "attempts": len(attempts),
            "ttft_ms": None if committed is None else int((committed - received) * 1e6 + 0.5) / 1000,
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "cached_tokens": usage.cached,
        }
        if usage.estimated:
            record["estimated"] = True
        if usage.partial:
            record["partial"] = True
        if len(attempts) > 1 or (attempts and attempts[0].outcome != "ok"):
            record["tried"] = [_tell(attempt) for attempt in attempts]
        if exchange.rescued:
            record["rescued"] = exchange.rescued
        if exchange.queued:
            record["queued_ms"] = int(exchange.queued * 1e6 + 0.5) / 1000
        if exchange.arm:
            record["arm"] = exchange.arm
        if exchange.cache:
            record["cache"] = exchange.cache
    if exchange.error is not None and exchange.outcome != "ok":
        record["code"] = exchange.error.code
        record["error"] = exchange.error.message[:LONGEST_ERROR]
    retries = request.headers.get(b"x-stainless-retry-count")  # OpenAI's and Anthropic's SDKs send it
    if retries is not None and retries != b"0" and retries.isdigit() and len(retries) <= 4:
        record["client_retry"] = int(retries)
    return record


def shortened(name: str) -> str:
    """A name that is longer than any that means something."""
    return name[:LONGEST_NAME] + "…"


def _tell(attempt: Attempt) -> Record:
    told: Record = {"backend": attempt.backend, "model": attempt.model, "outcome": attempt.outcome}
    if attempt.status is not None:
        told["status"] = attempt.status
    if attempt.error is not None:
        told["error"] = attempt.error[:LONGEST_ERROR]
    return told
