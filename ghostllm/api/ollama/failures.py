"""What an error of Ollama's means: whose fault it is, and which member of the request it is about.

Ollama tells errors as `{"error": "text"}`, with a status before the answer and without one inside it, so the
text decides where the status does not. Texts after Ollama 0.17 (server/routes.go, server/sched.go,
runner/*/runner.go).
"""

from __future__ import annotations

import re

from ghostllm import jsonx
from ghostllm.errors import (
    ContextLengthExceeded,
    GhostError,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamAnswered,
    UpstreamError,
    UpstreamProtocolError,
)

_CONTEXT = re.compile(
    r"exceeds? (the |maximum )?(available )?context|input length exceeds"
    r"|context (length|size|window) exceeded|exceed_context_size|prompt (is )?too long"
)
_UNSUPPORTED = (
    (re.compile(r"does not support tools"), "tools", UnsupportedParameter),
    (re.compile(r"does not support thinking"), "reasoning_effort", UnsupportedParameter),
    (re.compile(r"think value"), "reasoning_effort", UnsupportedValue),
    (re.compile(r"does not support insert"), "suffix", UnsupportedParameter),
    (
        re.compile(r"does not support (vision|image)|one image while more than one"),
        "messages",
        UnsupportedValue,
    ),
    (re.compile(r"does not support (chat|generate|completion|embed)"), "model", UnsupportedValue),
)


def answered(status: int, body: bytes, label: str, retry_after: float | None = None) -> GhostError:
    """The error behind an answer that is not a success. label: how the message names the backend."""
    if status in (401, 402, 403, 407):  # our credentials: the client's have been accepted here
        refused = f"{label} refused this gateway's credentials (status {status})"
        return _upstream(refused, status, 502, "upstream_refused")
    message = _message(body)
    if message is None:
        return UpstreamProtocolError(f"{label} answered with status {status} and no error that Ollama sends")
    return _judged(status, message, retry_after)


def inside(message: object) -> UpstreamError:
    """The error behind an `error` line inside an answer, whose status was a success."""
    error = _judged(500, str(message), None)
    if isinstance(error, UpstreamError):
        return error
    return UpstreamAnswered(
        error.message,
        upstream_status=200,
        status=error.status,
        code=error.code,
        retryable=False,
        param=error.param,
    )


def _message(body: bytes) -> str | None:
    try:
        value = jsonx.loads(body)
    except jsonx.DecodeError:
        return None
    error = value.get("error") if isinstance(value, dict) else None
    if isinstance(error, dict):  # a proxy in front of Ollama, in OpenAI's manner
        error = error.get("message")
    return error if isinstance(error, str) and error else None


def _judged(status: int, message: str, retry_after: float | None) -> GhostError:
    text = message.lower()
    if status <= 500:  # 500 too: a runner's refusal comes through with it
        if _CONTEXT.search(text):
            return ContextLengthExceeded(message)
        for pattern, param, kind in _UNSUPPORTED:
            if pattern.search(text):
                return kind(message, param=param)
    if status == 404:  # the catalog said that it has the model, so another target may well have it
        return _upstream(message, status, 404, "model_not_found", param="model")
    if status == 429:
        return _upstream(message, status, 429, "rate_limit_exceeded", retry_after=retry_after)
    if status == 503:
        return _upstream(message, status, 503, "overloaded", retry_after=retry_after)
    if status in (408, 504):
        return _upstream(message, status, 504, "upstream_timeout")
    if status >= 500 or status < 400 or status in (409, 499):
        return _upstream(message, status, 502, "upstream_error", retry_after=retry_after)
    return _upstream(message, status, status, None, retryable=status in (405, 413))


def _upstream(
    message: str,
    upstream_status: int,
    status: int,
    code: str | None,
    *,
    retryable: bool = True,
    param: str | None = None,
    retry_after: float | None = None,
) -> UpstreamAnswered:
    return UpstreamAnswered(
        message,
        upstream_status=upstream_status,
        status=status,
        code=code,
        retryable=retryable,
        param=param,
        retry_after=retry_after,
    )
