"""What the admin API tells of the ledger: groups, spans, filters, forms, and which questions are wrong."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest

from ghostllm.admin.usage import MICRO, routes
from ghostllm.errors import GhostError
from ghostllm.gateway.routes import Routes
from ghostllm.message import Exchange, Request
from ghostllm.state.calendar import Calendar
from ghostllm.state.database import Database
from ghostllm.state.ledger import COMPONENT, Entry, Ledger
from tests.admin.fakes import MANAGER

NOON = 1_774_872_000.0  # 2026-03-30 12:00 UTC
ENTRIES = (
    Entry(NOON, "1", "alice", "blue", "gpt", "big", "box", "chat", 200, prompt=100, completion=10, cost=500),
    Entry(
        NOON + 60, "2", "=cmd", "blue", "gpt", "big", "rig", "chat", 200, prompt=200, completion=20, cost=700
    ),
    Entry(NOON + 86_400, "3", "bob", "", "tiny", "small", "rig", "messages", 200, prompt=5, completion=1),
)
STANDINGS = {"limits": [{"kind": "key", "name": "alice"}], "budgets": []}


class Standing:
    def told(self):
        return STANDINGS


class Reader:
    """A client whose socket holds so many pieces before it has to be waited for."""

    def __init__(self, room=10**6):
        self.room, self.pieces, self.status, self.headers, self.body = room, [], 0, {}, b""
        self.source = None

    def respond(self, status, headers, body):
        self.status, self.headers, self.body = status, dict(headers), body

    def begin(self, status, headers):
        self.status, self.headers = status, dict(headers)

    def attach(self, source):
        self.source = source

    def write(self, data):
        self.pieces.append(data)
        if len(self.pieces) % self.room == 0:
            self.source.pause()
            asyncio.get_running_loop().call_soon(self.source.resume)

    def end(self, *, close=False):
        self.body = b"".join(self.pieces)

    def run(self, work):
        return work


def ask(target, *, entries=ENTRIES, kept=True, identity=MANAGER, room=10**6):
    async def inside():
        database = Database(None, [COMPONENT])
        ledger = Ledger(database, Calendar())
        for entry in entries:
            ledger.record(entry)
        try:
            table = Routes(routes(Standing(), ledger if kept else None, "USD"))
            exchange = Exchange(Request("GET", target, {b"host": b"gw"}), "req_1", 1.0)
            exchange.identity = identity
            route, reader = table.find(exchange.request.path), Reader(room)
            work = table.handler(route, "GET")(exchange, reader)
            if work is not None:
                await work
            assert exchange.outcome == "ok" and reader.headers[b"cache-control"] == b"no-store"
            return reader
        finally:
            database.close()

    return asyncio.run(inside())


def usage(query, **more):
    return json.loads(ask(f"/admin/api/usage?{query}", **more).body)


def test_sums_by_group():
    told = usage("by=model,day")
    assert told["by"] == ["model", "day"] and told["timezone"] == "UTC" and told["lost"] == 0
    assert [(row["model"], row["day"], row["requests"], row["cost"]) for row in told["usage"]] == [
        ("big", "2026-03-30", 2, 1200 / MICRO), ("small", "2026-03-31", 1, None),
    ]  # fmt: skip
    [all_of_it] = usage("")["usage"]
    assert all_of_it["requests"] == 3 and all_of_it["prompt_tokens"] == 305


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("since=2026-03-31", 1),
        ("until=2026-03-31", 2),
        ("since=2026-03&until=2026-04", 3),
        ("since=2026-03-30T12:00:30Z", 2),
        ("since=2026-03-30T14:00:30%2B02:00", 2),
        ("key=alice", 1),
        ("team=blue&backend=rig", 1),
        ("team=", 1),
        ("month=2026-03", 3),
    ],
)
def test_spans_and_filters(query, requests):
    assert usage(query)["usage"][0]["requests"] == requests
    assert ask(f"/admin/api/usage/records?{query}").body.count(b"\n") == requests


def test_as_csv():
    reader = ask("/admin/api/usage?by=key&format=csv")
    assert reader.headers[b"content-type"].startswith(b"text/csv")
    rows = list(csv.DictReader(io.StringIO(reader.body.decode())))
    assert [(row["key"], row["requests"], row["cost"]) for row in rows] == [
        ("'=cmd", "1", "0.0007"), ("alice", "1", "0.0005"), ("bob", "1", ""),
    ]  # fmt: skip


def test_records():
    lines = [json.loads(line) for line in ask("/admin/api/usage/records").body.splitlines()]
    assert [(line["request"], line["cost"]) for line in lines] == [("1", 0.0005), ("2", 0.0007), ("3", None)]
    reader = ask("/admin/api/usage/records?format=csv&key=alice")
    [row] = csv.DictReader(io.StringIO(reader.body.decode()))
    assert (row["request"], row["team"], row["day"]) == ("1", "blue", "2026-03-30")


def test_an_empty_ledger():
    assert usage("by=key", entries=())["usage"] == []
    assert ask("/admin/api/usage/records", entries=()).body == b""


def test_a_slow_reader_is_waited_for():
    entries = [Entry(NOON + number, f"r{number}", "alice") for number in range(1800)]
    reader = ask("/admin/api/usage/records", entries=entries, room=1)
    assert len(reader.pieces) == 4 and reader.body.count(b"\n") == 1800


def test_limits_as_they_stand():
    assert json.loads(ask("/admin/api/limits").body) == {"currency": "USD", **STANDINGS}


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("usage?by=keys", "no group 'keys'; there are: key, team"),
        ("usage?who=alice", "no filter 'who'; there are: by, since"),
        ("usage?since=yesterday", "since is a month"),
        ("usage?until=2026-02-30", "until is a month"),
        ("usage?since=2026-03-01T12:00:00", "a time with its zone"),
        ("usage?since=0000-01", "since is a month"),
        ("usage?format=xml", "format is one of json, csv"),
        ("usage/records?format=json", "format is one of jsonl, csv"),
        ("usage/records?by=key", "no filter 'by'"),
    ],
)
def test_a_wrong_question_is_told(target, says):
    with pytest.raises(GhostError, match=says) as refused:
        ask(f"/admin/api/{target}")
    assert refused.value.status == 400


def test_where_no_usage_is_kept():
    with pytest.raises(GhostError, match=r"state\.file is not set") as refused:
        ask("/admin/api/usage", kept=False)
    assert refused.value.status == 404
    assert ask("/admin/api/limits", kept=False).status == 200
