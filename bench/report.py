"""Medians of the legs and the tables of them: `python -m bench.report build/bench.json` prints Markdown.

The first table is the README's: our figures beside the others', and whether they are what was promised. The
second has everything that was measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

Figures = Mapping[str, float]
Found = Mapping[str, Figures]
"""Figures of each peer."""


@dataclass(frozen=True)
class Row:
    """figure: its name in the results. ratio: whether it is held against nginx."""

    figure: str
    title: str
    ratio: bool = False


@dataclass(frozen=True)
class Bound:
    """What a figure of ours is held against: `value` times that of `peer`, or `value` itself. least: it may
    not be less, instead of not more.
    """

    value: float
    peer: str = ""
    least: bool = False

    def limit(self, found: Found, figure: str) -> float | None:
        """None where that peer was not measured."""
        if not self.peer:
            return self.value
        other = found.get(self.peer, {}).get(figure)
        return None if other is None else self.value * other

    def met(self, found: Found, figure: str, name: str = "ghostllm") -> bool | None:
        """name: which of our builds."""
        ours, limit = found.get(name, {}).get(figure), self.limit(found, figure)
        if ours is None or limit is None:
            return None
        return ours >= limit if self.least else ours <= limit

    def __str__(self) -> str:
        sign = "≥" if self.least else "≤"
        if not self.peer:
            return f"{sign} {self.value:g}"
        return f"{sign} {self.peer}" if self.value == 1 else f"{sign} {self.value:g} × {self.peer}"


@dataclass(frozen=True)
class Promise:
    figure: str
    title: str
    must: Bound
    aim: Bound
    aim_figure: str = ""
    """Where the aim is another figure than `must`."""


OURS = ("ghostllm", "ghostllm-compiled")
"""The package as it is, and with the request's path compiled."""

NO_TITLES: Mapping[str, str] = {}

PROMISES = [
    Promise("cpu_request_us", "CPU per request, 32 connections, µs", Bound(1, "envoy"), Bound(2.5, "nginx")),
    Promise(
        "cpu_token_us_512", "CPU per streamed token, 512 streams, µs", Bound(1, "envoy"), Bound(1, "nginx")
    ),
    Promise("added_p50_us", "added p50, one connection, µs", Bound(200), Bound(100)),
    Promise("added_p99_us", "added p99, one connection, µs", Bound(1000), Bound(400)),
    Promise(
        "clean_512", "of 512 paced streams, none lost or late", Bound(512, least=True),
        Bound(2000, least=True), "clean_2000",
    ),
    Promise("memory_rest_mb", "memory at rest, MB", Bound(40), Bound(30)),
    Promise("start_s", "start to first answer, s", Bound(0.5), Bound(0.3)),
]  # fmt: skip
"""ARCHITECTURE's figures to hold."""

ROWS = [
    Row("cpu_request_us", "CPU per request, µs", True),
    Row("requests_s", "requests/s, 32 connections"),
    Row("p99_32_us", "p99 at 32 connections, µs"),
    Row("p50_us", "p50, 1 connection, µs"),
    Row("p99_us", "p99, 1 connection, µs"),
    Row("added_p50_us", "added p50, 1 connection, µs"),
    Row("added_p99_us", "added p99, 1 connection, µs"),
    Row("cpu_token_us_64", "CPU per token, 64 streams, µs", True),
    Row("cpu_token_us_512", "CPU per token, 512 streams, µs", True),
    Row("cpu_token_us_2000", "CPU per token, 2000 slow streams, µs", True),
    Row("added_first_us_64", "added first token, 64 streams, µs"),
    Row("added_first_us_512", "added first token, 512 streams, µs"),
    Row("clean_512", "of 512 streams, none lost or late"),
    Row("worst_ms_512", "worst delay, 512 streams, ms"),
    Row("clean_2000", "of 2000 slow streams, none lost or late"),
    Row("worst_ms_2000", "worst delay, 2000 slow streams, ms"),
    Row("cpu_ms_20mb", "CPU of a 20 MB request, ms", True),
    Row("peak_mb_20mb", "memory peak of a 20 MB request, MB"),
    Row("cpu_ms_200kb", "CPU of a 200 KB prompt, ms", True),
    Row("peak_mb_200kb", "memory peak of a 200 KB prompt, MB"),
    Row("memory_rest_mb", "memory at rest, MB"),
    Row("memory_load_mb", "memory under load, MB"),
    Row("memory_mb_512", "memory after 512 streams, MB"),
    Row("memory_after_mb", "memory a minute after all load, MB"),
    Row("connection_kb", "memory of an idle connection, KB"),
    Row("stream_kb", "memory of a slow stream, KB"),
    Row("installed_mb", "installed, without the language's runtime, MB"),
    Row("start_s", "start to first answer, s"),
]


