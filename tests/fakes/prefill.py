"""Requests that end with the beginning of their answer: who goes on with it, and how (dialects.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.fakes.behaviour import Behaviour

GO_ON = ("vllm", "llamacpp", "ollama", "anthropic")
"""Kinds that take an assistant's last message as unfinished; the others begin a new answer after it."""

REFUSALS = {
    "anthropic": "This model does not support assistant message prefill. The conversation must end with a"
                 " user message.",
    "llamacpp": "Assistant response prefill is incompatible with enable_thinking.",
}  # fmt: skip
BLANK = "messages: final assistant content cannot end with trailing whitespace"
BOTH = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."


def continued(kind: str, operation: str, request: dict[str, Any], b: Behaviour) -> Behaviour:
    """What the behaviour comes to for a request that may have such a beginning."""
    refusal = _refused(kind, request)
    begun = beginning(kind, operation, request, b)
    if refusal is None and begun and b.prefill == "refuse":
        refusal = REFUSALS.get(kind, "the last message must not be the assistant's")
    if refusal is not None:
        return Behaviour(status=400, message=refusal)
    if not begun or b.prefill == "restart" or b.tool_calls or not b.text.startswith(begun):
        return b
    words = rest(b.words, len(begun))
    taken = max(1, len(b.words) - len(words))
    if not words and kind == "ollama":
        words = [""]  # it counts the token that ends the answer, and sends a line for it
    if b.prefill == "echo":
        words = [begun, *words]
    return replace(b, tokens=words, reasoning="", prompt_tokens=b.prompt_tokens + taken)


def _refused(kind: str, request: dict[str, Any]) -> str | None:
    text = _last(request)
    if kind == "anthropic" and text is not None and text != text.rstrip():
        return BLANK
    both = request.get("continue_final_message") and request.get("add_generation_prompt", True)
    return BOTH if kind == "vllm" and both else None


def beginning(kind: str, operation: str, request: dict[str, Any], b: Behaviour) -> str:
    """Of the answer, as the request has it; "" where it has none, or the server would not go on with it."""
    if operation == "completions":
        prompt = request.get("prompt")
        return _overlap(prompt, b.text, len(b.words[0])) if isinstance(prompt, str) and b.words else ""
    if operation not in ("chat", "messages"):
        return ""
    goes_on = kind in GO_ON if b.prefill is None else True
    if kind == "vllm" and not request.get("continue_final_message"):
        goes_on = False
    return (_last(request) or "") if goes_on else ""


def _last(request: dict[str, Any]) -> str | None:
    """The text of the last message, if that is the assistant's."""
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls"):
        return None
    content = last.get("content")
    if isinstance(content, list):
        return "".join(str(block.get("text", "")) for block in content)
    return content if isinstance(content, str) else None


def _overlap(prompt: str, text: str, least: int) -> str:
    """The longest beginning of the text, of `least` characters or more, with which the prompt ends."""
    for size in range(len(text), least - 1, -1):
        if prompt.endswith(text[:size]):
            return text[:size]
    return ""


def rest(words: list[str], told: int) -> list[str]:
    """The tokens after so many characters; one that was begun is gone on with."""
    left: list[str] = []
    for word in words:
        if told < len(word):
            left.append(word[told:])
        told = max(0, told - len(word))
    return left
