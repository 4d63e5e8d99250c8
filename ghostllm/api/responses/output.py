"""What a response's output is made of, as data for `answer_writer`, and logprobs in this dialect's shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ghostllm.api.canonical import TokenLogprob


class Kind(NamedTuple):
    """Something that is said in deltas: a part of an item, or a call's input.

    stem: of the names of its events. member: where its text is. part: stem of the events that begin and end
    the part; place: the index of it in those; holder: the item's member with its parts.
    """

    type: str
    stem: str
    member: str = "text"
    part: str = "response.content_part"
    place: str = "content_index"
    holder: str = "content"


KINDS: Mapping[str, Kind] = {
    kind.type: kind
    for kind in (
        Kind("output_text", "response.output_text"),
        Kind("refusal", "response.refusal", "refusal"),
        Kind("reasoning_text", "response.reasoning_text"),
        Kind(
            "summary_text",
            "response.reasoning_summary_text",
            part="response.reasoning_summary_part",
            place="summary_index",
            holder="summary",
        ),
        Kind("function_call", "response.function_call_arguments", "arguments", "", "", ""),
        Kind("custom_tool_call", "response.custom_tool_call_input", "input", "", "", ""),
    )
}
CALLS = ("function_call", "custom_tool_call")


def logprob_objects(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    return [{**_token(token), "top_logprobs": [_token(other) for other in token.top]} for token in tokens]


def _token(token: TokenLogprob) -> dict[str, Any]:
    """SDKs declare `bytes` as always present. Where the backend gave none, they are the token's own."""
    octets = token.bytes if token.bytes is not None else token.token.encode("utf-8", "replace")
    return {"token": token.token, "bytes": list(octets), "logprob": token.logprob}
