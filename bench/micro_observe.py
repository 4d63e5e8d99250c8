"""Rows of `bench.micro`: what it costs to be seen."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from bench.micro import Rows, Timed

if TYPE_CHECKING:
    from ghostllm.message import Exchange
    from ghostllm.observe import Observability

ROWS = Rows()
BATCH = 1024
"""Records of one hand-over to the side thread."""


def answered() -> Exchange:
    """A streamed chat that went well at the first try."""
    from ghostllm.message import Attempt, Call, Exchange, Identity, Request, Usage

    request = Request(
        "POST", "/v1/chat/completions", {b"host": b"gateway", b"content-type": b"application/json"}
    )
    request.peer = "203.0.113.7"
    exchange = Exchange(request, "req_0123456789ab00000001", 100.0)
    exchange.route, exchange.status, exchange.outcome, exchange.backend = "chat", 200, "ok", "local"
    exchange.identity = Identity("team-a")
    exchange.call = Call("openai", "chat", "smollm2-135m-instruct", b"{}", {}, True)
    exchange.attempts = [Attempt("local", "smollm2-135m-instruct", 100.0, status=200, outcome="ok")]
    exchange.usage = Usage(123, 45, 0)
    exchange.committed, exchange.finished, exchange.bytes_out = 100.05, 100.8, 12_345
    return exchange


def silent() -> Observability:
    """Logs JSON into nothing."""
    from ghostllm import observe
    from ghostllm.config.schema import Log

    nothing = os.open(os.devnull, os.O_WRONLY)
    seen = observe.build(Log(format="json"), nothing)
    os.close(nothing)
    return seen


@ROWS("observe: time stamp, new millisecond")
def new_stamp() -> Timed:
    from ghostllm.observe.render import timestamp

    moments = iter(range(1_700_000_000_000, 1 << 62))
    return lambda: timestamp(next(moments) / 1000)


@ROWS("observe: access record, one dict and dumps", budget=2.0)
def access_by_dict() -> Timed:
    from ghostllm.observe.access import access_record
    from ghostllm.observe.render import json_line

    exchange = answered()
    return lambda: json_line(access_record(exchange, "info", time.time()))


@ROWS("observe: the same by a template, strings escaped one by one")
def access_by_template() -> Timed:
    from ghostllm import jsonx
    from ghostllm.observe.render import timestamp

    exchange = answered()
    quoted = jsonx.dumps

    def fill() -> bytes:
        request, call, usage, received = exchange.request, exchange.call, exchange.usage, exchange.received
        assert call is not None and exchange.committed is not None and exchange.finished is not None
        return (
            b'{"time":"%b","level":"info","event":"request","request_id":%b,"key":%b,"peer":%b,"method":%b,'
            b'"path":%b,"status":%d,"outcome":%b,"duration_ms":%.3f,"bytes_out":%d,"model":%b,"stream":%b,'
            b'"backend":%b,"attempts":%d,"ttft_ms":%.3f,"prompt_tokens":%b,"completion_tokens":%b,'
            b'"cached_tokens":%b}'
        ) % (
            timestamp(time.time()).encode(), quoted(exchange.request_id), quoted(exchange.identity.key),
            quoted(request.peer), quoted(request.method), quoted(request.path), exchange.status,
            quoted(exchange.outcome), (exchange.finished - received) * 1e3, exchange.bytes_out,
            quoted(call.model), quoted(call.stream), quoted(exchange.backend), len(exchange.attempts),
            (exchange.committed - received) * 1e3, quoted(usage.prompt), quoted(usage.completion),
            quoted(usage.cached),
        )  # fmt: skip

    return fill


@ROWS("observe: metrics of a finished request", budget=2.0)
def metrics_finished() -> Timed:
    from ghostllm.observe.metrics import Metrics

    metrics, exchange = Metrics(), answered()
    return lambda: metrics.finished(exchange)


@ROWS("observe: all of a finished request but the sink", budget=4.0)
def observer_finished() -> Timed:
    from ghostllm.observe.access import access_record
    from ghostllm.observe.metrics import Metrics
    from ghostllm.observe.render import json_line

    metrics, exchange = Metrics(), answered()

    def finish() -> None:
        metrics.finished(exchange)
        json_line(access_record(exchange, "info", time.time()))

    return finish


@ROWS("observe: sink, per record, with its share of the hand-over", budget=1.0, calls=BATCH)
def sink_write() -> Timed:
    from ghostllm.observe.sink import LogSink

    nothing = os.open(os.devnull, os.O_WRONLY)
    sink = LogSink(nothing, lambda dropped: b"")
    os.close(nothing)
    sink.start(asyncio.new_event_loop())
    record = b"x" * 400

    def batch() -> None:
        for _ in range(BATCH):
            sink.write(record)
        while sink.backlog:  # waiting costs no CPU of this thread
            time.sleep(0.0001)

    return batch


@ROWS("observe: side thread, join of 50 ms at 10 000 requests/s", budget=200.0)
def writer_join() -> Timed:
    records = [b"x" * 400] * 500
    return lambda: b"\n".join([*records, b""])


@ROWS("observe: log.info with three fields")
def log_info() -> Timed:
    log = silent().log
    return lambda: log.info("listening", address="127.0.0.1:8080", version="0.1.0", loop="uvloop")


@ROWS("observe: log.debug below the level")
def log_debug() -> Timed:
    log = silent().log
    return lambda: log.debug("not written", backend="one")


@ROWS("observe: metrics page, 20 models behind one route")
def metrics_page() -> Timed:
    from ghostllm.observe.metrics import Metrics

    metrics, exchange = Metrics(), answered()
    assert exchange.call is not None
    for number in range(20):
        exchange.call.model = f"model-{number}"
        metrics.finished(exchange)
    return lambda: metrics.render(b"")
