"""What a backend that speaks OpenAI's dialect means by an error: whose fault it is, and what the client is
told.

The same rules hold for the body of a non-2xx answer and for an error object inside a stream. Servers differ
in where they put the words: OpenAI `{"error": {…}}` with a string `code`, vLLM and llama.cpp the same with an
integer one, older vLLM `{"object": "error", "message": …}`, FastAPI `{"detail": …}`, others plain text, and
proxies in front of them HTML.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ghostllm import jsonx
from ghostllm.errors import UpstreamAnswered

MESSAGE_LIMIT = 2_000  # characters passed on

CONTEXT_CODE = "context_length_exceeded"
MODEL_CODE = "model_not_found"

_CONTEXT_WORDS = re.compile(
    r"maximum context length"
    r"|context[ _](?:length|size|window)[^.]{0,80}(?:exceed|overflow|not enough|too small)"
    r"|(?:exceed|overflow|(?:long|larg|great)er than|too large)[^.]{0,80}context[ _](?:length|size|window)"
    r"|context the overflows|prompt is too long|is too large to process|input token count[^.]{0,60}exceeds"
    r"|must have less than \d+ tokens|tokens \+ `?max_new_tokens",
    re.IGNORECASE,
)
_MODEL_WORDS = re.compile(
    r"\bmodel:?\s+(?:\S+\s+){0,2}?(?:not found|(?:does not|doesn't|not) exist|could not be found)"
    r"|(?:no such|unknown|unrecognized) model|invalid model (?:name|identifier|id)|server is pinned",
    re.IGNORECASE,
)
_TYPE_STATUS = {
    "invalid_request_error": 400, "badrequesterror": 400, "exceed_context_size_error": 400,
    "not_found_error": 404, "notfounderror": 404, "authentication_error": 401, "permission_error": 403,
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "insufficient_quota": 429, "tokens": 429,
    "requests": 429, "overloaded_error": 503, "unavailable_error": 503, "not_supported_error": 501,
    "timeout_error": 504,
}  # fmt: skip


@dataclass(slots=True, frozen=True)
class Words:
    """What a server said of its error, if it did. type: in lower case. status: an integer `code`."""

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None
    status: int | None = None
    structured: bool = False


def read_words(body: bytes) -> Words:
    """The words in the body of an error answer, whatever its shape."""
    try:
        value = jsonx.loads(body)
    except jsonx.DecodeError:
        text = body[: 4 * MESSAGE_LIMIT].decode("utf-8", "replace").strip()
        if not text or text.startswith("<"):  # a page of some proxy: nothing in it is for API clients
            return Words()
        return Words(text[:MESSAGE_LIMIT])
    return words_of(value)


def words_of(value: Any) -> Words:
    """The words in a parsed error body or stream event."""
    if isinstance(value, str):
        return Words(value[:MESSAGE_LIMIT])
    if not isinstance(value, dict):
        return Words()
    error = value.get("error")
    if isinstance(error, dict):
        return _from_object(error, value)
    if isinstance(error, str) and error:
        return Words(error[:MESSAGE_LIMIT], structured=True, status=_status(value.get("code")))
    if "detail" in value:
        return _from_detail(value["detail"])
    return _from_object(value, value) if isinstance(value.get("message"), str) else Words()


def answered(
    status: int, words: Words, backend: str, *, retry_after: float | None = None
) -> UpstreamAnswered:
    """The error that HTTP status `status` with these words is. backend: how the messages name it, "backend
    'x'".

    Overload, breakdown and the backend's own configuration are tried elsewhere; what is wrong with the
    request is not.
    """
    told = words.message or f"{backend} answered with status {status} and no explanation"

    def error(shown: int, code: str | None, retryable: bool, message: str = told) -> UpstreamAnswered:
        return UpstreamAnswered(
            message[:MESSAGE_LIMIT],
            upstream_status=status,
            status=shown,
            code=code,
            retryable=retryable,
            param=words.param if shown < 429 else None,
            retry_after=retry_after,
        )

    if is_context_overflow(status, words):
        return error(400, CONTEXT_CODE, retryable=False)
    if is_unknown_model(status, words):
        return error(404, MODEL_CODE, retryable=True)
    if status in (401, 402, 403, 407):  # never the client's key: that one has been accepted here
        return error(
            502, "upstream_refused", True, f"{backend} refused this gateway's credentials (status {status})"
        )
    if status == 429:
        code = (
            "insufficient_quota"
            if "insufficient_quota" in (words.code, words.type)
            else "rate_limit_exceeded"
        )
        return error(429, code, retryable=True)
    if status in (404, 405, 501) and (status == 501 or not words.structured):
        lacking = error(
            501, "not_supported", True, words.message or f"{backend} does not offer this operation"
        )
        lacking.repeatable = False
        return lacking
    if status in (408, 504):
        return error(504, "upstream_timeout", retryable=True)
    if status in (503, 529):
        return error(503, "overloaded", retryable=True)
    if status >= 500 or status < 400 or status == 409:
        return error(502, "upstream_error", retryable=True)
    return error(status, words.code or None, retryable=status in (404, 405, 413))


def stream_error(value: dict[str, Any], backend: str, blot: Callable[[str], str] = str) -> UpstreamAnswered:
    """The error that an event inside a stream tells; it has no status but what its words imply.

    blot: takes the backend's secrets out of its words.
    """
    words = words_of(value)
    words = replace(words, message=blot(words.message))
    status = words.status or _TYPE_STATUS.get(words.type) or _TYPE_STATUS.get(words.code) or 500
    return answered(status, words, backend)


def is_context_overflow(status: int, words: Words) -> bool:
    if words.code == CONTEXT_CODE or words.type == "exceed_context_size_error":
        return True
    return status in (400, 413, 422, 500) and _CONTEXT_WORDS.search(words.message) is not None


def is_unknown_model(status: int, words: Words) -> bool:
    if status not in (400, 404):
        return False
    if words.code == MODEL_CODE or (status == 404 and words.param == "model"):
        return True
    return _MODEL_WORDS.search(words.message) is not None


def _from_object(error: dict[str, Any], outer: dict[str, Any]) -> Words:
    message, kind, code, param = (error.get(name) for name in ("message", "type", "code", "param"))
    if not isinstance(message, str):
        message = "" if message is None else jsonx.dumps(message).decode()
    return Words(
        message[:MESSAGE_LIMIT],
        type=kind.lower() if isinstance(kind, str) else "",
        code=code if isinstance(code, str) and not code.isdigit() else "",
        param=param[:200] if isinstance(param, str) else None,
        status=_status(code) or _status(error.get("status")) or _status(outer.get("code")),
        structured=True,
    )


def _from_detail(detail: Any) -> Words:
    """FastAPI: a string, or a list of `{"loc": ["body", "field"], "msg": …}`. Its "Not Found" is a missing
    path.
    """
    if isinstance(detail, str):
        return Words("" if detail in ("Not Found", "Method Not Allowed") else detail[:MESSAGE_LIMIT])
    if isinstance(detail, dict):
        return words_of({"error": detail.get("error", detail)})
    if not isinstance(detail, list):
        return Words()
    problems = []
    param = None
    for item in detail:
        if isinstance(item, dict) and isinstance(item.get("msg"), str):
            place = [str(step) for step in item.get("loc") or () if step != "body"]
            param = param or ".".join(place)[:200] or None
            problems.append(": ".join(filter(None, (".".join(place), item["msg"]))))
    return Words("; ".join(problems)[:MESSAGE_LIMIT], param=param)


def _status(code: Any) -> int | None:
    if isinstance(code, str) and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None
