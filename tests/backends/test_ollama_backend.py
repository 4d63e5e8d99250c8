"""The Ollama backend: OpenAI calls in, Ollama's bytes out, and back to what an OpenAI client reads."""

from __future__ import annotations

import base64
import struct

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ghostllm import jsonx
from ghostllm.api.ollama import door
from ghostllm.backends.ollama import OllamaBackend
from ghostllm.errors import (
    ContextLengthExceeded,
    RequestError,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamAnswered,
    UpstreamCut,
    UpstreamProtocolError,
)
from ghostllm.message import Call, Parameters, Passage, Usage

END = (
    b'{"model":"llama3.2","created_at":"2026-11-22T23:32:13Z","message":{"role":"assistant","content":""},'
    b'"done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":3}\n'
)
TEXT = (
    b'{"model":"llama3.2","created_at":"2026-11-22T23:32:13Z",'
    b'"message":{"role":"assistant","content":"Hi"},"done":false}\n'
)
MESSAGES = [{"role": "user", "content": "hi"}]


def backend(**options):
    ids = iter(range(100))
    return OllamaBackend(
        "box", mint=lambda prefix: f"{prefix}{next(ids)}", clock=lambda: 1700000000.9, **options
    )


def call(operation="chat", *, stream=False, wants_usage=True, **members):
    fields = {"model": "alias", "stream": stream, **members}
    return Call("openai", operation, "alias", jsonx.dumps(fields), fields, stream, wants_usage)


def prepare(asked, extra=None, **options):
    request, answer = backend(**options).prepare(asked, "llama3.2", extra or {})
    return request, jsonx.loads(b"".join(request.body)), answer


