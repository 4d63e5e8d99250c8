"""The OpenAI door: reads the calls of its clients, and tells them errors and models in OpenAI's shapes.

Only what the gateway itself needs of a request is checked here; unknown members pass, and what is wrong with
the rest is the backend's to say. This module is a `ports.Door` and a `translation.Dialect`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ghostllm import jsonx
from ghostllm.api.calls import check_messages, flag, model_name, read_object, wrong
from ghostllm.api.members import kind
from ghostllm.api.openai.errors import error_headers as error_headers
from ghostllm.api.openai.errors import render_error as render_error
from ghostllm.api.openai.errors import status as status
from ghostllm.errors import RequestError
from ghostllm.message import Body, Call, Pairs, Usage

if TYPE_CHECKING:
    from ghostllm.api.openai.answer_writer import ChatWriter, CompletionWriter
    from ghostllm.api.translation import Mint, Neutral

# What translates is imported where it is needed: it is a sixth of the start, and where client and backend
# speak one dialect nobody needs it.

WHOLE_HEADERS: Pairs = ((b"content-type", b"application/json"),)
STREAM_HEADERS: Pairs = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

_NEEDS = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
_SHAPES = {
    "prompt": "a string, or an array of strings, token ids or arrays of token ids",
    "input": "a string, or an array of strings, token ids or arrays of token ids",
}


def read_call(operation: str, body: Body) -> Call:
    """operation: "chat", "completions" or "embeddings". Raises RequestError naming the wrong member."""
    fields = read_object(body)
    model = model_name(body, fields)
    _check_content(fields, _NEEDS[operation])
    stream = operation != "embeddings" and flag(fields, "stream")
    wants_usage = not stream or _asks_for_usage(fields)
    _check_choices(fields)
    return Call("openai", operation, model, body, fields, stream, wants_usage)


def neutral(call: Call) -> Neutral:
    """See translation.Dialect."""
    from ghostllm.api.openai import request_reader, text_reader

    if call.operation == "chat":
        return request_reader.read_request(call.fields)
    if call.operation == "completions":
        return text_reader.read_continuation(call.fields)
    return text_reader.read_embeddings(call.fields)


def writer(call: Call, created: int, mint: Mint) -> ChatWriter | CompletionWriter:
    """See translation.Dialect."""
    from ghostllm.api.openai.answer_writer import ChatWriter, CompletionWriter

    if call.operation == "chat":
        return ChatWriter(mint("chatcmpl-"), call.model, created, usage=call.wants_usage)
    return CompletionWriter(mint("cmpl-"), call.model, created, usage=call.wants_usage)


def write_embeddings(call: Call, vectors: Sequence[Sequence[float]], usage: Usage) -> bytes:
    """See translation.Dialect."""
    from ghostllm.api.openai.answer_writer import embeddings_body

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


def _check_content(fields: dict[str, Any], name: str) -> None:
    if name == "messages":
        check_messages(fields)
        return
    content = fields.get(name)
    if type(content) is not str and type(content) is not list:
        raise wrong(fields, name, _SHAPES[name])
    if content == []:
        raise RequestError(f"{name} must not be empty", param=name)


def _asks_for_usage(fields: dict[str, Any]) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if type(options) is not dict:
        raise wrong(fields, "stream_options", "an object")
    asked = options.get("include_usage")
    if asked is not None and type(asked) is not bool:
        param = "stream_options.include_usage"
        raise RequestError(f"{param} must be true or false, not {kind(asked)}", param=param)
    return bool(asked)


def _check_choices(fields: dict[str, Any]) -> None:
    """The number of choices is what tells a whole stream from a cut one."""
    choices = fields.get("n")
    if choices is not None and (type(choices) is not int or choices < 1):
        raise wrong(fields, "n", "a positive integer")
