"""The OpenAI door: reads the calls of its clients, and tells them errors and models in OpenAI's shapes.

Only what the gateway itself needs of a request is checked here; unknown members pass, and what is wrong with
the rest is the backend's to say. This module is a `ports.Door` and a `translation.Dialect`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ghostllm import jsonx
from ghostllm.api.members import kind
from ghostllm.api.openai import request_reader, text_reader
from ghostllm.api.openai.answer_writer import ChatWriter, CompletionWriter, embeddings_body
from ghostllm.api.openai.errors import error_event as error_event
from ghostllm.api.openai.errors import error_headers as error_headers
from ghostllm.api.openai.errors import render_error as render_error
from ghostllm.api.splice import refuse_duplicate
from ghostllm.api.translation import Mint, Neutral
from ghostllm.errors import RequestError
from ghostllm.message import Body, Call, Pairs, Usage

WHOLE_HEADERS: Pairs = ((b"content-type", b"application/json"),)
STREAM_HEADERS: Pairs = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

KEEPALIVE = b": ping\n\n"
"""A comment: every SSE parser skips it, so it may be sent before and between events."""

MODEL_NAME_LIMIT = 512  # characters; names come back in error messages

_NEEDS = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_SHAPES = {
    "prompt": "a string, or an array of strings, token ids or arrays of token ids",
    "input": "a string, or an array of strings, token ids or arrays of token ids",
}


def read_call(operation: str, body: Body) -> Call:
    """operation: "chat", "completions" or "embeddings". Raises RequestError naming the wrong member."""
    fields = _read_object(body)
    model = fields.get("model")
    if type(model) is not str or not model:
        raise _wrong(fields, "model", "the name of a model, a non-empty string")
    if len(model) > MODEL_NAME_LIMIT:
        raise RequestError(f"model is longer than {MODEL_NAME_LIMIT} characters", param="model")
    refuse_duplicate(body, fields, "model")
    _check_content(fields, _NEEDS[operation])
    stream = operation != "embeddings" and _flag(fields, "stream")
    wants_usage = not stream or _asks_for_usage(fields)
    _check_choices(fields)
    return Call("openai", operation, model, body, fields, stream, wants_usage)


def neutral(call: Call) -> Neutral:
    """See translation.Dialect."""
    if call.operation == "chat":
        return request_reader.read_request(call.fields)
    if call.operation == "completions":
        return text_reader.read_continuation(call.fields)
    return text_reader.read_embeddings(call.fields)


def writer(call: Call, created: int, mint: Mint) -> ChatWriter | CompletionWriter:
    """See translation.Dialect."""
    if call.operation == "chat":
        return ChatWriter(mint("chatcmpl-"), call.model, created, usage=call.wants_usage)
    return CompletionWriter(mint("cmpl-"), call.model, created, usage=call.wants_usage)


def write_embeddings(call: Call, vectors: Sequence[Sequence[float]], usage: Usage) -> bytes:
    """See translation.Dialect."""
    as_base64 = call.fields.get("encoding_format") == "base64"
    return embeddings_body(call.model, vectors, usage, as_base64=as_base64)


def render_models(models: Iterable[tuple[str, int | None, str]]) -> bytes:
    """models: (id, when it was made in seconds since 1970 if that is known, owner)."""
    return jsonx.dumps({"object": "list", "data": [_model(*model) for model in models]})


def render_model(name: str, created: int | None, owner: str) -> bytes:
    return jsonx.dumps(_model(name, created, owner))


def _model(name: str, created: int | None, owner: str) -> dict[str, Any]:
    """SDKs declare `created` and `owned_by` as always present."""
    return {"id": name, "object": "model", "created": created or 0, "owned_by": owner or "ghostllm"}


def _read_object(body: Body) -> dict[str, Any]:
    if not body:
        raise RequestError("the body is empty: send a JSON object")
    try:
        fields = jsonx.loads(body)
    except jsonx.DecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if type(fields) is not dict:
        raise RequestError(f"the body must be a JSON object, not {kind(fields)}")
    return fields


def _check_content(fields: dict[str, Any], name: str) -> None:
    content = fields.get(name)
    if name == "messages":
        if type(content) is not list:
            raise _wrong(fields, name, "an array of messages")
        if not content:
            raise RequestError("messages must have at least one message", param=name)
        for index, message in enumerate(content):
            if type(message) is not dict:
                param = f"messages[{index}]"
                raise RequestError(f"{param} must be an object, not {kind(message)}", param=param)
    elif type(content) is not str and type(content) is not list:
        raise _wrong(fields, name, _SHAPES[name])
    elif content == []:
        raise RequestError(f"{name} must not be empty", param=name)


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and type(value) is not bool:
        raise _wrong(fields, name, "true or false")
    return bool(value)


def _asks_for_usage(fields: dict[str, Any]) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if type(options) is not dict:
        raise _wrong(fields, "stream_options", "an object")
    asked = options.get("include_usage")
    if asked is not None and type(asked) is not bool:
        param = "stream_options.include_usage"
        raise RequestError(f"{param} must be true or false, not {kind(asked)}", param=param)
    return bool(asked)


def _check_choices(fields: dict[str, Any]) -> None:
    """The number of choices is what tells a whole stream from a cut one."""
    choices = fields.get("n")
    if choices is not None and (type(choices) is not int or choices < 1):
        raise _wrong(fields, "n", "a positive integer")


def _wrong(fields: dict[str, Any], name: str, expected: str) -> RequestError:
    value = fields.get(name)
    if value is None:
        return RequestError(f"{name} is required: {expected}", param=name)
    found = repr(value) if value == "" or type(value) is int else kind(value)
    return RequestError(f"{name} must be {expected}, not {found}", param=name)
