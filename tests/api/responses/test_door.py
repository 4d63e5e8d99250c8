"""The door of the Responses dialect: calls, errors, and what is said about stored responses."""

from __future__ import annotations

import pytest

from ghostllm import jsonx
from ghostllm.api.responses import door, stored
from ghostllm.errors import NotFound, RequestError, UnsupportedParameter
from ghostllm.message import Usage
from tests.api.responses.streams import ids


def read(operation="responses", **fields):
    return door.read_call(operation, jsonx.dumps({"model": "m", "input": "hi", **fields}))


def test_a_call():
    call = read(stream=True, previous_response_id="resp_1")
    assert (call.door, call.operation, call.model, call.stream) == ("responses", "chat", "m", True)
    assert call.store and call.previous_response_id == "resp_1" and call.response is None
    assert call.previous == [] and call.wants_usage
    assert read().previous_response_id is None


@pytest.mark.parametrize(("store", "kept"), [(None, True), (True, True), (False, False)])
def test_a_response_is_stored_unless_the_client_does_not_want_it(store, kept):
    assert read(store=store).store is kept


def test_counting_needs_no_input_and_is_no_stream():
    call = door.read_call("input_tokens", b'{"model":"m","instructions":"be brief","stream":true}')
    assert (call.operation, call.stream, call.store) == ("count_tokens", False, False)
    assert len(door.neutral(call).messages) == 1
    assert jsonx.loads(door.render_count(7)) == {"object": "response.input_tokens", "input_tokens": 7}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"input":"x"}', b'{"model":"","input":"x"}'])
def test_bodies_that_are_no_call(body):
    with pytest.raises(RequestError):
        door.read_call("responses", body)


def test_there_are_no_embeddings():
    with pytest.raises(UnsupportedParameter):
        door.write_embeddings(read(), [], Usage())


def test_errors_are_openais():
    error = NotFound("Response with id 'resp_1' not found.")
    assert door.status(error) == 404
    assert jsonx.loads(door.render_error(error)) == {
        "error": {
            "message": "Response with id 'resp_1' not found.", "type": "invalid_request_error",
            "param": None, "code": None,
        }
    }  # fmt: skip


# --- stored responses


def test_input_items_are_stored_in_their_full_form():
    assert stored.input_items({"input": "hi"}, {}, ids()) == [
        {
            "id": "msg_1", "type": "message", "role": "user", "status": "completed",
            "content": [{"type": "input_text", "text": "hi"}],
        }
    ]  # fmt: skip
    kept = {"type": "reasoning", "id": "rs_9", "summary": []}
    items = [
        {"role": "assistant", "content": "a"},
        {"type": "function_call_output", "call_id": "c", "output": "ok"},
        {"type": "item_reference", "id": "rs_9"},
        {"type": "item_reference", "id": "rs_of_a_turn_before"},
        {"role": "user", "content": [{"type": "input_text", "text": "b"}], "id": "mine"},
    ]
    first, second, third, fourth = stored.input_items({"input": items}, {"rs_9": kept}, ids())
    assert first["content"] == [{"type": "output_text", "text": "a", "annotations": []}]
    assert (second["id"], second["output"]) == ("item_2", "ok")
    assert third is kept and fourth["id"] == "mine" and fourth["type"] == "message"
    assert stored.input_items({}, {}, ids()) == []
    assert items[0] == {"role": "assistant", "content": "a"}  # the request itself stays as it is


def test_ids_that_a_request_refers_to():
    rows = [{"type": "item_reference", "id": "a"}, {"type": "item_reference"}, "x", {"id": "b"}]
    assert stored.references({"input": rows}) == ["a"]
    assert stored.references({"input": "hi"}) == stored.references({}) == []


ITEMS = [{"id": f"i{number}"} for number in range(25)]


def page(**query):
    shown = jsonx.loads(stored.render_input_items(ITEMS, **query))
    assert shown["object"] == "list"
    names = [item["id"] for item in shown["data"]]
    assert (shown["first_id"], shown["last_id"]) == (names[0], names[-1])
    return names, shown["has_more"]


def test_pages_of_input_items():
    newest = [f"i{number}" for number in range(24, -1, -1)]
    assert page() == (newest[:20], True)
    assert page(after="i5") == (newest[20:], False)
    assert page(limit="3", order="asc") == (["i0", "i1", "i2"], True)
    assert page(limit="100", order="asc", after="i20") == (["i21", "i22", "i23", "i24"], False)
    nothing = jsonx.loads(stored.render_input_items([]))
    assert nothing == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"limit": "٣"}, {"order": "up"}, {"after": "z"}],
)
def test_queries_that_are_wrong_name_their_parameter(query):
    with pytest.raises(RequestError) as caught:
        page(**query)
    assert [caught.value.param] == list(query)


def test_a_deleted_response():
    assert jsonx.loads(stored.render_deleted("resp_1")) == {
        "id": "resp_1", "object": "response", "deleted": True,
    }  # fmt: skip
