"""Errors as clients of OpenAI's API expect them: bodies, header fields, and the event inside a stream."""

from __future__ import annotations

import math
from typing import Any

from ghostllm import jsonx
from ghostllm.errors import GhostError, MethodNotAllowed, UpstreamError
from ghostllm.message import Pairs


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
