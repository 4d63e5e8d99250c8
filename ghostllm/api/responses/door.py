"""The door for `POST /v1/responses`: reads its calls; errors and headers are those of OpenAI's other doors.

This module is a `ports.Door` and a `translation.Dialect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ghostllm import jsonx
from ghostllm.api.calls import flag, model_name, read_object, wrong
from ghostllm.api.openai.door import STREAM_HEADERS as STREAM_HEADERS
from ghostllm.api.openai.door import WHOLE_HEADERS as WHOLE_HEADERS
from ghostllm.api.openai.errors import error_headers as error_headers
from ghostllm.api.openai.errors import render_error as render_error
from ghostllm.api.openai.errors import status as status
from ghostllm.errors import RequestError, UnsupportedParameter
from ghostllm.message import Body, Call, Usage

if TYPE_CHECKING:  # and where they are needed: see openai.door
    from ghostllm.api.canonical import Conversation
    from ghostllm.api.responses.answer_writer import ResponsesWriter
    from ghostllm.api.translation import Mint

OPERATIONS = {"responses": "chat", "input_tokens": "count_tokens"}

ID_LIMIT = 256  # characters of an id that the gateway could have made


@dataclass(slots=True)
class ResponsesCall(Call):
    """A call of this door.

    store: the response is to be kept. previous: the items of the turns before, oldest first, and references:
    by id, the stored items that the input refers to; both are put in before `neutral`. response: the final
    one, put in by the writer when it is completed, incomplete or failed.
    """

    store: bool = True
    previous: list[dict[str, Any]] = field(default_factory=list)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    response: dict[str, Any] | None = None

    @property
    def previous_response_id(self) -> str | None:
        return self.fields.get("previous_response_id") or None


def read_call(operation: str, body: Body) -> ResponsesCall:
    """operation: "responses", which is a chat to the gateway, or "input_tokens", which is its count_tokens.
    Raises RequestError, UnsupportedParameter, UnsupportedValue naming the wrong member.
    """
    from ghostllm.api.responses import request_reader

    fields = read_object(body)
    model = model_name(body, fields)
    asked = OPERATIONS[operation]
    _check_input(fields, required=asked == "chat")
    previous = fields.get("previous_response_id")
    if previous is not None and (type(previous) is not str or not 0 < len(previous) <= ID_LIMIT):
        raise wrong(fields, "previous_response_id", f"the id of a response, at most {ID_LIMIT} characters")
    request_reader.check(fields)
    stream = asked == "chat" and flag(fields, "stream")
    kept = asked == "chat" and (fields.get("store") is None or flag(fields, "store"))
    return ResponsesCall("responses", asked, model, body, fields, stream, store=kept)


def neutral(call: Call) -> Conversation:
    """See translation.Dialect. Of an input_tokens call, what is to be counted."""
    from ghostllm.api.responses import request_reader

    assert isinstance(call, ResponsesCall)
    try:
        jsonx.dumps([[call.fields]])  # responses echo their requests, a level or two deeper
    except (TypeError, ValueError, RecursionError):  # parsers take what writers do not: depth, for one
        raise RequestError("the body is nested too deeply") from None
    return request_reader.read_request(call.fields, call.previous, call.references)


def writer(call: Call, created: int, mint: Mint) -> ResponsesWriter:
    """See translation.Dialect."""
    from ghostllm.api.responses.answer_writer import ResponsesWriter

    assert isinstance(call, ResponsesCall)
    return ResponsesWriter(call, created, mint)


def write_embeddings(call: Call, vectors: Sequence[Sequence[float]], usage: Usage) -> bytes:
    """See translation.Dialect. Raises UnsupportedParameter: responses are no embeddings."""
    raise UnsupportedParameter("the Responses API has no embeddings: use /v1/embeddings")


def render_count(tokens: int) -> bytes:
    """The answer to input_tokens."""
    return jsonx.dumps({"object": "response.input_tokens", "input_tokens": tokens})


def _check_input(fields: dict[str, Any], *, required: bool) -> None:
    value = fields.get("input")
    if value is None and not required:
        return
    if type(value) is not str and type(value) is not list:
        raise wrong(fields, "input", "a string or an array of items")
    if value == [] and not fields.get("previous_response_id") and not fields.get("instructions"):
        raise RequestError("input must have at least one item", param="input")
