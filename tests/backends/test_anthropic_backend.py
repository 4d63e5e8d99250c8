"""The Anthropic backend: OpenAI calls in, Anthropic's bytes out and back; and calls of its own dialect."""

from __future__ import annotations

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from ghostllm.backends import base_url, translator
from ghostllm.backends.anthropic import AnthropicBackend
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import BackendConfig
from ghostllm.errors import (
    ContextLengthExceeded,
    RequestError,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamAnswered,
    UpstreamCut,
    UpstreamProtocolError,
)
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call, Parameters, Usage
from tests.fakes import anthropic_formats
from tests.fakes.behaviour import Behaviour

MESSAGES = [{"role": "user", "content": "hi"}]
VERSION = (b"anthropic-version", b"2023-06-01")
TOOLS = [{"name": "f", "arguments": '{"x": 1}'}, {"name": "g", "arguments": "{}"}]


def backend(**options):
    ids = iter(range(100))
    return AnthropicBackend(
        "cloud", mint=lambda prefix: f"{prefix}{next(ids)}", clock=lambda: 1700000000.9, **options
    )


def call(operation="chat", door="openai", *, stream=False, wants_usage=True, **members):
    fields = {"model": "alias", "stream": stream, **members}
    return Call(door, operation, "alias", dumps(fields), fields, stream, wants_usage)


def prepare(asked, extra=None, **options):
    request, answer = backend(**options).prepare(asked, "claude", extra or {})
    return request, loads(b"".join(request.body)), answer


def answered(**behaviour):
    """What the server sends: a stream, or with `whole` a body."""
    whole = behaviour.pop("whole", False)
    known = Behaviour.of(behaviour)
    request = {"model": "claude"}
    if whole:
        return anthropic_formats.whole("messages", 1, request, known)
    made = anthropic_formats.stream(1, request, known)
    return b"".join(made.opening + made.tokens + made.closing)


def chunks(stream):
    *events, done, rest = stream.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [ChatCompletionChunk.model_validate(loads(event[6:]), strict=True) for event in events]


# --- calls of other dialects


def test_a_stream_from_end_to_end():
    request, body, answer = prepare(call(messages=MESSAGES, stream=True))
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert VERSION in request.headers and (b"accept", b"text/event-stream") in request.headers
    assert (body["model"], body["stream"], body["max_tokens"]) == ("claude", True, 8192)
    sent = answered(reasoning="hm")
    stream = b"".join(answer.feed(sent[i : i + 7]) for i in range(0, len(sent), 7))
    assert answer.committed and answer.complete
    found = chunks(stream + answer.finish())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in found[:-1]) == Behaviour().text
    assert b'"reasoning_content":"hm"' in stream
    assert found[-2].choices[0].finish_reason == "stop"
    assert (found[-1].usage.prompt_tokens, found[-1].usage.prompt_tokens_details.cached_tokens) == (11, 4)
    assert answer.usage == Usage(11, 8, 4, 0)
    assert {(chunk.id, chunk.model) for chunk in found} == {("chatcmpl-0", "alias")}


def test_parallel_calls_arrive_with_their_arguments():
    _, _, answer = prepare(call(messages=MESSAGES, stream=True))
    found = chunks(answer.feed(answered(tool_calls=TOOLS)) + answer.finish())
    made: dict[int, list[str]] = {}
    for chunk in found[:-1]:
        for part in chunk.choices[0].delta.tool_calls or ():
            made.setdefault(part.index, []).append(part.function.arguments)
    assert {index: "".join(parts) for index, parts in made.items()} == {0: '{"x": 1}', 1: "{}"}
    assert found[-2].choices[0].finish_reason == "tool_calls"


def test_a_whole_answer():
    request, body, answer = prepare(call(messages=MESSAGES, max_tokens=5))
    assert "stream" not in body and body["max_tokens"] == 5
    assert (b"accept", b"application/json") in request.headers
    out = answer.whole(answered(whole=True, finish="length"))
    completion = ChatCompletion.model_validate(loads(out), strict=True)
    assert completion.choices[0].message.content == Behaviour().text
    assert completion.choices[0].finish_reason == "length" and completion.usage.prompt_tokens == 11


def test_a_cut_stream_has_no_end():
    _, _, answer = prepare(call(messages=MESSAGES, stream=True))
    answer.feed(answered(finish=None, done=False))
    with pytest.raises(UpstreamCut):
        answer.finish()


def test_configured_parameters_and_the_bound():
    asked = call(messages=MESSAGES, temperature=1)
    _, body, _ = prepare(asked, {"temperature": 0, "thinking": {"type": "disabled"}}, max_tokens=99)
    assert (body["temperature"], body["thinking"], body["max_tokens"]) == (0, {"type": "disabled"}, 99)


def test_what_cannot_be_served_is_refused():
    with pytest.raises(UnsupportedParameter) as caught:
        prepare(call(messages=MESSAGES, n=2))
    assert caught.value.param == "n"
    for asked in (call("completions", prompt="Once"), call("embeddings", input="a")):
        with pytest.raises(UnsupportedValue, match=asked.operation):
            prepare(asked)
    with pytest.raises(RequestError):
        prepare(call())
    assert not backend().passes("/rerank")


# --- calls of its own dialect


def own(operation="chat", **members):
    return call(operation, "anthropic", messages=MESSAGES, max_tokens=9, **members)


def test_a_call_of_its_own_dialect_is_passed_on_but_for_the_models_name():
    asked = own(stream=True, context_management={"edits": []})
    request, answer = backend().prepare(asked, "claude", {})
    assert b"".join(request.body) == bytes(asked.body).replace(b'"alias"', b'"claude"')
    assert request.path == "/v1/messages"
    assert VERSION in request.headers  # for clients that send none; theirs would stand in for it
    sent = answered(reasoning="hm", tool_calls=TOOLS)
    assert answer.feed(sent) + answer.finish() == sent.replace(b'"claude"', b'"alias"')
    assert answer.usage.prompt == 11


