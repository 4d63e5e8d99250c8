"""Errors as clients of OpenAI's API expect them: bodies, header fields, and the event inside a stream."""

from __future__ import annotations

from typing import Any

from ghostllm import jsonx
from ghostllm.api.retry_headers import retry_headers
from ghostllm.errors import GhostError
from ghostllm.message import Pairs


def status(error: GhostError) -> int:
    return error.status


def render_error(error: GhostError) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`, as OpenAI's API reference has it."""
    return jsonx.dumps({"error": _error_object(error)})


def error_event(error: GhostError) -> bytes:
    """The SDKs raise on an event with a truthy `error`. No `[DONE]` follows it."""
    return b"data: " + render_error(error) + b"\n\n"


def error_headers(error: GhostError) -> Pairs:
    return retry_headers(error, status(error))


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
