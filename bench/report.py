"""Medians of the legs, and the table of them with ratios."""

from __future__ import annotations

from statistics import median

from bench.legs import Figures

ROWS: list[tuple[str, str, str]] = [
    ("cpu_request_us", "CPU per request, µs", "ratio"),
    ("requests_s", "requests/s, 32 connections", ""),
    ("p99_32_us", "p99 at 32 connections, µs", ""),
    ("added_p50_us", "added p50, 1 connection, µs", ""),
    ("added_p99_us", "added p99, 1 connection, µs", ""),
    ("cpu_token_us_64", "CPU per token, 64 streams, µs", "ratio"),
    ("cpu_token_us_512", "CPU per token, 512 streams, µs", "ratio"),
    ("cpu_token_us_2000", "CPU per token, 2000 slow streams, µs", "ratio"),
    ("added_first_us_64", "added first token, 64 streams, µs", ""),
    ("added_first_us_512", "added first token, 512 streams, µs", ""),
    ("clean_512", "of 512 streams, none lost or late", ""),
    ("worst_ms_512", "worst delay, 512 streams, ms", ""),
    ("clean_2000", "of 2000 slow streams, none lost or late", ""),
    ("worst_ms_2000", "worst delay, 2000 slow streams, ms", ""),
    ("memory_rest_mb", "memory at rest, MB", ""),
    ("memory_load_mb", "memory under load, MB", ""),
    ("memory_mb_512", "memory after 512 streams, MB", ""),
    ("memory_mb_2000", "memory after 2000 streams, MB", ""),
    ("start_s", "start to first answer, s", ""),
]
"""Figure, its name, and whether it is held against nginx as a ratio."""


def medians(legs: dict[str, list[Figures]]) -> dict[str, Figures]:
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


def _subtract(figures: Figures, direct: Figures) -> None:
    for name in ("p50_us", "p99_us", "first_us_64", "first_us_512"):
        if name in figures and name in direct and figures is not direct:
            figures[f"added_{name}"] = figures[name] - direct[name]


def table(found: dict[str, Figures]) -> str:
    """A Markdown table: a row for each figure, a column for each peer, ratios to nginx in brackets."""
    peers = [peer for peer in found if peer != "direct"]
    lines = ["| | direct | " + " | ".join(peers) + " |", "|---|---|" + "---|" * len(peers)]
    for name, title, kind in ROWS:
        if not any(name in figures for figures in found.values()):
            continue
        floor = found.get("nginx", {}).get(name) if kind == "ratio" else None
        cells = [
            _cell(found[peer].get(name), floor if peer != "nginx" else None) for peer in ("direct", *peers)
        ]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, floor: float | None) -> str:
    if value is None:
        return "–"
    shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"
    return f"{shown} ({value / floor:.2f}×)" if floor else shown
