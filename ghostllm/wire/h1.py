"""HTTP/1.1 heads under one name: requests, responses, and the fields that both have."""

from __future__ import annotations

from ghostllm.wire.fields import field_block, strip_hop_by_hop
from ghostllm.wire.h1_request import (
    CONTINUE,
    HeadLimits,
    early_reject,
    expects_continue,
    find_head_end,
    keep_alive,
    read_request,
    request_head,
)
from ghostllm.wire.h1_response import ResponseHead, date_value, read_response, response_head

__all__ = [
    "CONTINUE",
    "HeadLimits",
    "ResponseHead",
    "date_value",
    "early_reject",
    "expects_continue",
    "field_block",
    "find_head_end",
    "keep_alive",
    "read_request",
    "read_response",
    "request_head",
    "response_head",
    "strip_hop_by_hop",
]
