"""Keys in the state file: what is put is read back, and nothing is lost by what comes later."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ghostllm.state.database import Database
from ghostllm.state.keys import COMPONENT, KeyRecord, KeyTable, KeyTerms

TERMS = KeyTerms(roles=("a", "b"), team="t", models=("m*", "é"), limits="l", weight=0.5, priority=-1)


def record(number=1, **changed):
    usual = {
        "id": f"key_{number}", "name": "ann", "digest": bytes([number]) * 32, "mark": "m", "terms": TERMS,
        "made": 100.0 + number,
    }  # fmt: skip
    return KeyRecord(**{**usual, **changed})


def run(speak, path=None):
    async def inside():
        database = Database(path, [COMPONENT])
        try:
            return await speak(KeyTable(database))
        finally:
            assert database.close()

    return asyncio.run(inside())


def test_records_come_back_as_they_were(tmp_path):
    records = [record(1), record(2, expires=5.0, revoked=6.0, used=7.0, terms=KeyTerms())]

    async def put(table):
        for one in reversed(records):
            table.put(one)
        assert await table.saved()

    async def read(table):
        return await table.records()

    run(put, tmp_path / "s.db")
    assert run(read, tmp_path / "s.db") == records


def test_what_changes_later_is_written_over():
    async def speak(table):
        table.put(record())
        table.note_used([("key_1", 50.0), ("key_9", 1.0)])
        table.note_used([("key_1", 40.0)])
        table.put(replace(record(), revoked=60.0))  # by somebody who knows nothing of its use
        return await table.records()

    assert run(speak) == [record(revoked=60.0, used=50.0)]


def test_a_digest_belongs_to_one_key():
    async def speak(table):
        table.put(record(1))
        table.put(record(2, digest=record(1).digest))
        assert not await table.saved()
        return [one.id for one in await table.records()]

    async def inside():
        database = Database(None, [COMPONENT])
        try:
            return await speak(KeyTable(database))
        finally:
            database.close()

    assert asyncio.run(inside()) == ["key_1"]


def test_the_secret_is_the_first_that_was_proposed(tmp_path):
    async def first(table):
        return await table.secret(b"one"), await table.secret(b"two")

    async def second(table):
        return await table.secret(b"three")

    assert run(first, tmp_path / "s.db") == (b"one", b"one")
    assert run(second, tmp_path / "s.db") == b"one"


def test_two_gateways_that_begin_at_once_have_one_secret(tmp_path):
    async def inside():
        databases = [Database(tmp_path / "s.db", [COMPONENT]) for _ in range(2)]
        try:
            return await asyncio.gather(
                *(KeyTable(database).secret(bytes([number])) for number, database in enumerate(databases))
            )
        finally:
            for database in databases:
                database.close()

    one, other = asyncio.run(inside())
    assert one == other


@pytest.mark.parametrize(("before", "left"), [(10.0, "1234"), (11.0, "234"), (21.0, "34"), (99.0, "34")])
def test_the_dead_are_forgotten_and_the_last_is_not(before, left):
    async def speak(table):
        table.put(record(1, revoked=10.0))
        table.put(record(2, expires=20.0, revoked=30.0))
        table.put(record(3))
        table.put(record(4, revoked=10.0))
        table.purge(before)
        return "".join(one.id[-1] for one in await table.records())

    assert run(speak) == left


def test_a_record_shows_its_state_and_no_hash():
    shown = record(expires=10.0).shown(9.0)
    assert shown["state"] == "active" and record().digest.hex() not in str(shown) and "digest" not in shown
    assert record(expires=10.0).shown(10.0)["state"] == "expired"
    assert record(expires=10.0, revoked=1.0).shown(9.0)["state"] == "revoked"
