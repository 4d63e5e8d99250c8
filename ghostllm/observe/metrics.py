"""What is counted. A finished request is one dict look-up and a few additions; the rest is made when asked.

Label values are names that exist (models that the catalog knows or that were tried, configured backends and
keys, routes, our own error codes), never what a client made up: that is "other".
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator

import ghostllm
from ghostllm import errors, jsonx
from ghostllm.message import NO_USAGE, Attempt, Exchange
from ghostllm.observe import exposition, process
from ghostllm.observe.exposition import (
    OTHER,
    Count,
    Counters,
    Family,
    Histogram,
    Histograms,
    Readings,
    Sample,
)

DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0,
                   320.0, 640.0)  # fmt: skip
FIRST_TOKEN_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0,
                      300.0)  # fmt: skip
KNOWN_LIMIT = 4096  # label combinations that are looked up in one step

Key = tuple[str, str, str | None, int, str]
"""Route, model as asked for, backend, status, key."""


def _codes(kind: type[errors.GhostError]) -> Iterator[str]:
    if kind.code is not None:
        yield kind.code
    for narrower in kind.__subclasses__():
        yield from _codes(narrower)


CODES = frozenset(_codes(errors.GhostError)) | {
    "ok", "error", "cancelled", "open", "rate_limit_exceeded", "insufficient_quota", "server_error",
}  # fmt: skip
"""Outcomes and error codes that are labels; a backend may invent others."""


class Series:
    """All that one kind of finished request adds to."""

    __slots__ = (
        "answered", "cached", "completion", "duration", "first_token", "labels", "prompt", "requests",
    )  # fmt: skip

    def __init__(self, labels: tuple[str, str, str], requests: Count, tokens: tuple[Count, Count, Count],
                 duration: Histogram, first_token: Histogram) -> None:  # fmt: skip
        self.labels = labels
        self.requests = requests
        self.answered: Count | None = None
        self.prompt, self.completion, self.cached = tokens
        self.duration = duration
        self.first_token = first_token


class Metrics:
    """model_name: the name of a model, given what a client called it (an alias, say); None if there is no
    such model. Set it to have requests labelled that failed before they were tried anywhere.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.model_name: Callable[[str], str | None] = lambda name: None
        where = ("route", "model", "backend")
        self._requests = Counters(
            "ghostllm_requests",
            "Requests by how they ended; status none: the client left before the answer.",
            (*where, "status"),
        )
        self._errors = Counters(
            "ghostllm_request_errors",
            "Requests that failed; outcome broken: inside the answer.",
            (*where, "outcome", "code"),
        )
        self._cancelled = Counters("ghostllm_cancelled", "Requests whose client left.", where)
        self._duration = Histograms(
            "ghostllm_request_duration_seconds",
            "From the request's head to the answer's last byte.",
            where,
            DURATION_BOUNDS,
        )
        self._first_token = Histograms(
            "ghostllm_time_to_first_token_seconds",
            "From the request's head to a stream's first content.",
            where,
            FIRST_TOKEN_BOUNDS,
        )
        self._tokens = Counters(
            "ghostllm_tokens",
            "Tokens spent; cached ones are part of the prompt's.",
            ("direction", "model", "backend", "key"),
            unit="tokens",
            limit=3000,
        )
        self._attempts = Counters(
            "ghostllm_upstream_attempts", "Tries on backends by how they ended.", ("backend", "outcome")
        )
        self._rescues = Counters(
            "ghostllm_rescues",
            "Streams that broke elsewhere and that this backend went on with.",
            ("backend",),
        )
        self._queue = Histograms(
            "ghostllm_queue_seconds",
            "Waits for a turn, of those that waited.",
            ("model",),
            FIRST_TOKEN_BOUNDS,
        )
        self._known: dict[Key, Series] = {}
        self._families: list[Family] = [
            self._requests, self._errors, self._cancelled, self._duration, self._first_token, self._tokens,
            self._attempts, self._rescues, self._queue,
        ]  # fmt: skip
        self.gauge("ghostllm_requests_in_flight", "Requests being served.", lambda: [({}, self.in_flight)])
        self._process_facts()

    def __repr__(self) -> str:
        return f"<Metrics in_flight={self.in_flight} combinations={len(self._known)}>"

    # --- what is shown

    def add(self, family: Family) -> None:
        """One more family; its name must be new and its labels bounded."""
        self._families.append(family)

    def gauge(self, name: str, help: str, read: Callable[[], Iterable[Sample]], *, unit: str = "") -> None:
        """A value that is read when somebody asks. unit: the name ends in it."""
        self.add(Readings(name, help, read, unit=unit))

    def counter(self, name: str, help: str, read: Callable[[], Iterable[Sample]], *, unit: str = "") -> None:
        """A total that is kept elsewhere. name: without `_total`."""
        self.add(Readings(name, help, read, kind="counter", unit=unit))

    def render(self, accept: bytes = b"") -> tuple[str, bytes]:
        """Content type and text, for the request's Accept header."""
        return exposition.page(self._families, accept)

    def totals(self) -> dict[str, int]:
        """Of the requests that asked for a model, since the start."""
        return {
            "requests": self._requests.total("model", "", other=True),
            "failed": self._errors.total("model", "", other=True),
            "cancelled": self._cancelled.total("model", "", other=True),
            "prompt_tokens": self._tokens.total("direction", "prompt"),
            "completion_tokens": self._tokens.total("direction", "completion"),
        }

    def _process_facts(self) -> None:
        build = {"version": ghostllm.__version__, "python": platform.python_version(), "json": jsonx.BACKEND}
        self.add(Readings("ghostllm_build", "What runs here.", lambda: [(build, 1)], kind="info"))
        self.counter(
            "process_cpu_seconds", "User and system time.", _alone(process.cpu_seconds), unit="seconds"
        )
        self.gauge(
            "process_resident_memory_bytes", "Memory in use.", _alone(process.resident_bytes), unit="bytes"
        )
        self.gauge("process_open_fds", "Open file descriptors.", _alone(process.open_descriptors))
        self.gauge(
            "process_max_fds", "Most file descriptors that may be open.", _alone(process.most_descriptors)
        )
        self.gauge("process_start_time_seconds", "When this process started, Unix time.",
                   _alone(lambda: process.STARTED), unit="seconds")  # fmt: skip

    # --- what is counted

    def finished(self, exchange: Exchange) -> None:
        """An exchange is over: its numbers."""
        call = exchange.call
        key = (exchange.route, "" if call is None else call.model, exchange.backend, exchange.status,
               exchange.identity.key)  # fmt: skip
        series = self._known.get(key)
        if series is None:
            series = self._find(key, exchange)
        series.requests.value += 1
        received, finished = exchange.received, exchange.finished
        if finished is not None and exchange.route:  # how long a refusal takes tells nobody anything
            series.duration.observe(finished - received)
        if call is not None:
            if call.stream and exchange.committed is not None:
                series.first_token.observe(exchange.committed - received)
            usage = exchange.usage
            if usage is not NO_USAGE and exchange.cache != "hit":  # that was spent once, and counted then
                if usage.prompt:
                    series.prompt.value += usage.prompt
                if usage.completion:
                    series.completion.value += usage.completion
                if usage.cached:
                    series.cached.value += usage.cached
            attempts = exchange.attempts
            if len(attempts) == 1 and attempts[0].outcome == "ok":
                answered = series.answered
                if answered is None:
                    answered = series.answered = self._attempts.series((attempts[0].backend, "ok"))
                answered.value += 1
            else:
                self._add_attempts(attempts)
            if exchange.queued:
                self._queue.series((series.labels[1],)).observe(exchange.queued)
        outcome = exchange.outcome
        if outcome != "ok":
            self._add_failure(series, exchange, outcome)

    def _add_attempts(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            outcome = attempt.outcome if attempt.outcome in CODES else OTHER
            self._attempts.series((attempt.backend, outcome)).value += 1
            if attempt.purpose == "rescue" and attempt.first_token is not None:
                self._rescues.series((attempt.backend,)).value += 1

    def _add_failure(self, series: Series, exchange: Exchange, outcome: str) -> None:
        if outcome == "cancelled":
            self._cancelled.series(series.labels).value += 1
        elif exchange.error is not None:
            code = exchange.error.code
            if code is None:
                code = f"http_{exchange.error.status}"
            elif code not in CODES:
                code = OTHER
            self._errors.series((*series.labels, outcome, code)).value += 1

    def _find(self, key: Key, exchange: Exchange) -> Series:
        route, asked, backend, status, user = key
        model = self._model(asked, exchange) if exchange.call is not None else ""
        labels = (route or OTHER, model, backend or "")
        tokens = tuple(
            self._tokens.series((direction, model, backend or "", user))
            for direction in ("prompt", "completion", "cached")
        )
        series = Series(
            labels,
            self._requests.series((*labels, str(status) if status else "none")),
            (tokens[0], tokens[1], tokens[2]),
            self._duration.series(labels),
            self._first_token.series(labels),
        )
        if model != OTHER:  # or clients could fill it with names they make up
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[key] = series
        return series

    def _model(self, asked: str, exchange: Exchange) -> str:
        name = self.model_name(asked)
        if name is not None:
            return name
        return asked if exchange.attempts else OTHER  # what has been tried exists, or did a moment ago


def _alone(read: Callable[[], float | None]) -> Callable[[], Iterable[Sample]]:
    """One value without labels; none where nobody knows it."""

    def samples() -> list[Sample]:
        value = read()
        return [] if value is None else [({}, value)]

    return samples
