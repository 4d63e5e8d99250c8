"""What a backend that speaks Anthropic's dialect means by an error: whose fault it is, and what the client is
told.

`{"type": "error", "error": {"type", "message"}}` is the body of an answer that is no success, and the data of
an `error` event inside a stream, which has no status but the one that its type stands for. The words are read
and most of them judged as those of OpenAI's dialect (`api.openai.failures`); what differs is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from ghostllm.api.openai import events, failures
from ghostllm.api.openai.failures import CONTEXT_CODE, MODEL_CODE, Words
from ghostllm.errors import ContextLengthExceeded, GhostError, UpstreamAnswered, UpstreamProtocolError

STATUS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "conflict_error": 409, "request_too_large": 413, "rate_limit_error": 429,
    "api_error": 500, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
"""The statuses that Anthropic's error types come with."""

_CONTEXT_WORDS = re.compile(
    r"prompt is too long"
    r"|exceeds? (?:the |your )?(?:model's )?context (?:limit|window)"  # input length and `max_tokens` exceed
    r"|context limit: \d+",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(r"model: ?\S+$")  # all that Anthropic says of a model it does not have
_BILLING_WORDS = re.compile(r"credit balance is too low", re.IGNORECASE)


def answered(
    status: int,
    body: bytes,
    backend: str,
    *,
    retry_after: float | None = None,
    blot: Callable[[str], str] = str,
) -> GhostError:
    """The error behind an answer that is not a success. backend: how the messages name it.

    blot: takes the backend's secrets out of its words.
    """
    words = failures.read_words(body)
    error = _judged(status, replace(words, message=blot(words.message)), backend, retry_after)
    if error.code == CONTEXT_CODE:
        return ContextLengthExceeded(error.message)
    return error


def stream_error(value: dict[str, Any], backend: str, blot: Callable[[str], str] = str) -> UpstreamAnswered:
    """The error that an `error` event tells. A type that nobody knows is the backend's own trouble."""
    words = failures.words_of(value)
    words = replace(words, message=blot(words.message))
    return _judged(STATUS.get(words.type) or words.status or 500, words, backend, None)


def parse_message(body: bytes, backend: str, blot: Callable[[str], str] = str) -> dict[str, Any]:
    """A whole answer: an object whose `content` is a list. Raises UpstreamAnswered for an error that came
    with a success's status, UpstreamProtocolError for anything else.
    """
    message = events.parse_whole(body, backend)
    if isinstance(message, dict):
        if message.get("type") == "error" or message.get("error"):
            raise stream_error(message, backend, blot)
        if isinstance(message.get("content"), list):
            return message
    raise UpstreamProtocolError(f"{backend} answered with JSON that is no message")


def refuse_bare(text: bytes, backend: str, blot: Callable[[str], str] = str) -> NoReturn:
    """Raises what JSON means where an event stream was asked for: an error told in it, or a fault."""
    value = events.parse(text, backend)
    if events.is_bare_error(value):
        raise stream_error(value, backend, blot)
    raise UpstreamProtocolError(f"{backend} answered with JSON where an event stream was asked for")


def _judged(status: int, words: Words, backend: str, retry_after: float | None) -> UpstreamAnswered:
    if status in (400, 413) and _CONTEXT_WORDS.search(words.message):
        words = replace(words, code=CONTEXT_CODE)
    elif status == 404 and words.type == "not_found_error" and _MODEL_WORDS.match(words.message):
        words = replace(words, code=MODEL_CODE)
    elif status == 400 and _BILLING_WORDS.search(words.message):
        status = STATUS["billing_error"]  # the account is the gateway's: not for its clients to mend
    return failures.answered(status, words, backend, retry_after=retry_after)
