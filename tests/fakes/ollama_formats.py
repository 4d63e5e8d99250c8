"""Byte-true answers of Ollama's native API (dialects.md §4)."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.behaviour import Behaviour
from tests.fakes.formats import Stream, compact, inputs, vector

CREATED_AT = "2026-11-22T10:00:00.123456789Z"
DIGEST = "2af3b81862c6be03c769683af18efdadb2c33f60ff32ab6f83e42c043d6c7816"


def _messages(operation: str, b: Behaviour) -> list[dict[str, Any]]:
    """The members that differ from line to line; tool calls come whole, in one line each."""
    if operation == "generate":
        thought = [{"response": "", "thinking": b.reasoning}] if b.reasoning else []
        return thought + [{"response": word} for word in b.words]
    found: list[dict[str, Any]] = []
    if b.reasoning:
        found.append({"role": "assistant", "content": "", "thinking": b.reasoning})
    if b.tool_calls:
        for index, call in enumerate(b.tool_calls):
            function = {"index": index, "name": call["name"], "arguments": json.loads(call["arguments"])}
            found.append({"role": "assistant", "content": "", "tool_calls": [{"function": function}]})
    else:
        found += [{"role": "assistant", "content": word} for word in b.words]
    return [{"message": message} for message in found]


def _done(model: str, operation: str, b: Behaviour) -> dict[str, Any]:
    last: dict[str, Any] = {"model": model, "created_at": CREATED_AT}
    if operation == "generate":
        last["response"] = ""
    else:
        last["message"] = {"role": "assistant", "content": ""}
    last |= {"done": True, "done_reason": b.finish or "stop", "total_duration": 5_043_500_667,
             "load_duration": 1_000_667}  # fmt: skip
    if b.usage != "never":
        last |= {"prompt_eval_count": b.prompt_tokens, "prompt_eval_duration": 325_953_000,
                 "eval_count": len(_messages(operation, b)), "eval_duration": 4_709_213_000}  # fmt: skip
    if operation == "generate":
        last["context"] = [1, 2, 3]
    return last


def stream(operation: str, request: dict[str, Any], b: Behaviour) -> Stream:
    model = str(request.get("model", ""))
    lines = [
        compact({"model": model, "created_at": CREATED_AT, **part, "done": False, **b.extra_members}) + b"\n"
        for part in _messages(operation, b)
    ]
    closing = [compact(_done(model, operation, b)) + b"\n"] if b.done else []
    return Stream([], lines, closing, "application/x-ndjson")


def whole(operation: str, request: dict[str, Any], b: Behaviour) -> bytes:
    model = str(request.get("model", ""))
    if operation == "embed":
        count = inputs(request.get("input"))
        rows = [vector(index, request.get("dimensions") or b.dimensions) for index in range(count)]
        return compact({"model": model, "embeddings": rows, "total_duration": 14_143_917,
                        "load_duration": 1_019_500, "prompt_eval_count": 5})  # fmt: skip
    answer = _done(model, operation, b)
    if operation == "generate":
        answer["response"] = b.text
        if b.reasoning:
            answer["thinking"] = b.reasoning
    else:
        message = answer["message"]
        message["content"] = "" if b.tool_calls else b.text
        if b.reasoning:
            message["thinking"] = b.reasoning
        if b.tool_calls:
            message["tool_calls"] = [
                part["message"]["tool_calls"][0]
                for part in _messages(operation, b)
                if "tool_calls" in part["message"]
            ]
    return compact(answer)


def error_body(message: str) -> bytes:
    return compact({"error": message})


def tags(names: list[str]) -> bytes:
    details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
               "parameter_size": "134.52M", "quantization_level": "F16"}  # fmt: skip
    return compact(
        {
            "models": [
                {"name": name, "model": name, "modified_at": CREATED_AT, "size": 270_898_672,
                 "digest": DIGEST, "details": details, "capabilities": ["completion", "tools", "vision"]}
                for name in names
            ]
        }
    )  # fmt: skip


def show() -> bytes:
    return compact(
        {
            "template": "{{ .Prompt }}", "parameters": "", "modified_at": CREATED_AT,
            "details": {"family": "llama", "format": "gguf"},
            "model_info": {"general.architecture": "llama", "llama.context_length": 2048},
            "capabilities": ["completion", "tools", "vision"],
        }
    )  # fmt: skip
