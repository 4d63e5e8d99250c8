"""The four doors as clients see them: how each asks for the same thing, and what its answers say."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.raw import Answer

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
RESULT = "it-is-forty-two"


@dataclass
class Ask:
    """What a client wants, in no dialect."""

    stream: bool = False
    tools: bool = False
    result: bool = False
    schema: bool = False
    image: bool = False
    stop: bool = False
    limit: int = 50


@dataclass
class Said:
    """What it got. finish: in the dialect's own word. tokens: of the answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str = ""
    tokens: int | None = None
    error: str = ""


def request(door: str, model: str, ask: Ask) -> tuple[str, dict[str, Any]]:
    """Path and body."""
    return _REQUESTS[door](model, ask)


def read(door: str, ask: Ask, answer: Answer) -> Said:
    if answer.status != 200:
        return Said(error=_words(answer.json()))
    if door == "ollama":
        lines = [json.loads(line) for line in answer.body.decode().splitlines()]
        return _ollama(lines)
    if not ask.stream:
        return {"openai": _chat, "anthropic": _message, "responses": _response}[door](answer.json())
    assert answer.complete
    return {"openai": _chat_stream, "anthropic": _message_stream, "responses": _response_stream}[door](answer)


def _words(value: dict[str, Any]) -> str:
    error = value["error"]
    return error if isinstance(error, str) else str(error["message"])


# --- requests


def _openai(model: str, ask: Ask) -> tuple[str, dict[str, Any]]:
    content: Any = "Hi"
    if ask.image:
        url = f"data:image/png;base64,{PIXEL}"
        content = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": url}}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if ask.result:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": RESULT})
    body = {"model": model, "messages": messages, "stream": ask.stream, "max_tokens": ask.limit}
    if ask.stream:
        body["stream_options"] = {"include_usage": True}
    if ask.tools or ask.result:
        body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]
    if ask.schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    if ask.stop:
        body["stop"] = ["END"]
    return "/v1/chat/completions", body


