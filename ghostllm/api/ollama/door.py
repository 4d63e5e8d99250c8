"""The Ollama door: reads the calls of its clients, and tells them errors and models in Ollama's shapes.

Only what the gateway itself needs of a request is checked here; unknown members pass, and what is wrong with
the rest is the backend's to say. This module is a `ports.Door` and a `translation.Dialect`.

A request without messages, prompt or input asks for no answer: it loads the model, or with `keep_alive: 0`
takes it out of memory. Its call is never a stream, since Ollama answers it with one object either way. An
Ollama backend is asked; for any other, `load_answer` is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ghostllm.api.calls import check_messages, flag, model_name, read_object, wrong
from ghostllm.api.members import kind
from ghostllm.api.ollama.errors import error_headers as error_headers
from ghostllm.api.ollama.errors import render_error as render_error
from ghostllm.api.ollama.errors import status as status
from ghostllm.errors import RequestError
from ghostllm.message import Body, Call, Pairs, Usage

if TYPE_CHECKING:  # and where they are needed: see openai.door
    from ghostllm.api.ollama.answer_writer import LineWriter
    from ghostllm.api.translation import Mint, Neutral

WHOLE_HEADERS: Pairs = ((b"content-type", b"application/json; charset=utf-8"),)
STREAM_HEADERS: Pairs = (
    (b"content-type", b"application/x-ndjson"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


FORMS = {
    "ollama_chat": "chat",
    "ollama_generate": "generate",
    "ollama_embed": "embed",
    "ollama_embeddings": "embeddings",
}
"""`Call.form` by operation: the last part of the path."""

CONTENT = {"chat": "messages", "generate": "prompt", "embed": "input", "embeddings": "prompt"}
"""The member of each form without which nothing is asked."""

_NO_TIME = re.compile(r"[+-]?(?:0|(?:(?:0+\.?0*|\.0+)(?:ns|us|µs|μs|ms|s|m|h))+)")
"""A duration of Go's that is none."""


def read_call(operation: str, body: Body) -> Call:
    """operation: one of FORMS. Raises RequestError naming the wrong member.

    Usage is part of every answer of this dialect.
    """
    form = FORMS[operation]
    fields = read_object(body)
    model = model_name(body, fields)
    embeds = form in ("embed", "embeddings")
    streams = not embeds and _flag(fields, "stream", default=True)
    asked = "embeddings" if embeds else "chat"
    if form == "generate" and (_flag(fields, "raw", default=False) or fields.get("suffix")):
        asked = "completions"
    _check_content(form, fields)
    call = Call("ollama", asked, model, body, fields, streams, form=form)
    if asks_nothing(call):
        call.stream = False
    return call


def neutral(call: Call) -> Neutral:
    """See translation.Dialect."""
    from ghostllm.api.ollama import request_reader

    if call.form == "chat":
        return request_reader.read_chat(call.fields)
    if call.form == "generate":
        return request_reader.read_generate(call.fields)
    return request_reader.read_embed(call.fields, CONTENT[call.form])


def writer(call: Call, created: int, mint: Mint) -> LineWriter:
    """See translation.Dialect. Answers of this dialect have no id."""
    from ghostllm.api.ollama.answer_writer import LineWriter

    return LineWriter(call.model, created, chat=call.form == "chat", elapsed=call.elapsed)


def write_embeddings(call: Call, vectors: Sequence[Sequence[float]], usage: Usage) -> bytes:
    """See translation.Dialect."""
    from ghostllm.api.ollama.answer_writer import embedding_body, embeddings_body

    if call.form == "embeddings":
        return embedding_body(vectors)
    return embeddings_body(call.model, vectors, usage, call.elapsed)


def asks_nothing(call: Call) -> bool:
    """Whether the call only loads or unloads its model, or embeds no text."""
    return not call.fields.get(CONTENT[call.form])


def load_answer(call: Call, created: int) -> bytes | None:
    """The whole answer to a call that asks for nothing, of a backend whose models are always there; None for
    any other call. created: seconds since 1970.
    """
    if not asks_nothing(call):
        return None
    if call.operation == "embeddings":
        return write_embeddings(call, (), Usage())
    from ghostllm.api.ollama.answer_writer import empty_answer

    reason = "unload" if _is_no_time(call.fields.get("keep_alive")) else "load"
    return empty_answer(call.model, created, reason, chat=call.form == "chat")


def read_model(body: Body) -> tuple[str, dict[str, Any]]:
    """The model that a request for show, pull or delete names, and all its members. `name` is what older
    clients call it. Raises RequestError.
    """
    fields = read_object(body)
    name = "model" if fields.get("model") or not fields.get("name") else "name"
    model = fields.get(name)
    if type(model) is not str or not model:
        raise wrong(fields, name, "the name of a model, a non-empty string")
    return model, fields


def read_copy(body: Body) -> tuple[str, str, dict[str, Any]]:
    """The source and the destination of a copy, and all its members. Raises RequestError."""
    fields = read_object(body)
    for name in ("source", "destination"):
        if type(fields.get(name)) is not str or not fields[name]:
            raise wrong(fields, name, "the name of a model, a non-empty string")
    return fields["source"], fields["destination"], fields


def _flag(fields: dict[str, Any], name: str, *, default: bool) -> bool:
    return default if fields.get(name) is None else flag(fields, name)


def _check_content(form: str, fields: dict[str, Any]) -> None:
    name = CONTENT[form]
    content = fields.get(name)
    if content is None:
        return
    if form == "chat":
        if content != []:
            check_messages(fields)
    elif form != "embed":
        if type(content) is not str:
            raise wrong(fields, name, "a string")
    elif type(content) is list:
        for index, text in enumerate(content):
            if type(text) is not str:
                param = f"input[{index}]"
                raise RequestError(f"{param} must be a string, not {kind(text)}", param=param)
    elif type(content) is not str:
        raise wrong(fields, name, "a string or an array of strings")


def _is_no_time(value: Any) -> bool:
    if isinstance(value, str):
        return _NO_TIME.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and value == 0
