"""Reports of the usage ledger: sums by group, and all records as CSV or JSON lines.

Both go through the records in steps, so that what is written meanwhile never waits for more than one of them,
however large the ledger is.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ghostllm import jsonx
from ghostllm.errors import RequestError
from ghostllm.state.database import Database, Row
from ghostllm.state.ledger import Ledger

Format = Literal["csv", "jsonl"]

GROUPS: Mapping[str, str] = {
    "key": "key",
    "team": "team",
    "model": "model",
    "asked": "asked",
    "backend": "backend",
    "route": "route",
    "outcome": "outcome",
    "day": "day",
    "month": "substr(day, 1, 7)",
}
"""What can be grouped and filtered by, and the SQL for it: nothing else of a query is text of a client."""

COUNTS = ("prompt", "completion", "cached", "cache_write", "reasoning")
SUMS = ("requests", "failed", *(f"{count}_tokens" for count in COUNTS), "estimated", "partial", "cost")
COLUMNS = (
    "time", "request", "key", "team", "asked", "model", "backend", "route", "status", "outcome", *COUNTS,
    "estimated", "partial", "cost", "currency", "duration", "ttft", "attempts", "day",
)  # fmt: skip

_COST = COLUMNS.index("cost")

STEP_ROWS = 20_000  # summed up in one read: some 20 ms
PAGE_ROWS = 500  # exported at a time
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute. Clients choose some of the names."""

_SUMMED = f"""
    count(*), sum(outcome <> 'ok' OR status >= 400), {", ".join(f"sum({count})" for count in COUNTS)},
    sum(estimated), sum(partial), sum(cost), sum(duration), count(duration), sum(ttft), count(ttft)
"""


@dataclass(slots=True, frozen=True, kw_only=True)
class Span:
    """Which records. since, until: seconds since 1970, the first counted in, the last not; None: no bound.
    filters: values by the names of GROUPS.
    """

    since: float | None = None
    until: float | None = None
    filters: Mapping[str, str] | None = None

    def condition(self) -> tuple[str, list[str]]:
        """SQL behind a WHERE, and its parameters. Raises RequestError for a filter that is none."""
        filters = self.filters or {}
        return "".join(f" AND {_column(name)} = ?" for name in filters), list(filters.values())


ALL = Span()


@dataclass(slots=True, frozen=True)
class Report:
    """rows: of each group its members, `currency`, the SUMS, and `duration` and `ttft` (means in seconds,
    None where there are none). cost: in millionths. lost: records that could not be written since the
    start, of all that the state file holds: what the sums lack at most.
    """

    rows: list[dict[str, Any]]
    lost: int


async def report(ledger: Ledger, group_by: Sequence[str] = (), span: Span = ALL) -> Report:
    """Sums over the records, for each combination of `group_by` (names of GROUPS) and currency, in their
    order. Raises RequestError for a name that is none, GhostError when the file cannot be read.
    """
    groups = list(dict.fromkeys(group_by))
    columns = [*(_column(name) for name in groups), "currency"]
    condition, values = span.condition()
    sql = (
        f"SELECT {', '.join(columns)}, {_SUMMED} FROM usage_record WHERE time >= ? AND time < ?{condition} "
        f"GROUP BY {', '.join(str(place + 1) for place in range(len(columns)))}"
    )
    totals: dict[Row, list[Any]] = {}
    async for begin, end in _steps(ledger.database, span):
        for row in await ledger.database.read(sql, (begin, end, *values)):
            group, sums = row[: len(columns)], row[len(columns) :]
            before = totals.get(group)
            totals[group] = list(sums if before is None else map(_added, before, sums))
    rows = [
        {**dict(zip((*groups, "currency"), group, strict=True)), **_told(totals[group])}
        for group in sorted(totals)
    ]
    return Report(rows, ledger.database.lost)


async def export(ledger: Ledger, form: Format, span: Span = ALL) -> AsyncIterator[bytes]:
    """Every record by its time, in pieces: for "csv" first the line of names. Times are RFC 3339 in UTC. A
    cell of a CSV file that a spreadsheet would compute gets an apostrophe in front. Costs are in units of the
    currency. Raises as `report`.
    """
    condition, values = span.condition()
    sql = (
        f"SELECT {', '.join(COLUMNS)}, number FROM usage_record "
        f"WHERE (time, number) > (?, ?) AND time < ?{condition} ORDER BY time, number LIMIT ?"
    )
    if form == "csv":
        yield _csv([COLUMNS])
    async for begin, end in _steps(ledger.database, span):
        place: tuple[Any, ...] = (begin, 0)  # before every record of that time
        more = True
        while more:
            rows = await ledger.database.read(sql, (*place, end, *values, PAGE_ROWS))
            if rows:
                place = rows[-1][0], rows[-1][-1]
                shown = [
                    (_moment(row[0]), *row[1:_COST], _units(row[_COST]), *row[_COST + 1 : -1]) for row in rows
                ]
                yield _csv(shown) if form == "csv" else _lines(shown)
            more = len(rows) == PAGE_ROWS


async def _steps(database: Database, span: Span) -> AsyncIterator[tuple[float, float]]:
    """The span of time in pieces that hold about STEP_ROWS records each, the end of one not counted in. It
    ends with the records that were there at the beginning: new ones are not run after.
    """
    rows = await database.read("SELECT min(time) FROM usage_record")
    if rows[0][0] is None:
        return
    begin = rows[0][0] if span.since is None else max(span.since, rows[0][0])
    rows = await database.read("SELECT max(time) FROM usage_record")
    last = math.nextafter(rows[0][0], math.inf)
    last = last if span.until is None else min(span.until, last)
    while begin < last:
        rows = await database.read(
            "SELECT time FROM usage_record WHERE time >= ? ORDER BY time LIMIT 1 OFFSET ?",
            (begin, STEP_ROWS),
        )
        end = min(last, max(rows[0][0], math.nextafter(begin, math.inf))) if rows else last
        yield begin, end
        begin = end


def _column(name: str) -> str:
    column = GROUPS.get(name)
    if column is None:
        raise RequestError(f"usage is not known by {name[:100]!r}, but by {', '.join(GROUPS)}")
    return column


def _added(one: Any, other: Any) -> Any:
    """None: nobody said."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _told(sums: list[Any]) -> dict[str, Any]:
    *counted, duration, durations, ttft, ttfts = sums
    told: dict[str, Any] = dict(zip(SUMS, counted, strict=True))
    told["duration"] = duration / durations if durations else None
    told["ttft"] = ttft / ttfts if ttfts else None
    return told


def _moment(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([[cell(one) for one in row] for row in rows])
    return text.getvalue().encode()


def _units(cost: int | None) -> float | None:
    return None if cost is None else cost / 1_000_000


def cell(cell: Any) -> Any:
    """As it may stand in a CSV file."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    return b"".join(jsonx.dumps(_record(row)) + b"\n" for row in rows)


def _record(row: Sequence[Any]) -> dict[str, Any]:
    record = dict(zip(COLUMNS, row, strict=True))
    record["estimated"] = bool(record["estimated"])
    record["partial"] = bool(record["partial"])
    return record
