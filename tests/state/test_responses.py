"""Stored responses: found by whom they belong to, for as long as they are kept."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm import jsonx
from ghostllm.errors import NotFound, RequestError
from ghostllm.state import responses
from ghostllm.state.database import Database
from ghostllm.state.responses import COMPONENT, Limits, ResponseStore

NO_MEMORY = Limits(recent=0)


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


def item(name):
    return {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}


def response(name, previous=None, **members):
    output = [{"id": f"out_{name}", "type": "message", "role": "assistant", "content": []}]
    return {"id": name, "object": "response", "previous_response_id": previous, "output": output, **members}


def put(store, name, previous=None, key="alice", **members):
    store.put(response(name, previous, **members), [item(f"in_{name}")], key)


def ids(items):
    return [each["id"] for each in items]


def run(speak, limits=None, path=None, clock=None):
    async def inside():
        database = Database(path, [COMPONENT])
        try:
            return await speak(ResponseStore(database, limits, clock or Clock()))
        finally:
            assert database.close()

    return asyncio.run(inside())


@pytest.fixture(params=["from memory", "from the file"])
def limits(request):
    return None if request.param == "from memory" else NO_MEMORY


def test_what_was_put_is_there_at_once(limits):
    async def speak(store):
        put(store, "resp_1", usage={"input_tokens": 1}, text="Grüße 🙂")
        found = await store.get("resp_1", "alice")
        assert found.response() == response("resp_1", usage={"input_tokens": 1}, text="Grüße 🙂")
        assert found.input_items() == [item("in_resp_1")]
        assert jsonx.loads(found.body) == found.response()

    run(speak, limits)


def test_it_is_there_after_a_restart(tmp_path):
    async def first(store):
        put(store, "resp_1")
        put(store, "resp_2", "resp_1")

    async def second(store):
        return ids(await store.history("resp_2", "alice"))

    run(first, path=tmp_path / "state.db")
    assert run(second, path=tmp_path / "state.db") == [
        "in_resp_1", "out_resp_1", "in_resp_2", "out_resp_2",
    ]  # fmt: skip


def test_the_responses_of_another_key_are_not_there(limits):
    async def speak(store):
        put(store, "resp_1")
        put(store, "resp_2", "resp_1", key="bob")
        for attempt in (store.get("resp_1", "bob"), store.delete("resp_1", "bob")):
            with pytest.raises(NotFound, match="Response with id 'resp_1' not found."):
                await attempt
        with pytest.raises(RequestError) as caught:
            await store.history("resp_2", "bob")  # nor by way of one's own
        assert caught.value.code == "previous_response_not_found"
        assert await store.items(["in_resp_1"], "bob") == {}
        assert await store.get("resp_1", "alice")

    run(speak, limits)


def test_what_was_deleted_is_gone(limits, tmp_path):
    async def speak(store):
        put(store, "resp_1")
        put(store, "resp_2", "resp_1")
        await store.delete("resp_1", "alice")
        with pytest.raises(NotFound):
            await store.get("resp_1", "alice")
        with pytest.raises(NotFound):
            await store.delete("resp_1", "alice")
        with pytest.raises(RequestError, match="Previous response with id 'resp_1' not found."):
            await store.history("resp_2", "alice")
        assert await store.items(["in_resp_1", "out_resp_2"], "alice") == {
            "out_resp_2": response("resp_2")["output"][0]
        }

    run(speak, limits, tmp_path / "state.db")
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"out_resp_2" in data


def test_an_unknown_previous_response_is_the_requests_error(limits):
    async def speak(store):
        with pytest.raises(RequestError) as caught:
            await store.history("resp_x", "alice")
        error = caught.value
        assert (error.status, error.code, error.param) == (
            400, "previous_response_not_found", "previous_response_id",
        )  # fmt: skip
        assert error.message == "Previous response with id 'resp_x' not found."

    run(speak, limits)


@pytest.mark.parametrize("recent", [0, 1, 3, 100])
def test_a_chain_is_read_in_order_wherever_its_links_are(recent):
    async def speak(store):
        for number in range(9):
            put(store, f"r{number}", f"r{number - 1}" if number else None)
        wanted = [f"{way}_r{number}" for number in range(9) for way in ("in", "out")]
        assert ids(await store.history("r8", "alice")) == wanted
        assert ids(await store.history("r0", "alice")) == wanted[:2]

    run(speak, Limits(recent=recent))


@pytest.mark.parametrize("recent", [0, 2, 100])
def test_a_chain_is_bounded(monkeypatch, recent):
    async def speak(store):
        for number in range(8):
            put(store, f"r{number}", f"r{number - 1}" if number else None)
        with pytest.raises(RequestError, match="longer than 5 responses"):
            await store.history("r7", "alice")
        assert len(await store.history("r4", "alice")) == 10
        monkeypatch.setattr(responses, "CHAIN_BYTES", 600)
        assert len(await store.history("r0", "alice")) == 2
        with pytest.raises(RequestError, match="or 600 bytes"):
            await store.history("r4", "alice")

    monkeypatch.setattr(responses, "CHAIN_LINKS", 5)
    run(speak, Limits(recent=recent))


def test_what_is_too_old_is_not_there_and_is_deleted(limits):
    clock = Clock()
    wanted = Limits(retention=100, recent=(limits or Limits()).recent)

    async def speak(store):
        put(store, "old")
        clock.now += 60
        put(store, "new", "old")
        assert len(await store.history("new", "alice")) == 4
        clock.now += 60
        with pytest.raises(NotFound):
            await store.get("old", "alice")
        with pytest.raises(RequestError, match="'old' not found"):
            await store.history("new", "alice")
        assert await store.items(["in_old"], "alice") == {}
        store.purge()
        assert await store._database.read("SELECT id FROM response") == [("new",)]
        assert len(await store._database.read("SELECT * FROM response_item")) == 2

    run(speak, wanted, clock=clock)


@pytest.mark.parametrize("bound", [{"rows": 3}, {"bytes": 900}])
def test_the_oldest_go_when_there_are_too_many(bound):
    async def speak(store):
        for number in range(8):
            put(store, f"r{number}")
        store.purge()
        kept = [name for (name,) in await store._database.read("SELECT id FROM response ORDER BY number")]
        assert kept == [f"r{number}" for number in range(8 - len(kept), 8)] and 1 < len(kept) < 5

    run(speak, Limits(recent=0, **bound))


def test_it_purges_by_itself():
    async def speak(store):
        for number in range(2 * responses.PURGE_PUTS):
            put(store, f"r{number}")
        [(rows,)] = await store._database.read("SELECT count(*) FROM response")
        assert rows == 10

    run(speak, Limits(rows=10))


def test_memory_is_bounded_in_number_and_in_bytes():
    async def speak(store):
        for number in range(50):
            put(store, f"r{number}", padding="x" * 1000)
        assert len(store._recent) == 7 and store._recent_bytes < 10_000
        put(store, "big", padding="x" * 20_000)
        assert not store._recent and store._recent_bytes == 0
        assert (await store.get("big", "alice")).response()["padding"] == "x" * 20_000
        assert await store.get("r0", "alice")

    run(speak, Limits(recent=20, recent_bytes=9_500))


def test_items_are_found_by_their_ids(limits):
    async def speak(store):
        put(store, "r1")
        put(store, "r2")
        put(store, "r3", key="bob")
        found = await store.items(["out_r1", "in_r2", "out_r3", "in_r9", "in_r2"], "alice")
        assert found == {"out_r1": response("r1")["output"][0], "in_r2": item("in_r2")}
        assert await store.items([], "alice") == {}
        with pytest.raises(RequestError, match="more than 1000 item references"):
            await store.items(map(str, range(1001)), "alice")

    run(speak, limits)


@pytest.mark.parametrize("hostile", ["", "x' OR '1'='1", "\x00", "💥", "a" * 1000])
def test_ids_and_keys_are_only_values(hostile, limits):
    async def speak(store):
        put(store, "r1")
        put(store, "r2", key=hostile)
        with pytest.raises(NotFound):
            await store.get(hostile, "alice")
        with pytest.raises(NotFound):
            await store.get("r1", hostile)
        assert (await store.get("r2", hostile)).id == "r2"
        assert await store.items([hostile], "alice") == {}

    run(speak, limits)