def medians(legs: Mapping[str, Sequence[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Per peer, the median of each figure over the repeats; delays less those of `direct` in the same."""
    for repeats in legs.values():
        for figures, direct in zip(repeats, legs["direct"], strict=False):
            _subtract(figures, direct)
    return {
        peer: {
            name: median(figures[name] for figures in repeats if name in figures)
            for name in dict.fromkeys(name for figures in repeats for name in figures)
        }
        for peer, repeats in legs.items()
    }


def _subtract(figures: dict[str, float], direct: Figures) -> None:
    for name in ("p50_us", "p99_us", "first_us_64", "first_us_512"):
        if name in figures and name in direct and figures is not direct:
            figures[f"added_{name}"] = figures[name] - direct[name]


# --- tables


def promises(found: Found, titles: Mapping[str, str] = NO_TITLES) -> str:
    """The README's table. titles: of peers, by name."""
    ours = [name for name in OURS if name in found] or ["ghostllm"]
    others = [peer for peer in found if peer != "direct" and peer not in OURS]
    head = ["", *(titles.get(peer, peer) for peer in (*others, *ours)), "must", "", "aim", ""]
    lines = [_line(head), _line(["---"] * len(head))]
    for promise in PROMISES:
        cells = [promise.title, *(shown(found[peer].get(promise.figure)) for peer in others)]
        cells += [shown(found.get(name, {}).get(promise.figure)) for name in ours]
        cells += [str(promise.must), _verdicts(promise.must, found, promise.figure, ours)]
        aim = promise.aim_figure or promise.figure
        measured = ", ".join(shown(found.get(name, {}).get(aim)) for name in ours)
        said = f" ({measured})" if promise.aim_figure else ""
        cells += [f"{promise.aim}{said}", _verdicts(promise.aim, found, aim, ours)]
        lines.append(_line(cells))
    return "\n".join(lines)


def _verdicts(bound: Bound, found: Found, figure: str, ours: Sequence[str]) -> str:
    """Of each of our builds, in the order of the columns; once where all say the same."""
    said = [_verdict(bound.met(found, figure, name)) for name in ours]
    return said[0] if len(set(said)) == 1 else " / ".join(said)


def _verdict(met: bool | None) -> str:
    return "–" if met is None else "yes" if met else "**no**"


def table(found: Found, titles: Mapping[str, str] = NO_TITLES) -> str:
    """A row for each figure, a column for each peer, ratios to nginx in brackets."""
    peers = ["direct", *(peer for peer in found if peer != "direct")]
    lines = [_line(["", *(titles.get(peer, peer) for peer in peers)]), _line(["---"] * (len(peers) + 1))]
    for row in ROWS:
        if not any(row.figure in figures for figures in found.values()):
            continue
        floor = found.get("nginx", {}).get(row.figure) if row.ratio else None
        cells = [_cell(found[peer].get(row.figure), floor if peer != "nginx" else None) for peer in peers]
        lines.append(_line([row.title, *cells]))
    return "\n".join(lines)


def translations(found: Found) -> str:
    """CPU per token between dialects, as many times that of bytes passed through; nothing if none was
    measured.
    """
    ours = found.get("ghostllm", {})
    through = ours.get("cpu_token_us_openai_openai")
    pairs = [(name.split("_")[-2:], cost) for name, cost in ours.items() if _is_pair(name)]
    if not pairs:
        return ""
    lines = [_line(["client", "backend", "CPU per token, µs", ""]), _line(["---"] * 4)]
    for (client, backend), cost in pairs:
        kind = "passed through" if client == backend else "translated"
        times = f", {cost / through:.2f}×" if through else ""
        lines.append(_line([client, backend, shown(cost), kind + times]))
    return "\n".join(lines)


def _is_pair(figure: str) -> bool:
    return figure.startswith("cpu_token_us_") and not figure.rpartition("_")[2].isdigit()


def against(found: Found, peer: str, title: str) -> str:
    """How many times cheaper we are than another gateway, in one sentence; nothing if it was not measured."""
    ours, theirs = found.get("ghostllm", {}), found.get(peer, {})
    said = []
    for figure, what in (
        ("cpu_request_us", "CPU per request"),
        ("cpu_token_us_64", "CPU per token"),
        ("added_p50_us", "added delay"),
        ("memory_rest_mb", "memory at rest"),
        ("installed_mb", "disk"),
        ("start_s", "time to start"),
    ):
        if figure in ours and figure in theirs and ours[figure] > 0:
            said.append(f"{what} 1/{theirs[figure] / ours[figure]:.0f}")
    return f"Against {title}: {', '.join(said)}." if said else ""


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: float | None, floor: float | None) -> str:
    return f"{shown(value)} ({value / floor:.2f}×)" if floor and value is not None else shown(value)


def shown(value: float | None) -> str:
    """Three figures or so; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def page(result: Mapping[str, Any]) -> str:
    """All there is to say of one run: of the JSON that `bench` wrote."""
    found, titles = result["medians"], result.get("titles", {})
    parts = [
        ", ".join(f"{name} {value}" for name, value in result.get("machine", {}).items()),
        promises(found, titles),
        against(found, "litellm", "LiteLLM"),
        table(found, titles),
        translations(found),
    ]
    return "\n\n".join(part for part in parts if part)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="The tables of one run.")
    parser.add_argument("file", nargs="?", default="build/bench.json", type=Path)
    print(page(json.loads(parser.parse_args().file.read_text("utf-8"))))


if __name__ == "__main__":
    main()
