"""The Ollama door: what it takes of a request, and how it tells errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import errors
from ghostllm.api.canonical import Continuation, Conversation, Embeddings
from ghostllm.api.ollama import door
from ghostllm.api.translation import Dialect
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Usage
from ghostllm.ports import Door

HELLO = [{"role": "user", "content": "hello"}]


def read(operation="ollama_chat", **members):
    if operation == "ollama_chat":
        members = {"messages": HELLO, **members}
    return door.read_call(operation, dumps({"model": "m", **members}))


def test_the_module_is_a_door_and_a_dialect():
    as_door: Door = door
    as_dialect: Dialect = door
    assert as_door is as_dialect


def test_a_call_is_read_and_its_bytes_are_kept():
    body = b' {"messages":[{"role":"user","content":"x"}],"model":"a/b:c","new":{"deep":[1]}}'
    call = door.read_call("ollama_chat", body)
    assert (call.door, call.operation, call.form, call.model) == ("ollama", "chat", "chat", "a/b:c")
    assert (call.stream, call.wants_usage) == (True, True)
    assert call.body is body and call.fields["new"] == {"deep": [1]}


@pytest.mark.parametrize(("value", "stream"), [(True, True), (False, False), (None, True)])
@pytest.mark.parametrize(
    ("operation", "members"), [("ollama_chat", {"messages": HELLO}), ("ollama_generate", {"prompt": "x"})]
)
def test_answers_stream_unless_told_otherwise(operation, members, value, stream):
    assert read(operation, stream=value, **members).stream is stream


@pytest.mark.parametrize(
    ("operation", "members", "form", "asked", "shape"),
    [
        ("ollama_chat", {}, "chat", "chat", Conversation),
        ("ollama_generate", {"prompt": "x"}, "generate", "chat", Conversation),
        ("ollama_generate", {"prompt": "x", "raw": False, "suffix": ""}, "generate", "chat", Conversation),
        ("ollama_generate", {"prompt": "x", "raw": True}, "generate", "completions", Continuation),
        ("ollama_generate", {"prompt": "x", "suffix": "y"}, "generate", "completions", Continuation),
        ("ollama_embed", {"input": ["a", "b"]}, "embed", "embeddings", Embeddings),
        ("ollama_embed", {"input": "a"}, "embed", "embeddings", Embeddings),
        ("ollama_embeddings", {"prompt": "a"}, "embeddings", "embeddings", Embeddings),
    ],
)
def test_each_path_has_its_form(operation, members, form, asked, shape):
    call = read(operation, **members)
    assert (call.form, call.operation) == (form, asked)
    assert type(door.neutral(call)) is shape
    assert call.stream is (asked != "embeddings")


@pytest.mark.parametrize(
    ("operation", "members", "param", "words"),
    [
        ("ollama_chat", {"model": None}, "model", "model is required"),
        ("ollama_chat", {"model": 3}, "model", "non-empty string, not 3"),
        ("ollama_chat", {"messages": "hi"}, "messages", "an array of messages, not a string"),
        ("ollama_chat", {"messages": {}}, "messages", "an array of messages, not an object"),
        ("ollama_chat", {"messages": [*HELLO, 5]}, "messages[1]", "an object, not an integer"),
        ("ollama_chat", {"stream": "yes"}, "stream", "true or false, not a string"),
        ("ollama_generate", {"prompt": ["x"]}, "prompt", "a string, not an array"),
        ("ollama_generate", {"prompt": "x", "raw": 1}, "raw", "true or false, not 1"),
        ("ollama_embed", {"input": {}}, "input", "a string or an array of strings, not an object"),
        ("ollama_embed", {"input": ["a", [1]]}, "input[1]", "a string, not an array"),
        ("ollama_embeddings", {"prompt": 1}, "prompt", "a string, not 1"),
    ],
)
def test_what_is_wrong_is_named(operation, members, param, words):
    with pytest.raises(errors.RequestError) as refused:
        read(operation, **members)
    assert refused.value.param == param
    assert words in refused.value.message


@given(st.sampled_from(sorted(door.FORMS)), st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_body_breaks_the_reader(operation, body):
    try:
        call = door.read_call(operation, body)
    except errors.RequestError:
        return
    assert call.model and call.body == body


# --- loading


@pytest.mark.parametrize(
    ("operation", "members", "answer"),
    [
        (
            "ollama_chat",
            {"messages": []},
            b'{"model":"m","created_at":"2023-11-14T22:13:20Z","message":{"role":"assistant","content":""},'
            b'"done":true,"done_reason":"load"}',
        ),
        (
            "ollama_generate",
            {},
            b'{"model":"m","created_at":"2023-11-14T22:13:20Z","response":"","done":true,'
            b'"done_reason":"load"}',
        ),
        (
            "ollama_generate",
            {"prompt": "", "keep_alive": 0},
            b'{"model":"m","created_at":"2023-11-14T22:13:20Z","response":"","done":true,'
            b'"done_reason":"unload"}',
        ),
        ("ollama_embed", {}, b'{"model":"m","embeddings":[]}'),
        ("ollama_embed", {"input": []}, b'{"model":"m","embeddings":[]}'),
        ("ollama_embed", {"input": ""}, b'{"model":"m","embeddings":[]}'),
        ("ollama_embeddings", {"prompt": ""}, b'{"embedding":[]}'),
    ],
)
def test_who_asks_for_nothing_is_told_so_at_once(operation, members, answer):
    """As Ollama 0.17.4 answered, byte for byte but for its fractions of a second."""
    call = read(operation, **members)
    assert call.stream is False  # one object, whatever `stream` is
    assert door.load_answer(call, 1_700_000_000) == answer


@pytest.mark.parametrize(
    ("keep_alive", "reason"),
    [
        (0, "unload"),
        (0.0, "unload"),
        ("0", "unload"),
        ("0s", "unload"),
        ("-0h0m", "unload"),
        ("0.0ms", "unload"),
        (-1, "load"),
        (False, "load"),
        ("5m", "load"),
        ("10s", "load"),
        ("0x", "load"),
        ("", "load"),
        (None, "load"),
    ],
)
def test_a_time_of_nothing_unloads(keep_alive, reason):
    call = read(messages=[], keep_alive=keep_alive)
    assert loads(door.load_answer(call, 0))["done_reason"] == reason


def test_a_call_that_asks_has_no_such_answer():
    for call in (read(), read("ollama_generate", prompt="x"), read("ollama_embed", input=[""])):
        assert door.load_answer(call, 0) is None


# --- answers


def test_embeddings_are_written_in_the_form_of_their_path():
    usage = Usage(prompt=3)
    vectors = [[0.5, -1], [0.25, 2]]
    call = read("ollama_embed", input=["a", "b"])
    assert door.write_embeddings(call, vectors, usage) == (
        b'{"model":"m","embeddings":[[0.5,-1],[0.25,2]],"prompt_eval_count":3}'
    )
    call.elapsed = lambda: 0.25
    assert loads(door.write_embeddings(call, vectors, Usage())) == {
        "model": "m",
        "embeddings": vectors,
        "total_duration": 250_000_000,
    }
    older = read("ollama_embeddings", prompt="a")
    assert door.write_embeddings(older, vectors[:1], usage) == b'{"embedding":[0.5,-1]}'


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (errors.RequestError("no", param="x"), 400, "no"),
        (
            errors.ModelNotFound("no backend serves the model 'x'"),
            404,
            "model not found: no backend serves the model 'x'",
        ),
        (errors.ModelNotFound("model 'x' not found"), 404, "model 'x' not found"),
        (errors.Overloaded("busy", retry_after=2), 503, "busy"),
        (errors.UpstreamTimeout("late", limit="total"), 504, "late"),
    ],
)
def test_an_error_is_a_text(error, status, text):
    assert door.status(error) == status
    assert loads(door.render_error(error)) == {"error": text}


def test_an_error_says_when_to_come_back():
    headers = dict(door.error_headers(errors.Overloaded("busy", retry_after=2)))
    assert headers[b"retry-after"] == b"2"


# --- requests about models


@pytest.mark.parametrize("body", [{"model": "m"}, {"name": "m"}, {"model": "m", "name": "n"}])
def test_a_model_has_two_names_of_a_member(body):
    assert door.read_model(dumps(body))[0] == "m"


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "model"), ({"model": ""}, "model"), ({"name": 3}, "name"), ({"model": 3}, "model")],
)
def test_a_model_without_a_name_is_refused(body, param):
    with pytest.raises(errors.RequestError) as refused:
        door.read_model(dumps(body))
    assert refused.value.param == param


def test_a_copy_has_two_ends():
    members = {"source": "a", "destination": "b", "x": 1}
    assert door.read_copy(b'{"source":"a","destination":"b","x":1}') == ("a", "b", members)
    for body, param in ((b'{"source":"a"}', "destination"), (b'{"source":1,"destination":"b"}', "source")):
        with pytest.raises(errors.RequestError) as refused:
            door.read_copy(body)
        assert refused.value.param == param
