"""What the gateway told, as lines for a terminal. What is missing or odd is shown as well as it can be."""

from __future__ import annotations

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

Told = Mapping[str, Any]

NARROWEST = 4
"""A column is not cut further than to this."""

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


def room() -> int:
    """Columns of the terminal that is written to; 0: it is none, and lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else 0


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """On a terminal it is made to fit: the widest columns are cut."""
    widths = [max(map(_cells, column)) for column in zip(*rows, strict=True)]
    columns = room()
    if columns:
        _narrow(widths, columns - len(indent) - 2 * (len(widths) - 1))
    return [
        indent + "  ".join(_filled(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _narrow(widths: list[int], columns: int) -> None:
    while sum(widths) > columns:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1


def _filled(text: str, width: int) -> str:
    taken = _cells(text)
    if taken > width:
        while text and _cells(text) > width - 1:
            text = text[:-1]
        text += "…"
        taken = _cells(text)
    return text + " " * (width - taken)


def _cells(text: str) -> int:
    """Columns of a terminal that it takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def pairs(told: Told) -> list[str]:
    return table([[str(plain(name)), plain(value)] for name, value in told.items()])


def models(found: Sequence[Told]) -> list[str]:
    return table(
        [["MODEL", "OWNER"], *([plain(model.get("id")), plain(model.get("owned_by"))] for model in found)]
    )


def targets(found: Sequence[Told]) -> list[str]:
    """Of each model where it is served, as the admin API has it."""
    rows = [["MODEL", "BALANCE", "BACKEND", "MODEL THERE", "STATE", "WHY"]]
    for model in found:
        head = [plain(model.get("name")), plain(model.get("balance"))]
        for target in objects(model.get("targets")) or [{}]:
            cells = [plain(target.get(name)) for name in ("backend", "model", "state", "why")]
            rows.append([*head, *cells])
            head = ["", ""]
    return table(rows)


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
