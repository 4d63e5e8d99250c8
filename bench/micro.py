"""What single functions of the hot path cost: `python -m bench.micro [WORD…]` prints µs of this thread's CPU.

A row is a function that prepares and returns what is to be timed:

    @row("wire: scan a request head", budget=4.0)
    def scan_head() -> Timed:
        ...
        return lambda: scan(head)

budget: µs that the design allows, None where it names no figure. calls: how many operations one call of
what is returned stands for. Best of several runs: the others measure the machine's other work.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import timeit
from collections.abc import Callable
from typing import NamedTuple

from ghostllm import jsonx, observe
from ghostllm.config.schema import Log
from ghostllm.message import Attempt, Call, Exchange, Identity, Request, Usage
from ghostllm.observe.access import access_record
from ghostllm.observe.metrics import Metrics
from ghostllm.observe.render import json_line, timestamp
from ghostllm.observe.sink import BATCH_RECORDS, LogSink

Timed = Callable[[], object]


class Row(NamedTuple):
    name: str
    prepare: Callable[[], Timed]
    budget: float | None
    calls: int


ROWS: list[Row] = []


def row(
    name: str, *, budget: float | None = None, calls: int = 1
) -> Callable[[Callable[[], Timed]], Callable[[], Timed]]:
    def register(prepare: Callable[[], Timed]) -> Callable[[], Timed]:
        ROWS.append(Row(name, prepare, budget, calls))
        return prepare

    return register


def measure(one: Row, seconds: float, repeats: int) -> float:
    """µs of CPU for one operation."""
    timer = timeit.Timer(one.prepare(), timer=time.thread_time)
    number = 1
    while (spent := timer.timeit(number)) < seconds / 4:
        number *= 4 if spent < seconds / 16 else 2
    return min(timer.repeat(repeats, number)) / number / one.calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only rows with one of these in their names")
    parser.add_argument("--seconds", type=float, default=0.1, help="CPU time of one run")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    width = max(len(one.name) for one in ROWS)
    print(f"{'µs of CPU per operation':<{width}}  {'best':>8}  {'budget':>7}")
    for one in ROWS:
        if args.words and not any(word in one.name for word in args.words):
            continue
        cost = measure(one, args.seconds, args.repeats)
        budget = "" if one.budget is None else f"{one.budget:g}"
        over = "  over" if one.budget is not None and cost > one.budget else ""
        print(f"{one.name:<{width}}  {cost:>8.2f}  {budget:>7}{over}", flush=True)


# --- observe


def answered() -> Exchange:
    """A streamed chat that went well at the first try."""
    request = Request(
        "POST", "/v1/chat/completions", {b"host": b"gateway", b"content-type": b"application/json"}
    )
    request.peer = "203.0.113.7"
    exchange = Exchange(request, "req_0123456789ab00000001", 100.0)
    exchange.route, exchange.status, exchange.outcome, exchange.backend = "chat", 200, "ok", "local"
    exchange.identity = Identity("team-a")
    exchange.call = Call("openai", "chat", "smollm2-135m-instruct", b"{}", {}, True)
    exchange.attempts = [Attempt("local", "smollm2-135m-instruct", 100.0, 200, "ok")]
    exchange.usage = Usage(123, 45, 0)
    exchange.committed, exchange.finished, exchange.bytes_out = 100.05, 100.8, 12_345
    return exchange


def silent() -> observe.Observability:
    """Logs JSON into nothing."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    seen = observe.build(Log(format="json"), nothing)
    os.close(nothing)
    return seen


@row("observe: time stamp, new millisecond")
def new_stamp() -> Timed:
    moments = iter(range(1_700_000_000_000, 1 << 62))
    return lambda: timestamp(next(moments) / 1000)


@row("observe: access record, one dict and dumps", budget=2.0)
def access_by_dict() -> Timed:
    exchange = answered()
    return lambda: json_line(access_record(exchange, "info", time.time()))


@row("observe: the same by a template, strings escaped one by one")
def access_by_template() -> Timed:
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


@row("observe: metrics of a finished request", budget=2.0)
def metrics_finished() -> Timed:
    metrics, exchange = Metrics(), answered()
    return lambda: metrics.finished(exchange)


@row("observe: all of a finished request but the sink", budget=4.0)
def observer_finished() -> Timed:
    metrics, exchange = Metrics(), answered()

    def finish() -> None:
        metrics.finished(exchange)
        json_line(access_record(exchange, "info", time.time()))

    return finish


@row("observe: sink, per record, with its share of the hand-over", budget=1.0, calls=BATCH_RECORDS)
def sink_write() -> Timed:
    nothing = os.open(os.devnull, os.O_WRONLY)
    sink = LogSink(nothing, lambda dropped: b"")
    os.close(nothing)
    sink.start(asyncio.new_event_loop())
    record = b"x" * 400

    def batch() -> None:
        for _ in range(BATCH_RECORDS):
            sink.write(record)
        while sink.backlog:  # waiting costs no CPU of this thread
            time.sleep(0.0001)

    return batch


@row("observe: side thread, join of 50 ms at 10 000 requests/s", budget=200.0)
def writer_join() -> Timed:
    records = [b"x" * 400] * 500
    return lambda: b"\n".join([*records, b""])


@row("observe: log.info with three fields")
def log_info() -> Timed:
    log = silent().log
    return lambda: log.info("listening", address="127.0.0.1:8080", version="0.1.0", loop="uvloop")


@row("observe: log.debug below the level")
def log_debug() -> Timed:
    log = silent().log
    return lambda: log.debug("not written", backend="one")


@row("observe: metrics page, 20 models behind one route")
def metrics_page() -> Timed:
    metrics, exchange = Metrics(), answered()
    assert exchange.call is not None
    for number in range(20):
        exchange.call.model = f"model-{number}"
        metrics.finished(exchange)
    return lambda: metrics.render(b"")


if __name__ == "__main__":
    main()
