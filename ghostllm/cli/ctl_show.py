"""What the gateway told, as lines for a terminal. What is missing or odd is shown as well as it can be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Told = Mapping[str, Any]

BACKENDS = ("name", "kind", "state", "breaker", "in_flight", "waiting", "weight", "why")


def plain(value: Any) -> str:
    """One line for a terminal, whatever the other side sent: no control characters."""
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", value if isinstance(value, str) else json.dumps(value))


def mapping(value: Any) -> Told:
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Told]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def milliseconds(value: Any) -> str:
    """A number of them as a person reads it."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "-"
    return (
        f"{value / 1000:.2f} s"
        if value >= 10_000
        else f"{value:.0f} ms"
        if value >= 100
        else f"{value:.1f} ms"
    )


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def pairs(told: Told) -> list[str]:
    return table([[str(plain(name)), plain(value)] for name, value in told.items()])


def models(found: Sequence[Told]) -> list[str]:
    return table(
        [["MODEL", "OWNER"], *([plain(model.get("id")), plain(model.get("owned_by"))] for model in found)]
    )


def backends(found: Sequence[Told]) -> list[str]:
    head = [name.replace("_", " ").upper() for name in BACKENDS]
    return table([head, *([plain(backend.get(name)) for name in BACKENDS] for backend in found)])


def audit(found: Sequence[Told]) -> list[str]:
    rows = [["TIME", "NUMBER", "WHO", "FROM", "ACTION", "TARGET", "OUTCOME", "CHANGED"]]
    for action in found:
        outcome, why = plain(action.get("outcome")), action.get("error")
        rows.append(
            [
                *(plain(action.get(name)) for name in ("time", "number", "who", "peer", "action", "target")),
                f"{outcome}: {plain(why)}" if why else outcome,
                plain(action.get("changed")),
            ]
        )
    return table(rows)


def requests(found: Sequence[Told]) -> list[str]:
    rows = [["TIME", "ID", "STATUS", "OUTCOME", "MODEL", "BACKEND", "KEY", "TOOK", "TRIES"]]
    for request in found:
        outcome, code = plain(request.get("outcome")), request.get("code")
        rows.append(
            [
                plain(request.get("time")),
                plain(request.get("id")),
                plain(request.get("status")),
                f"{outcome}: {plain(code)}" if code else outcome,
                plain(request.get("model")),
                plain(request.get("backend")),
                plain(request.get("key")),
                milliseconds(request.get("duration_ms")),
                plain(request.get("attempts")),
            ]
        )
    return table(rows)
