"""Errors as clients of Anthropic's API expect them: statuses, bodies, and the event inside a stream.

Anthropic has statuses of its own for overload and for an empty account, and none for a gateway's upstreams.
SDKs choose the exception by the status, Claude Code by `error.type` as well.
"""

from __future__ import annotations

from ghostllm import jsonx
from ghostllm.api.retry_headers import retry_headers
from ghostllm.errors import GhostError
from ghostllm.message import Pairs

QUOTA_CODE = "insufficient_quota"

STATUS = {502: 500, 503: 529}
"""Of the gateway's statuses, those that Anthropic's API does not answer with."""

TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    408: "timeout_error", 409: "conflict_error", 413: "request_too_large", 429: "rate_limit_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
"""`error.type` by status. Any other is an `api_error` from 500 on and an `invalid_request_error` below."""


def status(error: GhostError) -> int:
    """A quota that is used up is 402: SDKs retry a 429, which would not fill the account."""
    if error.status == 429 and error.code == QUOTA_CODE:
        return 402
    return STATUS.get(error.status, error.status)


def render_error(error: GhostError) -> bytes:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}`. The id is null: it is in the header
    `request-id`, where the SDKs look for it.
    """
    shown = status(error)
    kind = TYPES.get(shown) or ("api_error" if shown >= 500 else "invalid_request_error")
    told = {"type": kind, "message": error.message}
    return jsonx.dumps({"type": "error", "error": told, "request_id": None})


def error_event(error: GhostError) -> bytes:
    """The end of a stream that has begun: open blocks stay open, and no `message_stop` follows."""
    return b"event: error\ndata: " + render_error(error) + b"\n\n"


def error_headers(error: GhostError) -> Pairs:
    return retry_headers(error, status(error))
