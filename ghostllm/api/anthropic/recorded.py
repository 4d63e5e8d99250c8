"""Messages of Anthropic's dialect that are kept to be given again: a stream as the whole message that it
tells, and a whole message as a stream.
"""

from __future__ import annotations

from typing import Any

from ghostllm import jsonx
from ghostllm.api.anthropic.message_body import known_usage
from ghostllm.api.recorded import IDENTITY, Unclear, values
from ghostllm.message import Usage

SOUND = ("end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "tool_use")
"""Reasons of a message that is all the model had to say, or was to say. A refusal and a pause are not."""

_TEXTS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
"""Deltas that make a member longer."""

_INPUTS = (
    "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens",
)  # fmt: skip


def assembled(stream: bytes) -> dict[str, Any]:
    """The whole message. Raises Unclear for one without its end, or with parts that are not known here."""
    message: dict[str, Any] | None = None
    blocks: list[_Block] = []
    for value in values(stream)[0]:
        kind = value["type"]
        if kind == "content_block_delta":
            blocks[value["index"]].add(value["delta"])
        elif kind == "content_block_start" and value["index"] == len(blocks):
            blocks.append(_Block(value["content_block"]))
        elif kind == "message_start":
            message = dict(value["message"])
        elif kind == "message_delta" and message is not None:
            message.update(value["delta"])
            counts = value.get("usage") or {}
            known = {name: count for name, count in counts.items() if count is not None}
            message["usage"] = {**(message.get("usage") or {}), **known}
        elif kind == "message_stop" and message is not None:
            return {**message, "content": [block.whole() for block in blocks]}
        elif kind not in ("ping", "content_block_stop"):
            raise Unclear(f"an event {kind}")
    raise Unclear("no end")


def is_sound(whole: dict[str, Any]) -> bool:
    return isinstance(whole.get("content"), list) and whole.get("stop_reason") in SOUND


def streamed(whole: dict[str, Any]) -> bytes:
    """Few events: of each block one delta, where it has any."""
    usage = whole.get("usage") or {}
    opening = {**whole, "content": [], "stop_reason": None, "stop_sequence": None}
    opening["usage"] = {**usage, "output_tokens": 0}
    out = [_event("message_start", message=opening)]
    for index, block in enumerate(whole["content"]):
        begun, deltas = _taken_apart(block)
        out.append(_event("content_block_start", index=index, content_block=begun))
        out += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(_event("content_block_stop", index=index))
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": whole.get("stop_sequence")}
    out.append(_event("message_delta", delta=end, usage=usage))
    out.append(_event("message_stop"))
    return b"".join(out)


def mark(whole: dict[str, Any], usage: Usage) -> None:
    """Puts a mark where its id is, and says in its figures that the prompt was not read anew."""
    whole["id"] = IDENTITY
    member = dict(whole.get("usage") or known_usage(usage))
    member["cache_read_input_tokens"] = sum(member.get(name) or 0 for name in _INPUTS)
    member["input_tokens"] = member["cache_creation_input_tokens"] = 0
    member.pop("cache_creation", None)
    whole["usage"] = member


class _Block:
    """A block in the making."""

    __slots__ = ("_begun", "_citations", "_texts")

    def __init__(self, begun: dict[str, Any]) -> None:
        self._begun = begun
        self._texts: dict[str, list[str]] = {}
        self._citations: list[Any] = []

    def add(self, delta: dict[str, Any]) -> None:
        kind = delta["type"]
        if kind in _TEXTS:
            member = _TEXTS[kind]
            self._texts.setdefault(member, []).append(delta[member])
        elif kind == "citations_delta":
            self._citations.append(delta["citation"])
        else:
            raise Unclear(f"a delta {kind}")

    def whole(self) -> dict[str, Any]:
        """Raises Unclear, ValueError for an input that is no object."""
        block = dict(self._begun)
        for member, pieces in self._texts.items():
            text = "".join(pieces)
            if member != "partial_json":
                block[member] = (block.get(member) or "") + text
            elif text:
                block["input"] = jsonx.loads(text)
                if not isinstance(block["input"], dict):
                    raise Unclear("an input that is no object")
        if self._citations:
            block["citations"] = [*(block.get("citations") or ()), *self._citations]
        return block


def _taken_apart(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and its deltas. Those that are not known here begin as a whole, as the results of
    Anthropic's own tools do.
    """
    kind = block.get("type")
    if kind == "text":
        deltas = [{"type": "text_delta", "text": block["text"]}] if block["text"] else []
        cited = block.get("citations") or ()
        deltas += [{"type": "citations_delta", "citation": citation} for citation in cited]
        return {**block, "text": "", **({"citations": []} if "citations" in block else {})}, deltas
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}] if block["thinking"] else []
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return {**block, "thinking": "", "signature": ""}, deltas
    if isinstance(block.get("input"), dict):
        text = jsonx.dumps(block["input"]).decode()
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": text}]
    return block, []


def _event(name: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), jsonx.dumps({"type": name, **members}))
