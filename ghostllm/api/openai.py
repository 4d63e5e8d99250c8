"""The OpenAI door: reads the calls of its clients, and tells them errors and models in OpenAI's shapes.

Only what the gateway itself needs of a request is checked here; unknown members pass, and what is wrong with
the rest is the backend's to say. This module is a `ports.Door`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ghostllm import jsonx
from ghostllm.api.members import kind
from ghostllm.api.splice import refuse_duplicate
from ghostllm.errors import GhostError, MethodNotAllowed, RequestError, UpstreamError
from ghostllm.message import Body, Call, Pairs

WHOLE_HEADERS: Pairs = ((b"content-type", b"application/json"),)
STREAM_HEADERS: Pairs = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

DONE = b"data: [DONE]\n\n"
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


def render_error(error: GhostError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, as OpenAI's API reference has it."""
    return jsonx.dumps({"error": _error_object(error)})


def error_event(error: GhostError) -> bytes:
    """The SDKs raise on an event with a truthy `error`. No `[DONE]` follows it."""
    return b"data: " + render_error(error) + b"\n\n"


def error_headers(error: GhostError) -> Pairs:
    """What SDKs read off an error: `retry-after` in seconds, `retry-after-ms`, and `x-should-retry: false`
    where they would retry by the status alone but should not, since the gateway has tried already or trying
    again cannot help.
    """
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after * 1000)))
    retried = error.status in (408, 409, 429) or error.status >= 500
    if retried and (isinstance(error, UpstreamError) or error.status in (500, 501, 505)):
        headers.append((b"x-should-retry", b"false"))
    return tuple(headers)


def render_models(models: Iterable[tuple[str, int | None, str]]) -> bytes:
    """models: (id, when it was made in seconds since 1970 if that is known, owner)."""
    return jsonx.dumps({"object": "list", "data": [_model(*model) for model in models]})


def render_model(name: str, created: int | None, owner: str) -> bytes:
    return jsonx.dumps(_model(name, created, owner))


def _model(name: str, created: int | None, owner: str) -> dict[str, Any]:
    """SDKs declare `created` and `owned_by` as always present."""
    return {"id": name, "object": "model", "created": created or 0, "owned_by": owner or "ghostllm"}


def _error_object(error: GhostError) -> dict[str, Any]:
    return {"message": error.message, "type": _type(error.status), "param": error.param, "code": _code(error)}


def _type(status: int) -> str:
    """OpenAI says `invalid_request_error` of a bad key and a missing model, too; clients tell them by the
    status.
    """
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _code(error: GhostError) -> str | None:
    return "rate_limit_exceeded" if error.status == 429 and error.code is None else error.code


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
