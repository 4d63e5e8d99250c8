"""The Anthropic door: reads the calls of its clients, and tells them errors and models in Anthropic's shapes.

Only what the gateway itself needs of a request is checked here; unknown members pass, and what is wrong with
the rest is the backend's to say. This module is a `ports.Door` and a `translation.Dialect`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ghostllm import jsonx
from ghostllm.api.anthropic import listing
from ghostllm.api.anthropic.errors import error_headers as error_headers
from ghostllm.api.anthropic.errors import render_error as render_error
from ghostllm.api.anthropic.errors import status as status
from ghostllm.api.calls import check_messages, flag, model_name, read_object, wrong
from ghostllm.errors import UnsupportedParameter
from ghostllm.message import Body, Call, Pairs, Usage

if TYPE_CHECKING:  # and where they are needed: see openai.door
    from ghostllm.api.anthropic.answer_writer import MessagesWriter
    from ghostllm.api.canonical import Conversation
    from ghostllm.api.translation import Mint

WHOLE_HEADERS: Pairs = ((b"content-type", b"application/json"),)
STREAM_HEADERS: Pairs = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


OPERATIONS = {"messages": "chat", "count_tokens": "count_tokens"}


def read_call(operation: str, body: Body) -> Call:
    """operation: "messages", which is a chat to the gateway, or "count_tokens". Raises RequestError naming
    the wrong member.

    Usage is part of every answer of this dialect.
    """
    fields = read_object(body)
    model = model_name(body, fields)
    check_messages(fields)
    asked = OPERATIONS[operation]
    if asked == "count_tokens":
        return Call("anthropic", asked, model, body, fields)
    _check_max_tokens(fields)
    return Call("anthropic", asked, model, body, fields, flag(fields, "stream"))


def neutral(call: Call) -> Conversation:
    """See translation.Dialect. Of a count_tokens call, what is to be counted."""
    from ghostllm.api.anthropic import request_reader

    return request_reader.read_request(call.fields)


def writer(call: Call, created: int, mint: Mint) -> MessagesWriter:
    """See translation.Dialect. Messages of this dialect do not say when they were made."""
    from ghostllm.api.anthropic.answer_writer import MessagesWriter

    return MessagesWriter(mint("msg_"), call.model)


def write_embeddings(call: Call, vectors: Sequence[Sequence[float]], usage: Usage) -> bytes:
    """See translation.Dialect. Raises UnsupportedParameter: Anthropic's API has no embeddings."""
    raise UnsupportedParameter("Anthropic's API has no embeddings: use /v1/embeddings of OpenAI's")


def render_count(tokens: int) -> bytes:
    """The answer to count_tokens."""
    return jsonx.dumps({"input_tokens": tokens})


def render_models(
    models: Iterable[listing.Entry],
    *,
    limit: str | None = None,
    after_id: str | None = None,
    before_id: str | None = None,
) -> bytes:
    """A page of the list. limit, after_id, before_id: the values of the query, None where it has none.

    Raises RequestError naming the one that is wrong.
    """
    return listing.render_models(models, limit, after_id, before_id)


def render_model(name: str, created: int | None, owner: str) -> bytes:
    return listing.render_model(name, created)


def _check_max_tokens(fields: dict[str, Any]) -> None:
    """Anthropic requires it, and so do its backends behind a passthrough."""
    limit = fields.get("max_tokens")
    if type(limit) is not int or limit < 1:
        raise wrong(fields, "max_tokens", "a positive integer")
