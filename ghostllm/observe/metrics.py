"""Counters and histograms as plain integers, and their text: OpenMetrics 1.0, or the classic Prometheus
format.
 Label values are bounded: models and backends only by names that are configured or served, and no family
grows beyond SERIES_LIMIT; what would is counted under "other".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

import ghostllm
from ghostllm.observe import process

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
SERIES_LIMIT = 2_000

DURATION_BOUNDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)
TTFT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
LAG_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

Labels = tuple[str, ...]
Sample = tuple[dict[str, str], float]


class Histogram:
    """Observations in seconds, counted per bucket."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class Counters:
    """A family of counters by label values."""

    __slots__ = ("_series", "help", "labels", "name")

    def __init__(self, name: str, help: str, labels: Labels) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._series: dict[Labels, int] = {}

    def add(self, values: Labels, amount: int = 1) -> None:
        series = self._series
        if values not in series and len(series) >= SERIES_LIMIT:
            values = ("other",) * len(values)
        series[values] = series.get(values, 0) + amount

    def text(self, lines: list[str], classic: bool) -> None:
        name = f"{self.name}_total"
        _describe(lines, name if classic else self.name, self.help, "counter")
        for values, count in self._series.items():
            lines.append(f"{name}{_labels(zip(self.labels, values, strict=True))} {count}")


class Histograms:
    """A family of histograms by label values."""

    __slots__ = ("_series", "bounds", "help", "labels", "name")

    def __init__(self, name: str, help: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.name, self.help, self.labels, self.bounds = name, help, labels, bounds
        self._series: dict[Labels, Histogram] = {}

    def at(self, values: Labels) -> Histogram:
        histogram = self._series.get(values)
        if histogram is None:
            if len(self._series) >= SERIES_LIMIT:
                values = ("other",) * len(values)
            histogram = self._series.setdefault(values, Histogram(self.bounds))
        return histogram

    def text(self, lines: list[str], classic: bool) -> None:
        _describe(lines, self.name, self.help, "histogram", unit="" if classic else "seconds")
        for values, histogram in self._series.items():
            pairs = list(zip(self.labels, values, strict=True))
            running = 0
            for bound, count in zip((*map(str, self.bounds), "+Inf"), histogram.counts, strict=True):
                running += count
                lines.append(f"{self.name}_bucket{_labels([*pairs, ('le', bound)])} {running}")
            lines.append(f"{self.name}_sum{_labels(pairs)} {histogram.total!r}")
            lines.append(f"{self.name}_count{_labels(pairs)} {running}")


class Metrics:
    """All families. Gauges are asked when somebody reads."""

    def __init__(self) -> None:
        self.requests = Counters(
            "ghostllm_requests", "Requests, by how they ended.", ("route", "model", "backend", "status")
        )
        self.errors = Counters(
            "ghostllm_request_errors", "Requests that failed, by what the client was told.", ("route", "code")
        )
        self.cancelled = Counters("ghostllm_cancelled_requests", "Requests whose client left.", ("route",))
        self.tokens = Counters(
            "ghostllm_tokens", "Tokens that backends reported.", ("direction", "model", "backend")
        )
        self.attempts = Counters(
            "ghostllm_upstream_attempts", "Attempts on backends.", ("backend", "outcome")
        )
        self.duration = Histograms(
            "ghostllm_request_duration_seconds",
            "From the request's head to the answer's end.",
            ("route", "model"),
            DURATION_BOUNDS,
        )
        self.first_token = Histograms(
            "ghostllm_time_to_first_token_seconds",
            "From the request's head to the first content.",
            ("model", "backend"),
            TTFT_BOUNDS,
        )
        self._lag = Histograms(
            "ghostllm_event_loop_lag_seconds", "How late the event loop was.", (), LAG_BOUNDS
        )
        self.loop_lag = self._lag.at(())
        self.in_flight = 0
        self._gauges: list[tuple[str, str, Callable[[], Iterable[Sample]]]] = []
        self.gauge("ghostllm_requests_in_flight", "Requests being served.", lambda: [({}, self.in_flight)])
        self.gauge("ghostllm_build_info", "Version.", lambda: [({"version": ghostllm.__version__}, 1)])
        for name, help, read in process.GAUGES:
            self.gauge(name, help, _one(read))

    def gauge(self, name: str, help: str, read: Callable[[], Iterable[Sample]]) -> None:
        self._gauges.append((name, help, read))

    def render(self, accept: bytes) -> tuple[str, bytes]:
        """Content type and text; the classic format for who does not ask for OpenMetrics."""
        classic = b"openmetrics" not in accept
        lines: list[str] = []
        for counters in (self.requests, self.errors, self.cancelled, self.tokens, self.attempts):
            counters.text(lines, classic)
        for histograms in (self.duration, self.first_token, self._lag):
            histograms.text(lines, classic)
        for name, help, read in self._gauges:
            _describe(lines, name, help, "gauge")
            lines += [f"{name}{_labels(labels.items())} {value!r}" for labels, value in read()]
        cpu = process.cpu_seconds()
        name = "process_cpu_seconds"
        _describe(lines, f"{name}_total" if classic else name, "User and system time.", "counter")
        lines.append(f"{name}_total {cpu!r}")
        if not classic:
            lines.append("# EOF")
        return CLASSIC if classic else OPENMETRICS, ("\n".join(lines) + "\n").encode()


def _one(read: Callable[[], float | None]) -> Callable[[], Iterable[Sample]]:
    def sample() -> list[Sample]:
        value = read()
        return [] if value is None else [({}, value)]

    return sample


def _describe(lines: list[str], name: str, help: str, kind: str, unit: str = "") -> None:
    lines.append(f"# TYPE {name} {kind}")
    if unit:
        lines.append(f"# UNIT {name} {unit}")
    lines.append(f"# HELP {name} {help}")


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
