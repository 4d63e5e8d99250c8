"""The history of configurations: ten of them, the newest last, the same after a restart."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm.errors import GhostError
from ghostllm.state.configurations import COMPONENT, KEPT, ConfigurationStore
from ghostllm.state.database import Database


def run(speak, path=None):
    async def inside():
        database = Database(path, [COMPONENT])
        try:
            store = ConfigurationStore(database)
            await store.load()
            return await speak(store)
        finally:
            assert database.close()

    return asyncio.run(inside())


def put(store, text, previous=None, changes=()):
    return store.put(name="/c.toml", text=text, time=1.5, how="test", previous=previous, changes=changes)


def test_ten_are_kept_and_come_back(tmp_path):
    async def fill(store):
        assert store.newest is None and store.find(None) is None and store.find(1) is None
        for number in range(KEPT + 3):
            one = put(store, f"text {number} é", number or None, [{"path": "log.level", "after": number}])
            assert one.number == number + 1 and store.newest is one
        return store.all()

    async def read(store):
        one = put(store, "another")
        return one, store.all()

    before = run(fill, tmp_path / "state.db")
    assert [one.number for one in before] == list(range(13, 3, -1))
    one, after = run(read, tmp_path / "state.db")
    assert one.number == 14 and after == [one, *before[:-1]]


def test_in_memory():
    async def speak(store):
        one = put(store, "a")
        assert store.find(1) is one and repr(store) == "<ConfigurationStore of 1>"

    run(speak)


def test_a_history_that_cannot_be_read(tmp_path):
    async def inside():
        database = Database(None, [COMPONENT])
        database.close()
        with pytest.raises(GhostError):
            await ConfigurationStore(database).load()

    asyncio.run(inside())
