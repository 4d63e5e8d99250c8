"""Answers to embeddings requests, as OpenAI-compatible servers give them: numbers, or float32 in base64."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable
from typing import Any

from ghostllm.api.openai.events import is_error, parse_whole
from ghostllm.api.openai.failures import stream_error
from ghostllm.api.openai.usage import take_usage
from ghostllm.errors import UpstreamAnswered, UpstreamProtocolError
from ghostllm.message import Usage


def read_embeddings(
    body: bytes,
    expected: int,
    dimensions: int | None,
    usage: Usage,
    source: str,
    blot: Callable[[str], str] = str,
) -> list[list[float]]:
    """One vector for each of `expected` inputs, in their order; fills `usage`. source: how errors name the
    server. blot: takes secrets out of its messages.

    Raises UpstreamProtocolError for anything else, UpstreamAnswered for an error, and when the model's
    vectors are of another size than the client asked for.
    """
    answer = parse_whole(body, source)
    if isinstance(answer, dict) and is_error(answer) and answer.get("data") is None:
        raise stream_error(answer, source, blot)
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list) or len(items) != expected:
        raise UpstreamProtocolError(f"{source} sent something else than {expected} embeddings")
    vectors: dict[int, list[float]] = {}
    for place, item in enumerate(items):
        vector = _vector(item.get("embedding")) if isinstance(item, dict) else None
        if vector is None:
            raise UpstreamProtocolError(f"{source} sent an embedding that is not a list of numbers")
        if dimensions is not None and len(vector) != dimensions:
            raise _misfit(len(vector))
        index = item.get("index")
        vectors[index if type(index) is int else place] = vector
    if set(vectors) != set(range(expected)):
        raise UpstreamProtocolError(f"{source} numbered its embeddings wrongly")
    if isinstance(member := answer.get("usage"), dict):
        take_usage(usage, member)
    return [vectors[place] for place in range(expected)]


def _vector(value: Any) -> list[float] | None:
    if isinstance(value, str):
        try:
            packed = base64.b64decode(value, validate=True)
            value = list(struct.unpack(f"<{len(packed) // 4}f", packed))
        except (binascii.Error, ValueError, struct.error):
            return None
    if not isinstance(value, list) or not value or not all(map(_is_number, value)):
        return None
    return value


def _is_number(value: Any) -> bool:
    return math.isfinite(value) if isinstance(value, float) else type(value) is int and abs(value) < 2**64


def _misfit(size: int) -> UpstreamAnswered:
    return UpstreamAnswered(
        f"the model's embeddings have {size} dimensions",
        upstream_status=200,
        status=400,
        code="unsupported_value",
        retryable=False,
        param="dimensions",
    )
