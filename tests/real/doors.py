"""One question through each front door: the same words from the same server, and the same counts."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer

LIMIT = 16
QUESTION = "What is 2+2?"
TURN = [{"role": "user", "content": QUESTION}]


def _chat(model: str) -> tuple[str, dict[str, Any]]:
    members = {"model": model, "messages": TURN, "max_completion_tokens": LIMIT, "temperature": 0, "seed": 7}
    return "/v1/chat/completions", members


def _messages(model: str) -> tuple[str, dict[str, Any]]:
    return "/v1/messages", {"model": model, "messages": TURN, "max_tokens": LIMIT, "temperature": 0}


def _responses(model: str) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": model, "input": QUESTION, "max_output_tokens": LIMIT, "temperature": 0}


def _ollama(model: str) -> tuple[str, dict[str, Any]]:
    options = {"num_predict": LIMIT, "temperature": 0, "seed": 7}
    return "/api/chat", {"model": model, "messages": TURN, "options": options}


DOORS = {"openai": _chat, "anthropic": _messages, "responses": _responses, "ollama": _ollama}


def whole(gateway: Gateway, door: str, model: str) -> tuple[str, int]:
    """The text of a whole answer, and how many tokens it has by its own account."""
    path, asked = DOORS[door](model)
    answer = gateway.ask("POST", path, {**asked, "stream": False})
    assert answer.status == 200, answer.body
    value = answer.json()
    if door == "openai":
        return value["choices"][0]["message"]["content"], value["usage"]["completion_tokens"]
    if door == "anthropic":
        return "".join(block["text"] for block in value["content"]), value["usage"]["output_tokens"]
    if door == "responses":
        (item,) = value["output"]
        return "".join(part["text"] for part in item["content"]), value["usage"]["output_tokens"]
    return value["message"]["content"], value["eval_count"]


def streamed(gateway: Gateway, door: str, model: str) -> str:
    """The text of a stream, which must have come to its dialect's own end."""
    path, asked = DOORS[door](model)
    if door == "openai":
        asked["stream_options"] = {"include_usage": True}
    answer = gateway.ask("POST", path, {**asked, "stream": True})
    assert answer.status == 200 and answer.complete, answer.body
    return READERS[door](answer)


def _of_chat(answer: Answer) -> str:
    assert answer.events[-1] == "[DONE]" and answer.chunks[-1]["usage"]["completion_tokens"] > 0
    deltas = [choice["delta"] for chunk in answer.chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


def _of_messages(answer: Answer) -> str:
    assert [chunk["type"] for chunk in (answer.chunks[0], answer.chunks[-1])] == [
        "message_start",
        "message_stop",
    ]
    deltas = [chunk["delta"] for chunk in answer.chunks if chunk["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")


def _of_responses(answer: Answer) -> str:
    assert answer.chunks[-1]["type"] in ("response.completed", "response.incomplete")
    assert [chunk["sequence_number"] for chunk in answer.chunks] == list(range(len(answer.chunks)))
    return "".join(chunk["delta"] for chunk in answer.chunks if chunk["type"] == "response.output_text.delta")


def _of_lines(answer: Answer) -> str:
    lines = [json.loads(line) for line in answer.body.decode().splitlines()]
    assert lines[-1]["done"] and not any(line["done"] for line in lines[:-1])
    return "".join(line["message"]["content"] for line in lines)


READERS = {"openai": _of_chat, "anthropic": _of_messages, "responses": _of_responses, "ollama": _of_lines}
