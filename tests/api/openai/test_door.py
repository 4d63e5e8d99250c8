"""The OpenAI door: what it takes of a request, and how it tells errors and models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import errors, jsonx
from ghostllm.api.openai import door as openai
from ghostllm.api.openai.errors import error_event
from ghostllm.jsonx import dumps, loads

HELLO = [{"role": "user", "content": "hello"}]


def chat(**members):
    return dumps({"model": "m", "messages": HELLO, **members})


def test_a_call_is_read_and_its_bytes_are_kept():
    body = b' {"messages": [{"role":"user","content":"x"}], "model":"a/b:c@d", "unknown":{"deep":[1]} }'
    call = openai.read_call("chat", body)
    assert (call.door, call.operation, call.model, call.stream, call.wants_usage) == (
        "openai",
        "chat",
        "a/b:c@d",
        False,
        True,
    )
    assert call.body is body and call.fields["unknown"] == {"deep": [1]}


@pytest.mark.parametrize(
    ("members", "stream", "wants"),
    [
        ({}, False, True),
        ({"stream": False}, False, True),
        ({"stream": None, "stream_options": None, "n": None}, False, True),
        ({"stream": True}, True, False),
        ({"stream": True, "stream_options": {}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": None}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, True, False),
        ({"stream": True, "stream_options": {"include_usage": True, "x": 1}}, True, True),
    ],
)
def test_streams_and_the_wish_for_usage(members, stream, wants):
    call = openai.read_call("chat", bytearray(chat(**members)))
    assert (call.stream, call.wants_usage) == (stream, wants)


@pytest.mark.parametrize("content", ["text", "", ["a", "b"], [1, 2], [[1], [2]]])
def test_prompts_and_inputs_of_all_shapes(content):
    assert (
        openai.read_call("completions", dumps({"model": "m", "prompt": content})).operation == "completions"
    )
    call = openai.read_call("embeddings", dumps({"model": "m", "input": content, "stream": True}))
    assert not call.stream


@pytest.mark.parametrize(
    ("operation", "body", "param", "words"),
    [
        ("chat", b"", None, "empty"),
        ("chat", b"{", None, "not valid JSON"),
        ("chat", b"[]", None, "must be a JSON object, not an array"),
        ("chat", b'"x"', None, "must be a JSON object, not a string"),
        ("chat", b'{"model":"\xff"}', None, "not valid JSON"),
        ("chat", b'{"model":NaN}', None, "not valid JSON"),
        ("chat", b"[" * 100_000, None, "not valid JSON"),
        ("chat", b"{}", "model", "model is required"),
        ("chat", chat(model=None), "model", "model is required"),
        ("chat", chat(model=""), "model", "non-empty"),
        ("chat", chat(model=7), "model", "not 7"),
        ("chat", chat(model=["m"]), "model", "not an array"),
        ("chat", chat(model="m" * 600), "model", "longer than 512"),
        ("chat", chat()[:-1] + b',"model":"other"}', "model", "2 members named 'model'"),
        ("chat", b'{"model":"m"}', "messages", "messages is required"),
        ("chat", chat(messages="hi"), "messages", "an array of messages, not a string"),
        ("chat", chat(messages=[]), "messages", "at least one"),
        ("chat", chat(messages=[*HELLO, "hi"]), "messages[1]", "an object, not a string"),
        ("chat", chat(stream="yes"), "stream", "true or false, not a string"),
        ("chat", chat(stream=1), "stream", "true or false, not 1"),
        ("chat", chat(stream=True, stream_options=[]), "stream_options", "an object, not an array"),
        (
            "chat",
            chat(stream=True, stream_options={"include_usage": "yes"}),
            "stream_options.include_usage",
            "true or false",
        ),
        ("chat", chat(n=0), "n", "a positive integer, not 0"),
        ("chat", chat(n=True), "n", "a positive integer, not a boolean"),
        ("completions", b'{"model":"m"}', "prompt", "prompt is required"),
        ("completions", b'{"model":"m","prompt":[]}', "prompt", "must not be empty"),
        ("completions", b'{"model":"m","prompt":{}}', "prompt", "an array of strings"),
        ("embeddings", b'{"model":"m","input":5}', "input", "not 5"),
    ],
)
def test_what_is_wrong_is_named(operation, body, param, words):
    with pytest.raises(errors.RequestError) as refused:
        openai.read_call(operation, body)
    assert refused.value.status == 400
    assert refused.value.param == param
    assert words in refused.value.message


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_no_body_breaks_the_reader(body):
    try:
        call = openai.read_call("chat", body)
    except errors.RequestError:
        return
    assert call.model and call.body == body


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (errors.RequestError("x", param="n"), "invalid_request_error", None),
        (errors.InvalidKey("x"), "invalid_request_error", "invalid_api_key"),
        (errors.Forbidden("x"), "invalid_request_error", None),
        (errors.ModelNotFound("x"), "invalid_request_error", "model_not_found"),
        (errors.ContextLengthExceeded("x"), "invalid_request_error", "context_length_exceeded"),
        (errors.BodyTooLarge("x"), "invalid_request_error", None),
        (errors.Overloaded("x"), "server_error", "overloaded"),
        (errors.UpstreamTimeout("x", limit="idle"), "server_error", "upstream_timeout"),
        (
            errors.UpstreamAnswered("x", upstream_status=429, status=429, code=None, retryable=True),
            "rate_limit_error",
            "rate_limit_exceeded",
        ),
    ],
)
def test_errors_have_openai_s_shape(error, kind, code):
    body = openai.render_error(error)
    assert loads(body) == {"error": {"message": "x", "type": kind, "param": error.param, "code": code}}
    assert error_event(error) == b"data: " + body + b"\n\n"


def headers_of(error):
    return dict(openai.error_headers(error))


def test_headers_say_whether_and_when_to_retry():
    assert headers_of(errors.RequestError("x")) == {}
    assert headers_of(errors.RequestTimeout("x")) == {}
    assert headers_of(errors.Overloaded("x", retry_after=0.25)) == {
        b"retry-after": b"1",
        b"retry-after-ms": b"250",
    }
    refusal = errors.UpstreamAnswered(
        "x", upstream_status=429, status=429, code=None, retryable=True, retry_after=20
    )
    assert headers_of(refusal) == {
        b"retry-after": b"20",
        b"retry-after-ms": b"20000",
        b"x-should-retry": b"false",
    }


@pytest.mark.parametrize(
    "error",
    [
        errors.GhostError("a bug"),
        errors.NotImplementedHere("x"),
        errors.UpstreamConnectError("x"),
        errors.UpstreamTimeout("x", limit="head"),
        errors.UpstreamAnswered("x", upstream_status=503, status=503, code=None, retryable=True),
    ],
)
def test_clients_do_not_repeat_what_the_gateway_has_tried(error):
    assert headers_of(error)[b"x-should-retry"] == b"false"


def test_methods_and_credentials_asked_for():
    assert headers_of(errors.MethodNotAllowed("x", allow="GET, HEAD")) == {b"allow": b"GET, HEAD"}
    assert headers_of(errors.InvalidKey("x")) == {b"www-authenticate": b"Bearer"}


def test_models():
    made = {"id": "a", "object": "model", "created": 5, "owned_by": "vllm"}
    unknown = {"id": "b", "object": "model", "created": 0, "owned_by": "ghostllm"}
    listing = openai.render_models([("a", 5, "vllm"), ("b", None, "")])
    assert loads(listing) == {"object": "list", "data": [made, unknown]}
    assert loads(openai.render_model("a", 5, "vllm")) == made
    assert jsonx.loads(openai.render_models([])) == {"object": "list", "data": []}
