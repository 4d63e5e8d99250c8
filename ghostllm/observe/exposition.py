"""Metric families and their text: OpenMetrics 1.0, or the classic Prometheus format 0.0.4.

Counting is what happens on the hot path, so a series is an object with plain numbers that the caller keeps:
`family.series(labels)` once, `series.value += 1` from then on. Text is made when somebody asks. Every family
is bounded: beyond its limit, new label values are counted together under "other". A series that has counted
nothing is not shown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable
from math import isinf
from typing import Protocol

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"

OTHER = "other"

Labels = tuple[str, ...]
Sample = tuple[dict[str, str], float]
"""Labels and value, as a gauge's reader gives them."""

_SPECIAL = {"\\": r"\\", '"': r"\"", "\n": r"\n"}
_QUALITY = re.compile(rb"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", re.IGNORECASE)


class Family(Protocol):
    def text(self, classic: bool) -> Iterable[str]:
        """Its lines, without line breaks."""


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """One series of a histogram: observations counted by bucket, not yet cumulated."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Counters:
    """A family of counters. name: without `_total`. limit: most series."""

    def __init__(
        self, name: str, help: str, labels: Labels = (), *, unit: str = "", limit: int = 1000
    ) -> None:
        self.name, self.help, self.labels, self.unit, self.limit = name, help, labels, unit, limit
        self._series: dict[Labels, Count] = {}

    def series(self, values: Labels) -> Count:
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= self.limit:
                values = (OTHER,) * len(values)
            found = self._series.setdefault(values, Count())
        return found

    def total(self, label: str, *values: str, other: bool = False) -> int:
        """The sum of the series whose `label` is one of `values`; other: of all whose is none of them."""
        at = self.labels.index(label)
        return sum(count.value for labels, count in self._series.items() if (labels[at] in values) != other)

    def text(self, classic: bool) -> Iterable[str]:
        yield from describe(self.name + "_total" if classic else self.name, "counter", self.help,
                            "" if classic else self.unit)  # fmt: skip
        for values, count in self._series.items():
            if count.value:
                yield f"{self.name}_total{braced(zip(self.labels, values, strict=True))} {count.value}"


class Histograms:
    """A family of histograms. name: ends in the unit. limit: most series, each of len(bounds) + 3 lines."""

    def __init__(
        self, name: str, help: str, labels: Labels, bounds: tuple[float, ...], *, unit: str = "seconds",
        limit: int = 200,
    ) -> None:  # fmt: skip
        self.name, self.help, self.labels, self.unit, self.limit = name, help, labels, unit, limit
        self.bounds = bounds
        self._les = [f'le="{bound!r}"}}' for bound in bounds] + ['le="+Inf"}']
        self._series: dict[Labels, Histogram] = {}

    def series(self, values: Labels) -> Histogram:
        found = self._series.get(values)
        if found is None:
            if len(self._series) >= self.limit:
                values = (OTHER,) * len(values)
            found = self._series.setdefault(values, Histogram(self.bounds))
        return found

    def text(self, classic: bool) -> Iterable[str]:
        yield from describe(self.name, "histogram", self.help, "" if classic else self.unit)
        for values, histogram in self._series.items():
            if not any(histogram.counts):
                continue
            labels = braced(zip(self.labels, values, strict=True))
            start = f"{self.name}_bucket{labels[:-1] + ',' if labels else '{'}"
            running = 0
            for le, count in zip(self._les, histogram.counts, strict=True):
                running += count
                yield f"{start}{le} {running}"
            yield f"{self.name}_sum{labels} {histogram.sum!r}"
            yield f"{self.name}_count{labels} {running}"


class Readings:
    """A family whose values somebody else has and gives when asked: a gauge, or with kind "counter" a total
    that is kept elsewhere, or with kind "info" facts in labels (its one value is 1).

    A reader that finds nothing gives nothing: unknown is not 0.
    """

    def __init__(
        self,
        name: str,
        help: str,
        read: Callable[[], Iterable[Sample]],
        *,
        kind: str = "gauge",
        unit: str = "",
    ) -> None:
        self.name, self.help, self.kind, self.unit = name, help, kind, unit
        self._read = read

    def text(self, classic: bool) -> Iterable[str]:
        name = self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")
        kind = "gauge" if classic and self.kind == "info" else self.kind
        yield from describe(name if classic else self.name, kind, self.help, "" if classic else self.unit)
        for labels, value in self._read():
            yield f"{name}{braced(labels.items())} {number(value)}"


def page(families: Iterable[Family], accept: bytes) -> tuple[str, bytes]:
    """Content type and text, in the format that the Accept header prefers."""
    classic = prefers_classic(accept)
    lines = [line for family in families for line in family.text(classic)]
    lines.append("" if classic else "# EOF\n")
    return CLASSIC if classic else OPENMETRICS, "\n".join(lines).encode()


def prefers_classic(accept: bytes) -> bool:
    """Whether plain text ranks above OpenMetrics (RFC 9110 12.5.1); a tie goes to OpenMetrics."""
    best = {b"application/openmetrics-text": -1.0, b"text/plain": -1.0}
    rank = dict.fromkeys(best, -1)
    for item in accept.lower().split(b","):
        media, *parameters = item.split(b";")
        media = media.strip()
        matches = [match for match in map(_QUALITY.fullmatch, parameters) if match]
        quality = float(matches[0][1]) if matches else 1.0
        for kind in best:
            precision = (b"*/*", kind.partition(b"/")[0] + b"/*", kind)
            if media in precision and precision.index(media) >= rank[kind]:
                best[kind], rank[kind] = quality, precision.index(media)
    return best[b"text/plain"] > best[b"application/openmetrics-text"]


def describe(name: str, kind: str, help: str, unit: str) -> Iterable[str]:
    yield f"# HELP {name} {_escape(help)}"
    yield f"# TYPE {name} {kind}"
    if unit:
        yield f"# UNIT {name} {unit}"


def braced(pairs: Iterable[tuple[str, str]]) -> str:
    inner = ",".join([f'{name}="{_escape(value)}"' for name, value in pairs])
    return f"{{{inner}}}" if inner else ""


def number(value: float) -> str:
    if isinstance(value, float) and isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if value != value else repr(value)


def _escape(text: str) -> str:
    if "\\" in text or '"' in text or "\n" in text:
        text = "".join([_SPECIAL.get(c, c) for c in text])
    # A lone "\r" ends a line for some readers, half a surrogate pair cannot be encoded.
    return text.replace("\r", " ").encode("utf-8", "replace").decode()