def test_a_call_that_needs_no_change_is_not_copied():
    asked = own()
    request, _ = backend().prepare(asked, "alias", {})
    assert request.body == [asked.body] and request.body[0] is asked.body


def test_configured_parameters_of_a_call_of_its_own_dialect():
    asked = own(temperature=1)
    asked.parameters = Parameters({"temperature": 0, "stop": ["x"], "max_completion_tokens": 1}, {"top_k": 3})
    _, body, _ = prepare(asked)
    assert (body["temperature"], body["stop_sequences"], body["top_k"]) == (1, ["x"], 3)
    assert body["max_tokens"] == 9 and "max_completion_tokens" not in body


def test_tokens_are_counted_there_without_configured_parameters():
    asked = own("count_tokens")
    asked.parameters = Parameters({}, {"top_k": 3})
    request, body, answer = prepare(asked)
    assert request.path == "/v1/messages/count_tokens" and "top_k" not in body
    body = anthropic_formats.whole("count_tokens", 1, {}, Behaviour())
    assert answer.whole(body) == body and not answer.usage.known


def test_operations_that_its_dialect_has_not():
    with pytest.raises(UnsupportedValue):
        prepare(own("batches"))


# --- credentials


def test_the_key_and_headers_of_the_backend_go_with_every_request():
    configured = backend(api_key="s3cret-key", headers=((b"x-team", b"a"),))
    requests = [
        configured.prepare(asked, "m", {})[0]
        for asked in (call(messages=MESSAGES), own(stream=True), own("count_tokens"))
    ]
    for request in (*requests, configured.inventory_request()):
        assert (b"x-api-key", b"s3cret-key") in request.headers and (b"x-team", b"a") in request.headers
    assert "s3cret" not in repr(configured)


def test_configured_headers_win():
    headers = ((b"authorization", b"Bearer t"), (b"anthropic-version", b"2030-01-01"))
    sent = backend(api_key="s3cret-key", headers=headers).inventory_request().headers
    names = [name for name, _ in sent]
    assert b"x-api-key" not in names and VERSION not in sent
    assert len(set(names)) == len(names) and headers[1] in sent


def test_secrets_are_blotted_out():
    configured = backend(api_key="s3cret-key")
    body = anthropic_formats.error_body(500, "s3cret-key was refused")
    assert configured.failure(500, {}, body).message == "*** was refused"
    _, answer = configured.prepare(own(stream=True), "m", {})
    with pytest.raises(UpstreamAnswered, match=r"\*\*\* was refused"):
        answer.feed(anthropic_formats.error_event(Behaviour(message="s3cret-key was refused")))


# --- errors


@pytest.mark.parametrize(
    ("status", "shown", "code", "retryable", "repeatable"),
    [
        (400, 400, None, False, False),
        (401, 502, "upstream_refused", True, False),
        (429, 429, "rate_limit_exceeded", True, True),
        (500, 502, "upstream_error", True, True),
        (529, 503, "overloaded", True, True),
    ],
)
def test_errors(status, shown, code, retryable, repeatable):
    found = backend().failure(status, {b"retry-after": b"7"}, anthropic_formats.error_body(status, "so"))
    assert (found.status, found.code, found.retryable) == (shown, code, retryable)
    assert (found.repeatable, found.retry_after) == (repeatable, 7.0)


def test_a_prompt_that_does_not_fit():
    body = anthropic_formats.error_body(400, "prompt is too long: 2 tokens > 1 maximum")
    assert type(backend().failure(400, {}, body)) is ContextLengthExceeded


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"upstream connect error"])
def test_a_proxys_error(body):
    assert backend().failure(503, {}, body).code == "overloaded"


# --- models


def test_models_are_listed_with_what_is_known_of_them():
    assert backend().inventory_request().path == "/v1/models?limit=1000"
    (model,) = backend().inventory(anthropic_formats.models(["claude-x"]))
    assert (model.id, model.created, model.owner) == ("claude-x", 1771459200, "anthropic")
    assert model.context == 200_000 and model.capabilities == frozenset()  # it does not say
    seeing, blind = ({"image_input": {"supported": sees}} for sees in (True, False))
    listed = [
        {"id": "eyes", "capabilities": seeing, "created_at": "1970-01-01T00:00:00Z"},
        {"id": "none", "capabilities": blind},
        {"id": "local", "object": "model", "created": 5, "owned_by": "llamacpp"},
        {"id": ""},
    ]
    eyes, none, local = backend().inventory(dumps({"data": listed}))
    assert "vision" in eyes.capabilities and eyes.created is None and eyes.context is None
    assert none.capabilities == {"chat", "tools"}
    assert (local.id, local.created, local.owner) == ("local", 5, "llamacpp")


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"data":3}', b'{"data":null}'])
def test_lists_that_are_none_are_protocol_errors(body):
    with pytest.raises(UpstreamProtocolError):
        backend().inventory(body)


# --- from the configuration


def test_a_backend_of_this_kind_is_made_from_the_configuration():
    config = BackendConfig(
        name="c", kind="anthropic", url="https://api.anthropic.com", api_key=Secret("s3cret-key")
    )
    made = translator(config, 1 << 20)
    assert isinstance(made, AnthropicBackend)
    assert (b"x-api-key", b"s3cret-key") in made.inventory_request().headers


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com"),
        ("https://proxy/anthropic", "https://proxy/anthropic"),
    ],
)
def test_paths_are_put_behind_what_sdks_mean(url, base):
    assert base_url(BackendConfig(name="c", kind="anthropic", url=url)) == base
