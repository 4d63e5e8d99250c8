"""The response object: what it echoes of its request, and how it ends.

SDKs declare members that are not always known (temperature where the client left it to the model) as
nullable; null is what they get then. When a response was completed nobody here knows, for want of a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm.api.canonical import Finish
from ghostllm.errors import GhostError
from ghostllm.message import Usage

ECHOED = (
    "instructions", "max_output_tokens", "max_tool_calls", "previous_response_id", "prompt_cache_key",
    "prompt_cache_retention", "safety_identifier", "service_tier", "temperature", "top_logprobs", "top_p",
    "user",
)  # fmt: skip
"""Members of the request that stand in the response as they are, null where they are absent."""

INCOMPLETE: Mapping[str, str] = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not all it should be, as `incomplete_details.reason`."""

ERRORS = frozenset((
    "rate_limit_exceeded", "invalid_prompt", "context_length_exceeded", "insufficient_quota",
    "server_is_overloaded",
))  # fmt: skip
"""Codes of `response.error` that clients act upon, Codex among them. All others are a `server_error`."""


def opening(
    fields: Mapping[str, Any], model: str, identity: str, created: int, store: bool
) -> dict[str, Any]:
    """The response before there is any output. created: seconds since 1970."""
    thinking = fields.get("reasoning") or {}
    parallel = fields.get("parallel_tool_calls")
    return {
        "id": identity,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        **{name: fields.get(name) for name in ECHOED},
        "parallel_tool_calls": True if parallel is None else parallel,
        "reasoning": {"effort": None, "summary": None, **thinking},
        "store": store,
        "text": {"format": {"type": "text"}, **_given(fields.get("text"))},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.get("tools") or [],
        "truncation": fields.get("truncation") or "disabled",
        "usage": None,
        "metadata": fields.get("metadata") or {},
    }


def ending(finish: Finish | None) -> dict[str, Any]:
    """What the end of an answer changes. Nobody said that it is over: incomplete, for no known reason."""
    if finish is None:
        return {"status": "incomplete"}
    reason = INCOMPLETE.get(finish.reason)
    if reason is None:
        return {"status": "completed"}
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def failure(error: GhostError) -> dict[str, Any]:
    code = "rate_limit_exceeded" if error.status == 429 and error.code is None else error.code
    if code == "overloaded":
        code = "server_is_overloaded"
    known = code if code in ERRORS else "server_error"
    return {"status": "failed", "error": {"code": known, "message": error.message}}


def usage_object(usage: Usage) -> dict[str, Any] | None:
    """None while a count that it cannot leave out is unknown. Its details are never left out: SDKs read
    them without asking.
    """
    if usage.prompt is None or usage.completion is None:
        return None
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached or 0,
            "cache_write_tokens": usage.cache_write or 0,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.prompt + usage.completion,
    }


def _given(member: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (member or {}).items() if value is not None}
