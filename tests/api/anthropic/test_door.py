"""The Anthropic door: what it takes of a request, and how it tells errors and models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import errors
from ghostllm.api.anthropic import door
from ghostllm.api.anthropic.errors import error_event
from ghostllm.api.canonical import Answer, Finish, Text
from ghostllm.api.translation import Dialect
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Usage
from ghostllm.ports import Door
from tests.api.anthropic.streams import events_of

HELLO = [{"role": "user", "content": "hello"}]


def messages(**members):
    return dumps({"model": "m", "max_tokens": 9, "messages": HELLO, **members})


def test_the_module_is_a_door_and_a_dialect():
    as_door: Door = door
    as_dialect: Dialect = door
    assert as_door is as_dialect


def test_a_call_is_read_and_its_bytes_are_kept():
    body = b' {"max_tokens":1,"messages":[{"role":"user","content":"x"}],"model":"a/b:c","new":{"deep":[1]}}'
    call = door.read_call("messages", body)
    assert (call.door, call.operation, call.model) == ("anthropic", "chat", "a/b:c")
    assert (call.stream, call.wants_usage) == (False, True)
    assert call.body is body and call.fields["new"] == {"deep": [1]}


@pytest.mark.parametrize(("value", "stream"), [(True, True), (False, False), (None, False)])
def test_usage_is_part_of_every_stream(value, stream):
    call = door.read_call("messages", bytearray(messages(stream=value)))
    assert (call.stream, call.wants_usage) == (stream, True)


def test_counting_needs_no_limit():
    call = door.read_call("count_tokens", dumps({"model": "m", "messages": HELLO}))
    assert (call.door, call.operation, call.stream) == ("anthropic", "count_tokens", False)
    assert door.neutral(call).sampling.max_tokens is None
    assert loads(door.render_count(12)) == {"input_tokens": 12}


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "empty"),
        (b"{", None, "not valid JSON"),
        (b"[]", None, "must be a JSON object, not an array"),
        (messages(model=None), "model", "model is required"),
        (messages(model=""), "model", "non-empty"),
        (messages(model="m" * 600), "model", "longer than 512"),
        (messages()[:-1] + b',"model":"other"}', "model", "2 members named 'model'"),
        (messages(messages=None), "messages", "messages is required"),
        (messages(messages="hi"), "messages", "an array of messages, not a string"),
        (messages(messages=[]), "messages", "at least one"),
        (messages(messages=[*HELLO, 5]), "messages[1]", "an object, not an integer"),
        (messages(max_tokens=None), "max_tokens", "max_tokens is required: a positive integer"),
        (messages(max_tokens=0), "max_tokens", "a positive integer, not 0"),
        (messages(max_tokens=1.5), "max_tokens", "a positive integer, not a number"),
        (messages(max_tokens=True), "max_tokens", "a positive integer, not a boolean"),
        (messages(max_tokens="9"), "max_tokens", "a positive integer, not a string"),
        (messages(stream="yes"), "stream", "true or false, not a string"),
    ],
)
def test_what_is_wrong_is_named(body, param, words):
    with pytest.raises(errors.RequestError) as refused:
        door.read_call("messages", body)
    assert refused.value.param == param
    assert words in refused.value.message


@settings(deadline=None)
@given(
    st.sampled_from(sorted(door.OPERATIONS)), st.binary(max_size=60) | st.text(max_size=40).map(str.encode)
)
def test_no_body_breaks_the_reader(operation, body):
    try:
        call = door.read_call(operation, body)
    except errors.RequestError:
        return
    assert call.model and call.body == body


def test_the_writer_gets_an_id_of_the_dialect():
    call = door.read_call("messages", messages())
    writer = door.writer(call, 1_700_000_000, lambda prefix: prefix + "7")
    body = loads(writer.whole(Answer((Text("x"),), Finish("stop"), Usage())))
    assert (body["id"], body["model"]) == ("msg_7", "m")


def test_there_are_no_embeddings():
    with pytest.raises(errors.UnsupportedParameter):
        door.write_embeddings(door.read_call("messages", messages()), [[1.0]], Usage())


# --- errors


def answered(status, code=None):
    return errors.UpstreamAnswered("x", upstream_status=500, status=status, code=code, retryable=False)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.RequestError("x", param="n"), 400, "invalid_request_error"),
        (errors.UnsupportedValue("x"), 400, "invalid_request_error"),
        (errors.ContextLengthExceeded("x"), 400, "invalid_request_error"),
        (errors.InvalidKey("x"), 401, "authentication_error"),
        (errors.Forbidden("x"), 403, "permission_error"),
        (errors.NotFound("x"), 404, "not_found_error"),
        (errors.ModelNotFound("x"), 404, "not_found_error"),
        (errors.MethodNotAllowed("x", allow="POST"), 405, "invalid_request_error"),
        (errors.RequestTimeout("x"), 408, "timeout_error"),
        (errors.BodyTooLarge("x"), 413, "request_too_large"),
        (errors.HeadTooLarge("x"), 431, "invalid_request_error"),
        (answered(422), 422, "invalid_request_error"),
        (answered(429, "rate_limit_exceeded"), 429, "rate_limit_error"),
        (answered(429, "insufficient_quota"), 402, "billing_error"),
        (errors.GhostError("x"), 500, "api_error"),
        (errors.NotImplementedHere("x"), 501, "api_error"),
        (errors.UpstreamCut("x"), 500, "api_error"),
        (errors.Overloaded("x"), 529, "overloaded_error"),
        (errors.UpstreamTimeout("x", limit="head"), 504, "timeout_error"),
    ],
)
def test_errors_in_the_words_of_the_dialect(error, status, kind):
    assert door.status(error) == status
    body = {"type": "error", "error": {"type": kind, "message": "x"}, "request_id": None}
    assert loads(door.render_error(error)) == body
    assert events_of(error_event(error)) == [("error", body)]


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.RequestError("x"), {}),
        (errors.InvalidKey("x"), {b"www-authenticate": b"Bearer"}),
        (errors.MethodNotAllowed("x", allow="GET, POST"), {b"allow": b"GET, POST"}),
        (errors.Overloaded("x", retry_after=1.5), {b"retry-after": b"2", b"retry-after-ms": b"1500"}),
        (errors.UpstreamCut("x"), {b"x-should-retry": b"false"}),
        (errors.GhostError("x"), {b"x-should-retry": b"false"}),
        (answered(429), {b"x-should-retry": b"false"}),
        (answered(429, "insufficient_quota"), {}),  # shown as 402, which nobody tries again
    ],
)
def test_what_clients_are_told_of_trying_again(error, headers):
    assert dict(door.error_headers(error)) == headers


# --- models

LIST = [("a", 1_700_000_000, "x"), ("b/c:d", None, ""), ("e", -5, ""), ("f", 10**15, "")]


def page(**query):
    return loads(door.render_models(LIST, **query))


def test_a_list_of_models():
    listed = page()
    assert listed["data"][0] == {
        "type": "model",
        "id": "a",
        "display_name": "a",
        "created_at": "2023-11-14T22:13:20Z",
        "lifecycle": "active",
    }
    assert [model["created_at"] for model in listed["data"][1:]] == ["1970-01-01T00:00:00Z"] * 3
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "a", "f")
    assert loads(door.render_model(*LIST[1])) == listed["data"][1]


def test_a_list_of_nothing():
    assert loads(door.render_models([])) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("query", "ids", "more"),
    [
        ({"limit": "2"}, ["a", "b/c:d"], True),
        ({"limit": "4"}, ["a", "b/c:d", "e", "f"], False),
        ({"limit": "1000"}, ["a", "b/c:d", "e", "f"], False),
        ({"limit": ""}, ["a", "b/c:d", "e", "f"], False),
        ({"limit": "1", "after_id": "a"}, ["b/c:d"], True),
        ({"after_id": "e"}, ["f"], False),
        ({"after_id": "f"}, [], False),
        ({"limit": "1", "before_id": "e"}, ["b/c:d"], True),
        ({"before_id": "e"}, ["a", "b/c:d"], False),
        ({"before_id": "a"}, [], False),
        ({"after_id": "", "before_id": ""}, ["a", "b/c:d", "e", "f"], False),
    ],
)
def test_pages(query, ids, more):
    listed = page(**query)
    assert ([model["id"] for model in listed["data"]], listed["has_more"]) == (ids, more)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"after_id": "gone"}, "after_id"),
        ({"before_id": "gone"}, "before_id"),
        ({"after_id": "a", "before_id": "e"}, "before_id"),
    ],
)
def test_what_is_wrong_with_a_page_is_named(query, param):
    with pytest.raises(errors.RequestError) as refused:
        page(**query)
    assert refused.value.param == param


@given(st.integers(1, 45), st.integers(1, 50))
def test_all_pages_together_are_the_list(length, size):
    models = [(f"m{number}", number, "") for number in range(length)]
    names = [name for name, _, _ in models]

    def walk(cursor, key, end):
        while True:
            listed = loads(door.render_models(models, limit=str(size), **cursor))
            yield [model["id"] for model in listed["data"]]
            if not listed["has_more"]:
                return
            cursor = {key: listed[end]}

    assert sum(walk({}, "after_id", "last_id"), []) == names
    back = list(walk({"before_id": names[-1]}, "before_id", "first_id"))
    assert sum(reversed(back), []) == names[:-1]