def test_a_stream_from_end_to_end():
    request, body, answer = prepare(call(messages=MESSAGES, stream=True))
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert (b"content-type", b"application/json") in request.headers
    assert body["model"] == "llama3.2" and body["stream"] is True
    stream = answer.feed(TEXT[:30])
    assert stream == b"" and not answer.committed
    stream += answer.feed(TEXT[30:] + TEXT)
    assert answer.committed and not answer.complete
    stream += answer.feed(END)
    assert answer.complete and answer.usage == Usage(26, 3)
    stream += answer.finish()
    assert stream.endswith(b"\n\ndata: [DONE]\n\n")
    chunks = [
        ChatCompletionChunk.model_validate(jsonx.loads(event[6:]), strict=True)
        for event in stream.split(b"\n\n")[:-2]
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "HiHi"
    assert chunks[-1].usage.total_tokens == 29
    assert {(chunk.id, chunk.model, chunk.created) for chunk in chunks} == {
        ("chatcmpl-0", "alias", 1700000000)
    }


def test_usage_is_recorded_but_not_sent_to_a_client_that_did_not_ask():
    _, _, answer = prepare(call(messages=MESSAGES, stream=True, wants_usage=False))
    stream = answer.feed(TEXT + END) + answer.finish()
    assert b"usage" not in stream and answer.usage == Usage(26, 3)


def test_a_cut_stream_has_no_end():
    _, _, answer = prepare(call(messages=MESSAGES, stream=True))
    assert b'"Hi"' in answer.feed(TEXT)
    with pytest.raises(UpstreamCut):
        answer.finish()
    assert not answer.complete


def test_a_whole_answer():
    _, body, answer = prepare(call(messages=MESSAGES))
    assert body["stream"] is False
    out = answer.whole(END.replace(b'"content":""', b'"content":"Hi"'))
    completion = ChatCompletion.model_validate(jsonx.loads(out), strict=True)
    assert completion.choices[0].message.content == "Hi"
    assert completion.usage.prompt_tokens == 26 and answer.usage == Usage(26, 3)
    assert answer.committed and answer.complete


def test_a_forced_call_reaches_the_client_as_a_call():
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = call(messages=MESSAGES, stream=True, tools=tools, tool_choice="required")
    _, body, answer = prepare(asked)
    assert "tools" not in body and body["format"]["properties"]["name"]["enum"] == ["f"]
    said = TEXT.replace(b'"Hi"', b'"{\\"name\\":\\"f\\",\\"arguments\\":{}}"')
    assert b"tool_calls" not in answer.feed(said) and not answer.committed
    events = (answer.feed(END) + answer.finish()).split(b"\n\n")
    chunk = ChatCompletionChunk.model_validate(jsonx.loads(events[0][6:]), strict=True)
    (made,) = chunk.choices[0].delta.tool_calls
    assert (made.index, made.id, made.function.name, made.function.arguments) == (0, "call_1", "f", "{}")
    assert b'"finish_reason":"tool_calls"' in events[1]


def test_minted_ids_differ():
    _, first = OllamaBackend("box").prepare(call(messages=MESSAGES), "m", {})
    _, second = OllamaBackend("box").prepare(call(messages=MESSAGES), "m", {})
    bodies = [answer.whole(END.replace(b'"content":""', b'"content":"x"')) for answer in (first, second)]
    ids = {jsonx.loads(body)["id"] for body in bodies}
    assert len(ids) == 2 and all(identity.startswith("chatcmpl-") for identity in ids)


def test_configured_parameters_are_set_over_the_clients():
    asked = call(messages=MESSAGES, temperature=1)
    _, body, _ = prepare(asked, {"temperature": 0, "num_ctx": 8192, "keep_alive": -1})
    assert body["options"] == {"temperature": 0, "num_ctx": 8192}
    assert body["keep_alive"] == -1
    assert asked.fields["temperature"] == 1


def test_a_completion():
    request, body, answer = prepare(call("completions", prompt="Once", stream=True))
    assert request.path == "/api/generate" and body["raw"] is True
    stream = answer.feed(b'{"response":" upon","done":false}\n{"response":"","done":true,"eval_count":1}\n')
    stream += answer.finish()
    first = jsonx.loads(stream.split(b"\n\n")[0][6:])
    assert (first["id"], first["object"], first["choices"][0]["text"]) == (
        "cmpl-0",
        "text_completion",
        " upon",
    )


def test_embeddings_are_packed_only_when_asked_to():
    answered = b'{"embeddings":[[0.5,-0.25]],"prompt_eval_count":3}'
    request, body, answer = prepare(call("embeddings", input="a"))
    assert request.path == "/api/embed" and body["input"] == ["a"]
    out = jsonx.loads(answer.whole(answered))
    assert out["data"][0]["embedding"] == [0.5, -0.25] and out["model"] == "alias"
    _, _, answer = prepare(call("embeddings", input="a", encoding_format="base64"))
    packed = jsonx.loads(answer.whole(answered))["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(packed)) == (0.5, -0.25)
    assert answer.usage == Usage(prompt=3)


def test_embeddings_are_no_stream():
    _, _, answer = prepare(call("embeddings", input="a"))
    for step in (lambda: answer.feed(b"x"), answer.finish, lambda: answer.whole(b'{"embeddings":[]}')):
        with pytest.raises(UpstreamProtocolError, match="'box'"):
            step()


def test_the_key_and_headers_of_the_backend_go_with_every_request():
    configured = backend(api_key="s3cret", headers=((b"x-team", b"a"),))
    request, _ = configured.prepare(call(messages=MESSAGES), "m", {})
    for sent in (request.headers, configured.inventory_request().headers):
        assert (b"authorization", b"Bearer s3cret") in sent and (b"x-team", b"a") in sent
    assert "s3cret" not in repr(configured)


def test_what_cannot_be_served_is_refused():
    with pytest.raises(UnsupportedParameter) as caught:
        prepare(call(messages=MESSAGES, n=2))
    assert caught.value.param == "n"
    with pytest.raises(RequestError):
        prepare(call("chat"))


# --- errors, in Ollama's words


def failure(status, text, **headers):
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return backend().failure(status, fields, jsonx.dumps({"error": text}))


@pytest.mark.parametrize(
    ("status", "text", "error", "param"),
    [
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", UnsupportedParameter, "tools"),
        (400, '"gemma:2b" does not support thinking', UnsupportedParameter, "reasoning_effort"),
        (400, 'think value "max" is not supported for this model', UnsupportedValue, "reasoning_effort"),
        (400, "llama3.2 does not support insert", UnsupportedParameter, "suffix"),
        (400, '"nomic-embed-text" does not support chat', UnsupportedValue, "model"),
        (400, "the input length exceeds the context length", ContextLengthExceeded, None),
        (
            400,
            "input exceeds maximum context length and cannot be truncated further",
            ContextLengthExceeded,
            None,
        ),
        (500, "the input length exceeds the context length", ContextLengthExceeded, None),
    ],
)
def test_errors_that_name_the_requests_fault(status, text, error, param):
    found = failure(status, text)
    assert type(found) is error and found.param == param and found.message == text
    assert not found.retryable


@pytest.mark.parametrize(
    ("status", "text", "shown", "code", "retryable", "repeatable"),
    [
        (404, "model 'x' not found", 404, "model_not_found", True, False),
        (400, "invalid options: temperature", 400, None, False, False),
        (
            503,
            "server busy, please try again.  maximum pending requests exceeded",
            503,
            "overloaded",
            True,
            True,
        ),
        (429, "rate limit exceeded", 429, "rate_limit_exceeded", True, True),
        (504, "cloud took too long", 504, "upstream_timeout", True, True),
        (413, "too large", 413, None, True, False),
        (499, "request canceled", 502, "upstream_error", True, False),
        (500, "model requires more system memory", 502, "upstream_error", True, True),
    ],
)
def test_errors_that_are_the_backends(status, text, shown, code, retryable, repeatable):
    found = failure(status, text)
    assert isinstance(found, UpstreamAnswered) and text in found.message
    assert (found.upstream_status, found.status, found.code) == (status, shown, code)
    assert (found.retryable, found.repeatable) == (retryable, repeatable)


def test_refused_credentials_are_the_gateways_own_and_not_shown():
    found = failure(401, "unauthorized: s3cret")
    assert (found.status, found.code, found.retryable, found.repeatable) == (
        502,
        "upstream_refused",
        True,
        False,
    )
    assert "s3cret" not in found.message and "'box'" in found.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b"Tue, 14 Nov 2023 22:13:30 GMT", 9.1),
        (b"Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        (b"soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    after = failure(503, "busy", retry_after=value).retry_after
    assert after == (None if seconds is None else pytest.approx(seconds, abs=0.01))


@pytest.mark.parametrize("body", [b"404 page not found", b"", b"{}", b'{"error":3}', b"[]"])
def test_errors_that_ollama_would_not_send_are_protocol_errors(body):
    found = backend().failure(404, {}, body)
    assert isinstance(found, UpstreamProtocolError) and found.retryable


def test_an_error_in_a_proxys_manner_is_understood():
    found = backend().failure(429, {}, b'{"error":{"message":"slow down"}}')
    assert (found.message, found.code) == ("slow down", "rate_limit_exceeded")


# --- models

TAGS = (
    b'{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest",'
    b'"modified_at":"2026-05-04T14:56:49.277302595-07:00","size":7365960935,"digest":"f2b8c0",'
    b'"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"3B",'
    b'"quantization_level":"Q4_K_M","context_length":131072},"capabilities":["completion","tools","thinking"]},'
    b'{"name":"nomic-embed-text:latest","details":null,"modified_at":"never"}]}'
)


def test_models_are_listed_with_what_is_known_of_them():
    assert backend().inventory_request().path == "/api/tags"
    llama, nomic = backend().inventory(TAGS)
    assert (llama.id, llama.created, llama.context) == ("llama3.2:latest", 1777931809, 131072)
    assert llama.capabilities == {"chat", "completions", "embeddings", "tools"}
    assert (nomic.id, nomic.created, nomic.context, nomic.capabilities) == (
        "nomic-embed-text:latest",
        None,
        None,
        frozenset(),
    )


def test_a_server_without_models_has_none():
    assert backend().inventory(b'{"models":[]}') == backend().inventory(b'{"models":null}') == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"models":3}', b'{"models":[3]}', b'{"models":[{}]}'])
def test_lists_that_are_none_are_protocol_errors(body):
    with pytest.raises(UpstreamProtocolError):
        backend().inventory(body)


def test_a_model_keeps_what_the_server_said_of_it():
    llama, nomic = backend().inventory(TAGS)
    assert llama.details == jsonx.loads(TAGS)["models"][0]
    assert nomic.details == {"name": "nomic-embed-text:latest", "details": None, "modified_at": "never"}
    assert len({llama, nomic}) == 2


# --- calls of Ollama's own dialect

NATIVE = (
    b' {"messages": [{"role":"user","content":"hi"}], "model":"alias" , "options":{"num_ctx":9},"new":[1.0]}'
)


def native(operation, body, parameters=None):
    asked = door.read_call(operation, body)
    asked.parameters = parameters
    request, answer = backend().prepare(asked, "llama3.2", {})
    return request, b"".join(request.body), answer


def test_a_native_call_goes_as_the_client_wrote_it_but_for_the_model():
    request, body, answer = native("ollama_chat", NATIVE)
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert body == NATIVE.replace(b'"alias"', b'"llama3.2"')
    assert (b"accept", b"application/x-ndjson") in request.headers
    out = answer.feed(TEXT) + answer.feed(END) + answer.finish()
    assert out == (TEXT + END).replace(b'"llama3.2"', b'"alias"')
    assert answer.usage == Usage(26, 3) and answer.complete


def test_a_native_call_for_the_servers_own_name_is_the_same_bytes():
    asked = door.read_call("ollama_chat", NATIVE)
    request, _ = backend().prepare(asked, "alias", {})
    assert request.body == [NATIVE]


@pytest.mark.parametrize(
    ("operation", "members", "path", "answered"),
    [
        (
            "ollama_generate",
            {"prompt": "x", "stream": False, "template": "y", "context": [1]},
            "/api/generate",
            b'{"model":"alias","response":"z","done":true}',
        ),
        ("ollama_generate", {"prompt": "x", "raw": True, "stream": False}, "/api/generate",
         b'{"model":"alias","response":"z","done":true}'),
        ("ollama_chat", {"messages": [], "keep_alive": 0}, "/api/chat",
         b'{"model":"alias","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}'),
        ("ollama_embed", {"input": ["a"]}, "/api/embed", b'{"model":"alias","embeddings":[[0.5]]}'),
        ("ollama_embeddings", {"prompt": "a"}, "/api/embeddings", b'{"embedding":[0.5]}'),
    ],
)  # fmt: skip
def test_every_native_path_passes(operation, members, path, answered):
    request, body, answer = native(operation, jsonx.dumps({"model": "alias", **members}))
    assert request.path == path
    assert jsonx.loads(body) == {"model": "llama3.2", **members}
    assert (b"accept", b"application/json") in request.headers
    assert answer.whole(answered.replace(b'"alias"', b'"llama3.2"')) == answered
    assert answer.complete


def test_configured_parameters_are_laid_under_and_over_a_native_call():
    parameters = Parameters(
        {"temperature": 0.1, "num_ctx": 1, "keep_alive": -1, "max_tokens": 7}, {"seed": 3, "truncate": False}
    )
    _, body, _ = native("ollama_chat", NATIVE, parameters)
    assert jsonx.loads(body) == {
        "model": "llama3.2",
        "messages": MESSAGES,
        "options": {"temperature": 0.1, "num_ctx": 9, "num_predict": 7, "seed": 3},
        "keep_alive": -1,
        "truncate": False,
        "new": [1.0],
    }
    embed = b'{"model":"alias","input":"a","keep_alive":"1m"}'
    _, body, _ = native("ollama_embed", embed, Parameters({"keep_alive": -1}, {"dimensions": 2}))
    assert jsonx.loads(body) == {"model": "llama3.2", "input": "a", "keep_alive": "1m", "dimensions": 2}


def test_a_parameter_that_ollama_has_not_is_refused():
    with pytest.raises(UnsupportedParameter) as caught:
        native("ollama_chat", NATIVE, Parameters({}, {"logit_bias": {"1": 1}}))
    assert caught.value.param == "logit_bias"


def managed(method, path, **fields):
    body = jsonx.dumps(fields)
    model = fields.get("model") or fields.get("source") or fields["name"]
    call = Passage("ollama", "passage", model, body, fields, method=method, path=path)
    request, _ = backend().prepare(call, model.upper(), {})
    assert (request.method, request.path) == (method, path)
    assert (b"content-type", b"application/json") in request.headers
    return jsonx.loads(b"".join(request.body))


def test_models_are_managed_under_the_servers_names():
    assert managed("POST", "/api/pull", model="m", stream=False) == {"model": "M", "stream": False}
    assert managed("DELETE", "/api/delete", name="m") == {"model": "M"}
    copy = managed("POST", "/api/copy", source="a", destination="b")
    assert copy == {"source": "A", "destination": "b"}


def test_a_model_is_asked_about():
    request = backend().show_request("m", verbose=True)
    assert (request.method, request.path) == ("POST", "/api/show")
    assert jsonx.loads(b"".join(request.body)) == {"model": "m", "verbose": True}


def test_the_models_in_memory_are_asked_for():
    request = backend(api_key="s3cret").ps_request()
    assert (request.method, request.path, request.body) == ("GET", "/api/ps", [])
    assert (b"authorization", b"Bearer s3cret") in request.headers
