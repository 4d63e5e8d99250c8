"""What was used and spent, from the ledger: sums by group, every record, and how limits and budgets stand."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Protocol

from ghostllm.admin.guard import reading
from ghostllm.admin.query import LONGEST_NAME, answer, filters
from ghostllm.errors import NotFound, RequestError
from ghostllm.gateway.routes import Route
from ghostllm.message import Exchange, Pairs
from ghostllm.ports import Responder, Work
from ghostllm.state import usage
from ghostllm.state.calendar import Calendar
from ghostllm.state.ledger import Ledger

REPORT = ("by", "since", "until", "format", *usage.GROUPS)
RECORDS = ("since", "until", "format", *usage.GROUPS)
CSV: Pairs = ((b"content-type", b"text/csv; charset=utf-8"), (b"cache-control", b"no-store"))
LINES: Pairs = ((b"content-type", b"application/x-ndjson"), (b"cache-control", b"no-store"))
MICRO = 1_000_000


class Standings(Protocol):
    def told(self) -> dict[str, Any]:
        """How limits and budgets stand. JSON."""


def routes(standings: Standings, ledger: Ledger | None, currency: str) -> list[Route]:
    """ledger: None where none is kept."""
    api = UsageApi(standings, ledger, currency)
    return [
        Route("admin_usage", "/admin/api/usage", {"GET": reading(api.report)}),
        Route("admin_usage_records", "/admin/api/usage/records", {"GET": reading(api.records)}),
        Route("admin_limits", "/admin/api/limits", {"GET": reading(api.limits)}),
    ]


class UsageApi:
    """The handlers. They raise GhostError for the client."""

    def __init__(self, standings: Standings, ledger: Ledger | None, currency: str) -> None:
        self._standings = standings
        self._ledger = ledger
        self._currency = currency

    def report(self, exchange: Exchange, responder: Responder) -> Work:
        given = filters(exchange.request.query, REPORT)
        by = [name for name in given.pop("by", "").split(",") if name]
        for name in by:
            if name not in usage.GROUPS:
                raise RequestError(
                    f"no group {name[:LONGEST_NAME]!r}; there are: {', '.join(usage.GROUPS)}", param="by"
                )
        form = _form(given, ("json", "csv"))
        ledger = self._kept()
        return responder.run(self._report(exchange, responder, ledger, by, _span(given, ledger), form))

    def records(self, exchange: Exchange, responder: Responder) -> Work:
        given = filters(exchange.request.query, RECORDS)
        form = _form(given, ("jsonl", "csv"))
        ledger = self._kept()
        pieces = usage.export(ledger, "csv" if form == "csv" else "jsonl", _span(given, ledger))
        return responder.run(_stream(exchange, responder, CSV if form == "csv" else LINES, pieces))

    def limits(self, exchange: Exchange, responder: Responder) -> None:
        answer(exchange, responder, {"currency": self._currency, **self._standings.told()})

    async def _report(
        self,
        exchange: Exchange,
        responder: Responder,
        ledger: Ledger,
        by: list[str],
        span: usage.Span,
        form: str,
    ) -> None:
        found = await usage.report(ledger, by, span)
        for row in found.rows:
            if row["cost"] is not None:
                row["cost"] = row["cost"] / MICRO
        if form == "csv":
            exchange.outcome = "ok"
            responder.respond(
                200, CSV, _table([*by, "currency", *usage.SUMS, "duration", "ttft"], found.rows)
            )
            return
        told = {"by": by, "timezone": ledger.calendar.timezone, "usage": found.rows, "lost": found.lost}
        answer(exchange, responder, told)

    def _kept(self) -> Ledger:
        if self._ledger is None:
            raise NotFound("no usage is kept here: state.file is not set, or usage.enabled is false")
        return self._ledger


class Tap:
    """Implements ports.Flow for pieces that are made as they are wanted."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pause(self) -> None:
        self.open.clear()

    def resume(self) -> None:
        self.open.set()


async def _stream(
    exchange: Exchange, responder: Responder, headers: Pairs, pieces: AsyncIterator[bytes]
) -> None:
    tap, begun = Tap(), False
    async for piece in pieces:
        if not begun:
            begun = True
            responder.begin(200, headers)
            responder.attach(tap)
        responder.write(piece)
        await tap.open.wait()
    exchange.outcome = "ok"
    if begun:
        responder.end()
    else:
        responder.respond(200, headers, b"")


def _form(given: dict[str, str], known: tuple[str, ...]) -> str:
    form = given.pop("format", known[0])
    if form not in known:
        raise RequestError(f"format is one of {', '.join(known)}", param="format")
    return form


def _span(given: dict[str, str], ledger: Ledger) -> usage.Span:
    since, until = given.pop("since", None), given.pop("until", None)
    return usage.Span(
        since=None if since is None else _moment(since, ledger.calendar, "since"),
        until=None if until is None else _moment(until, ledger.calendar, "until"),
        filters=given,
    )


def _moment(text: str, calendar: Calendar, param: str) -> float:
    """A month or a day, which stand for their beginning, or a time with its zone."""
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}", text, re.ASCII):
            return calendar.begins(f"{text}-01")
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            return calendar.begins(text)
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise RequestError(
        f"{param} is a month (2026-03), a day (2026-03-01), or a time with its zone (2026-03-01T12:00:00Z)",
        param=param,
    )


def _table(columns: list[str], rows: list[dict[str, Any]]) -> bytes:
    import csv  # here: a start needs none

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([[usage.cell(row[column]) for column in columns] for row in rows])
    return text.getvalue().encode()
