"""Responses that are kept to be given again. A response echoes its request, and some of what it echoes has no
part in the answer; so what is kept is the output alone, and each response is written for its own request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ghostllm.api.canonical import Answer, Finish, Part, Start, TokenLogprob, UsageEvent
from ghostllm.api.members import Members
from ghostllm.api.openai import events
from ghostllm.api.recorded import Unclear
from ghostllm.api.responses import door
from ghostllm.api.responses.answer_writer import events_of
from ghostllm.api.responses.items import read_items
from ghostllm.api.translation import Mint
from ghostllm.message import Call, Usage

_ENDS = ("response.completed", "response.incomplete")


def assembled(stream: bytes) -> dict[str, Any]:
    """The response with which the stream ends. Raises Unclear if it does not end so."""
    row = events.split(stream[stream.rfind(b"\nevent: ") + 1 :])
    payload = events.data_of(row[-1]) if row else None
    value = events.parse(payload or b"{}", "the stream")
    response = value.get("response")
    if value.get("type") not in _ENDS or not isinstance(response, dict):
        raise Unclear("no end")
    return response


def is_sound(whole: Mapping[str, Any]) -> bool:
    """Complete, or as long as it was to be."""
    details = whole.get("incomplete_details") or {}
    cut = whole.get("status") == "incomplete" and details.get("reason") == "max_output_tokens"
    return isinstance(whole.get("output"), list) and (cut or whole.get("status") == "completed")


def kept(whole: Mapping[str, Any]) -> dict[str, Any]:
    """What of a response belongs to its answer."""
    return {"output": whole["output"], "finish": "stop" if whole["status"] == "completed" else "length"}


def check(kept: Mapping[str, Any]) -> None:
    """Raises what reading it raises, if it cannot be given again."""
    _answer(kept, Usage())


def written(kept: Mapping[str, Any], usage: Usage, call: Call, created: int, mint: Mint) -> bytes:
    """The answer to `call`: a stream, or whole. Its response is left in the call, as ever."""
    answer = _answer(kept, usage)
    writer = door.writer(call, created, mint)
    if not call.stream:
        return writer.whole(answer)
    out = [writer.event(Start())]
    out += [writer.event(event) for event in events_of(answer)]
    out.append(writer.event(UsageEvent(usage)))
    out.append(writer.end())
    return b"".join(out)


def _answer(kept: Mapping[str, Any], usage: Usage) -> Answer:
    items = [Members(item, "output") for item in kept["output"]]
    parts: list[Part] = []
    for message in read_items(items, {}, set()):
        parts.extend(message.parts)
    return Answer(tuple(parts), Finish(kept["finish"]), usage, tuple(_logprobs(kept["output"])))


def _logprobs(output: list[dict[str, Any]]) -> Iterator[TokenLogprob]:
    for item in output:
        content = item.get("content") if item.get("type") == "message" else None
        for part in content or ():
            for token in part.get("logprobs") or ():
                yield _logprob(token)


def _logprob(token: Mapping[str, Any]) -> TokenLogprob:
    top = tuple(_logprob(other) for other in token.get("top_logprobs") or ())
    octets = token.get("bytes")
    return TokenLogprob(token["token"], token["logprob"], None if octets is None else tuple(octets), top)