def _anthropic(model: str, ask: Ask) -> tuple[str, dict[str, Any]]:
    content: Any = "Hi"
    if ask.image:
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        content = [{"type": "text", "text": "Hi"}, {"type": "image", "source": source}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if ask.result:
        call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": RESULT}
        messages.append({"role": "assistant", "content": [call]})
        messages.append({"role": "user", "content": [result]})
    body = {"model": model, "messages": messages, "stream": ask.stream, "max_tokens": ask.limit}
    if ask.tools or ask.result:
        body["tools"] = [{"name": "f", "input_schema": PARAMETERS}]
    if ask.schema:
        body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if ask.stop:
        body["stop_sequences"] = ["END"]
    return "/v1/messages", body


def _responses(model: str, ask: Ask) -> tuple[str, dict[str, Any]]:
    content: list[dict[str, Any]] = [{"type": "input_text", "text": "Hi"}]
    if ask.image:
        content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"})
    items: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if ask.result:
        items.append({"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'})
        items.append({"type": "function_call_output", "call_id": "call_1", "output": RESULT})
    body = {"model": model, "input": items, "stream": ask.stream, "max_output_tokens": ask.limit}
    if ask.tools or ask.result:
        body["tools"] = [{"type": "function", "name": "f", "parameters": PARAMETERS}]
    if ask.schema:
        body["text"] = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}
    return "/v1/responses", body


def _own(model: str, ask: Ask) -> tuple[str, dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
    if ask.image:
        messages[0]["images"] = [PIXEL]
    if ask.result:
        call = {"function": {"name": "f", "arguments": {"x": 1}}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_name": "f", "content": RESULT})
    body = {"model": model, "messages": messages, "stream": ask.stream, "options": {"num_predict": ask.limit}}
    if ask.tools or ask.result:
        body["tools"] = [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]
    if ask.schema:
        body["format"] = SCHEMA
    if ask.stop:
        body["options"]["stop"] = ["END"]
    return "/api/chat", body


_REQUESTS = {"openai": _openai, "anthropic": _anthropic, "responses": _responses, "ollama": _own}
DOORS = tuple(_REQUESTS)


# --- answers


def _chat(value: dict[str, Any]) -> Said:
    (choice,) = value["choices"]
    message = choice["message"]
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"]))
             for call in message.get("tool_calls") or ()]  # fmt: skip
    return Said(
        message["content"] or "", message.get("reasoning_content") or "", calls, choice["finish_reason"],
        value["usage"]["completion_tokens"],
    )  # fmt: skip


def _chat_stream(answer: Answer) -> Said:
    said, calls = Said(), {}
    if "error" in answer.chunks[-1]:
        return Said(error=_words(answer.chunks[-1]))
    assert answer.events[-1] == "[DONE]"
    for chunk in answer.chunks:
        if chunk.get("usage"):
            said.tokens = chunk["usage"]["completion_tokens"]
        for choice in chunk["choices"]:
            delta = choice["delta"]
            said.text += delta.get("content") or ""
            said.reasoning += delta.get("reasoning_content") or ""
            said.finish = choice.get("finish_reason") or said.finish  # transformers leaves nulls out
            for call in delta.get("tool_calls") or ():
                known = calls.setdefault(call["index"], ["", ""])
                known[0] += call["function"].get("name") or ""
                known[1] += call["function"].get("arguments") or ""
    said.calls = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return said


def _message(value: dict[str, Any]) -> Said:
    blocks = value["content"]
    return Said(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
        value["stop_reason"], value["usage"]["output_tokens"],
    )  # fmt: skip


def _message_stream(answer: Answer) -> Said:
    """Blocks are one after the other, each begun and ended once."""
    if answer.chunks[-1]["type"] == "error":
        return Said(error=_words(answer.chunks[-1]))
    first, *chunks, last = answer.chunks
    assert (first["type"], last["type"]) == ("message_start", "message_stop")
    blocks: list[dict[str, Any]] = []
    value: dict[str, Any] = {}
    inside = False
    for chunk in chunks:
        kind = chunk["type"]
        if kind == "content_block_start":
            assert not inside and chunk["index"] == len(blocks)
            inside = True
            blocks.append({**chunk["content_block"], "json": ""})
        elif kind == "content_block_delta":
            assert inside and chunk["index"] == len(blocks) - 1
            delta = chunk["delta"]
            for member, source in (("text", "text"), ("thinking", "thinking"), ("json", "partial_json")):
                if source in delta:
                    blocks[-1][member] = blocks[-1].get(member, "") + delta[source]
        elif kind == "content_block_stop":
            assert inside and chunk["index"] == len(blocks) - 1
            inside = False
        elif kind == "message_delta":
            value = {"stop_reason": chunk["delta"]["stop_reason"], "usage": chunk["usage"]}
    assert not inside
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["json"] or "{}")
    return _message({**value, "content": blocks})


def _response(value: dict[str, Any]) -> Said:
    said = Said(finish=value["status"], tokens=(value["usage"] or {}).get("output_tokens"))
    for item in value["output"]:
        if item["type"] == "message":
            said.text += "".join(part["text"] for part in item["content"])
        elif item["type"] == "reasoning":
            said.reasoning += "".join(part["text"] for part in (item.get("content") or item["summary"]))
        else:
            said.calls.append((item["name"], json.loads(item["arguments"])))
    return said


def _response_stream(answer: Answer) -> Said:
    assert [chunk["sequence_number"] for chunk in answer.chunks] == list(range(len(answer.chunks)))
    last = answer.chunks[-1]
    if last["type"] == "response.failed":
        return Said(error=last["response"]["error"]["message"])
    added = [chunk for chunk in answer.chunks if chunk["type"] == "response.output_item.added"]
    done = [chunk for chunk in answer.chunks if chunk["type"] == "response.output_item.done"]
    assert [chunk["output_index"] for chunk in added] == [chunk["output_index"] for chunk in done]
    said = _response(last["response"])
    deltas = [chunk["delta"] for chunk in answer.chunks if chunk["type"] == "response.output_text.delta"]
    assert "".join(deltas) == said.text
    return said


def _ollama(lines: list[dict[str, Any]]) -> Said:
    if "error" in lines[-1]:
        return Said(error=_words(lines[-1]))
    said = Said(finish=lines[-1]["done_reason"], tokens=lines[-1].get("eval_count"))
    for line in lines:
        message = line["message"]
        said.text += message["content"]
        said.reasoning += message.get("thinking") or ""
        for call in message.get("tool_calls") or ():
            said.calls.append((call["function"]["name"], call["function"]["arguments"]))
    return said
