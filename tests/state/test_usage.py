"""Reports of the ledger: sums by group, and every record as CSV or JSON lines."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import RequestError
from ghostllm.state import usage
from ghostllm.state.calendar import Calendar
from ghostllm.state.database import Database
from ghostllm.state.ledger import COMPONENT, Entry, Ledger
from ghostllm.state.usage import COLUMNS, GROUPS, Span, export, report

NOON = 1_774_872_000.0  # 2026-03-30 12:00 UTC
DAY = 86_400.0

ENTRIES = (
    Entry(NOON, "1", "alice", "blue", "gpt", "big", "box", "chat", 200, "ok", 100, 10, 50, 0, 3, cost=500,
          duration=2.0, ttft=0.5, attempts=1),
    Entry(NOON + 60, "2", "alice", "blue", "gpt", "big", "rig", "chat", 200, "ok", 200, 20, cost=700,
          duration=4.0, estimated=True, attempts=2),
    Entry(NOON + DAY, "3", "bob", "blue", "tiny", "small", "rig", "messages", 200, "cancelled", 5, 1,
          partial=True, duration=1.0, ttft=0.1, attempts=1),
    Entry(NOON + 3 * DAY, "4", "bob", "", "nope", status=404, outcome="error", route="chat"),
)  # fmt: skip


def run(speak, entries=ENTRIES):
    async def inside():
        database = Database(None, [COMPONENT])
        ledger = Ledger(database, Calendar())
        for each in entries:
            ledger.record(each)
        try:
            return await speak(ledger)
        finally:
            database.close()

    return asyncio.run(inside())


def rows(*group_by, **span):
    return run(lambda ledger: report(ledger, group_by, Span(**span))).rows


def test_the_sum_of_all():
    [row] = rows()
    assert row == {
        "currency": "USD", "requests": 4, "failed": 2, "prompt_tokens": 305, "completion_tokens": 31,
        "cached_tokens": 50, "cache_write_tokens": 0, "reasoning_tokens": 3, "estimated": 1, "partial": 1,
        "cost": 1200, "duration": 7 / 3, "ttft": 0.3,
    }  # fmt: skip


def test_what_nobody_said_is_null():
    [row] = rows("key", filters={"outcome": "error"})
    assert row["key"] == "bob" and row["requests"] == row["failed"] == 1
    assert [row[name] for name in ("prompt_tokens", "cost", "duration", "ttft")] == [None] * 4


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        (["key"], [("alice",), ("bob",)]),
        (["team"], [("",), ("blue",)]),
        (["model", "backend"], [("", ""), ("big", "box"), ("big", "rig"), ("small", "rig")]),
        (["day"], [("2026-03-30",), ("2026-03-31",), ("2026-04-02",)]),
        (["month", "route"], [("2026-03", "chat"), ("2026-03", "messages"), ("2026-04", "chat")]),
        (["asked", "asked"], [("gpt",), ("nope",), ("tiny",)]),
    ],
)
def test_groups_come_in_their_order(group_by, groups):
    assert [tuple(row[name] for name in dict.fromkeys(group_by)) for row in rows(*group_by)] == groups


@pytest.mark.parametrize(
    ("span", "requests"),
    [
        ({"since": NOON + 60}, 3),
        ({"since": NOON, "until": NOON + 60}, 1),
        ({"until": NOON}, 0),
        ({"since": NOON + 4 * DAY}, 0),
        ({"since": 0.0, "until": 1e12}, 4),
        ({"filters": {"key": "alice", "backend": "rig"}}, 1),
        ({"filters": {"month": "2026-03"}}, 3),
        ({"filters": {"key": "nobody"}}, 0),
        ({"filters": {"key": "alice' OR '1'='1"}}, 0),
    ],
)
def test_spans(span, requests):
    assert sum(row["requests"] for row in rows(**span)) == requests


def test_an_empty_ledger():
    async def speak(ledger):
        return (await report(ledger, ["key"])).rows, [piece async for piece in export(ledger, "jsonl")]

    assert run(speak, ()) == ([], [])


@pytest.mark.parametrize("name", ["cost", "request", "key; DROP TABLE usage_record", "", "1"])
def test_only_names_that_are_known_get_into_a_query(name):
    async def speak(ledger):
        with pytest.raises(RequestError, match="but by key, team"):
            await report(ledger, [name])
        with pytest.raises(RequestError, match="but by key, team"):
            await report(ledger, [], Span(filters={name: "x"}))
        with pytest.raises(RequestError, match="but by key, team"):
            _ = [piece async for piece in export(ledger, "csv", Span(filters={name: "x"}))]
        assert len((await report(ledger)).rows) == 1

    run(speak)


def test_currencies_are_not_added_up():
    async def speak(ledger):
        ledger.currency = "EUR"
        ledger.record(Entry(NOON + 1, "5", "alice", cost=7))
        return (await report(ledger, ["key"], Span(filters={"key": "alice"}))).rows

    assert [(row["currency"], row["cost"]) for row in run(speak)] == [("EUR", 7), ("USD", 1200)]


TIMES = st.lists(st.integers(0, 40), max_size=60)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.integers(1, 9), st.integers(1, 4), st.integers(0, 40), st.integers(0, 40))
def test_in_whatever_steps_each_record_counts_once(times, step, page, since, until):
    entries = [
        Entry(NOON + at, str(number % 7), f"k{number}", prompt=number, cost=1)
        for number, at in enumerate(times)
    ]
    wanted = [entry for entry in entries if NOON + since <= entry.time < NOON + until]

    async def speak(ledger):
        span = Span(since=NOON + since, until=NOON + until)
        told = (await report(ledger, ["key"], span)).rows
        lines = b"".join([piece async for piece in export(ledger, "jsonl", span)]).splitlines()
        return told, [json.loads(line) for line in lines]

    steps, pages = usage.STEP_ROWS, usage.PAGE_ROWS
    usage.STEP_ROWS, usage.PAGE_ROWS = step, page
    try:
        told, exported = run(speak, entries)
    finally:
        usage.STEP_ROWS, usage.PAGE_ROWS = steps, pages
    assert sorted((row["key"], row["prompt_tokens"], row["requests"]) for row in told) == sorted(
        (entry.key, entry.prompt, 1) for entry in wanted
    )
    assert [row["key"] for row in exported] == [
        entry.key for entry in sorted(wanted, key=lambda entry: entry.time)
    ]


# --- export


def exported(form, entries=ENTRIES, **span):
    async def speak(ledger):
        return b"".join([piece async for piece in export(ledger, form, Span(**span))])

    return run(speak, entries)


def test_json_lines_are_the_records():
    first, *_, last = [json.loads(line) for line in exported("jsonl").splitlines()]
    assert first == {
        "time": "2026-03-30T12:00:00.000Z", "request": "1", "key": "alice", "team": "blue", "asked": "gpt",
        "model": "big", "backend": "box", "route": "chat", "status": 200, "outcome": "ok", "prompt": 100,
        "completion": 10, "cached": 50, "cache_write": 0, "reasoning": 3, "estimated": False,
        "partial": False, "cost": 0.0005, "currency": "USD", "duration": 2.0, "ttft": 0.5, "attempts": 1,
        "day": "2026-03-30",
    }  # fmt: skip
    assert (last["status"], last["prompt"], last["cost"]) == (404, None, None)


def test_csv_begins_with_the_names():
    lines = list(csv.reader(io.StringIO(exported("csv").decode(), newline="")))
    assert lines[0] == list(COLUMNS) and len(lines) == 5
    assert lines[1][:5] == ["2026-03-30T12:00:00.000Z", "1", "alice", "blue", "gpt"]
    assert lines[4][COLUMNS.index("cost")] == ""
    assert exported("csv", ()).decode().count("\n") == 1


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", 'a"b,c\r\nd'])
def test_no_cell_is_a_formula_and_none_breaks_out(name):
    lines = list(
        csv.reader(io.StringIO(exported("csv", [Entry(NOON, "1", "k", asked=name)]).decode(), newline=""))
    )
    shown = lines[1][COLUMNS.index("asked")]
    assert len(lines) == 2 and shown.removeprefix("'") == name
    assert not shown.startswith(("=", "+", "-", "@", "\t"))
    [row] = exported("jsonl", [Entry(NOON, "1", "k", asked=name)]).splitlines()
    assert json.loads(row)["asked"] == name


def test_every_group_is_a_column_or_part_of_one():
    assert set(GROUPS) - {"month"} <= set(COLUMNS)
