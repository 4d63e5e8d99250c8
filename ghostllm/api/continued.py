"""A call whose conversation ends with the beginning of its answer: what to ask of a backend that is to go on
with it. Each door's call is changed in its own dialect, so that it takes the way of any other call of that
door, and what the gateway does not know of it stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ghostllm import jsonx
from ghostllm.errors import CannotContinue
from ghostllm.message import Call, Parameters

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict")
"""Members that bound the tokens of an answer, in all dialects."""

CHAT_ONLY = ("prompt", "system", "raw", "suffix", "template", "context", "images")
"""Members of Ollama's generate that its chat does not have."""

Fields = dict[str, Any]


class Beginning(NamedTuple):
    """Of an answer. text: without white space at its end. thought: "" where it is not to be passed on.
    tokens: how many were made, thoughts included.
    """

    text: str
    thought: str
    tokens: int


def continued(call: Call, beginning: Beginning) -> Call:
    """The call that asks for the rest. Raises CannotContinue."""
    if call.form == "generate" and call.operation == "chat":
        fields, form = _generated(call.fields, beginning), "chat"
    else:
        fields, form = _said(call, beginning), call.form
    fields = lowered(fields, beginning.tokens)
    return replace(
        call, fields=fields, body=_dumped(fields), form=form, parameters=_parameters(call, beginning.tokens)
    )


def lowered(members: Mapping[str, Any], tokens: int) -> Fields:
    """With limits lowered by `tokens`; one token at least remains."""
    changed = dict(members)
    for name in LIMITS:
        limit = members.get(name)
        if type(limit) is int and limit > 0:
            changed[name] = max(1, limit - tokens)
    if isinstance(options := members.get("options"), dict):
        changed["options"] = lowered(options, tokens)
    return changed


def _parameters(call: Call, tokens: int) -> Parameters | None:
    known = call.parameters
    return known and Parameters(lowered(known.defaults, tokens), lowered(known.forced, tokens))


def _said(call: Call, beginning: Beginning) -> Fields:
    fields = call.fields
    if call.operation == "completions":
        return {**fields, "prompt": _prompt(fields) + beginning.text}
    if call.door == "responses":
        return {**fields, "input": [*_items(fields), *_output(beginning)]}
    messages = list(fields["messages"])
    if call.door == "openai":
        if messages[-1].get("role") == "assistant":  # not every server goes on with that turn
            raise CannotContinue("the conversation ends with an assistant's message")
        return {**fields, "messages": [*messages, _message(beginning, "reasoning_content")]}
    if call.door == "anthropic":
        return {**fields, "messages": _turns(messages, beginning, "")}
    return {**fields, "messages": _turns(messages, beginning, "thinking")}


def _message(beginning: Beginning, member: str) -> Fields:
    """member: where thoughts go; "" for a dialect that takes none but its own."""
    message = {"role": "assistant", "content": beginning.text}
    if beginning.thought and member:
        message[member] = beginning.thought
    return message


def _turns(messages: list[Fields], beginning: Beginning, member: str) -> list[Fields]:
    """In dialects where the client itself may have begun the answer, the rest is in that message."""
    last = messages[-1]
    if last.get("role") != "assistant":
        return [*messages, _message(beginning, member)]
    content: Any = last.get("content")
    if isinstance(content, str):
        return [*messages[:-1], {**last, "content": content + beginning.text}]
    block = content[-1] if isinstance(content, list) and content else None
    if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
        joined = {**block, "text": block["text"] + beginning.text}
        return [*messages[:-1], {**last, "content": [*content[:-1], joined]}]
    raise CannotContinue("the conversation ends with an assistant's message that is no text")


def _prompt(fields: Fields) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise CannotContinue("the prompt is not one text")
    return prompt


def _items(fields: Fields) -> list[Any]:
    said = fields.get("input")
    items = [{"role": "user", "content": said}] if isinstance(said, str) else list(said or ())
    last = items[-1] if items else {}
    if last.get("role") == "assistant" or last.get("type") in ("reasoning", "item_reference"):
        raise CannotContinue("the conversation ends with an assistant's message")
    return items


def _output(beginning: Beginning) -> list[Any]:
    items: list[Any] = []
    if beginning.thought:
        thought = {"type": "reasoning_text", "text": beginning.thought}
        items.append({"type": "reasoning", "summary": [], "content": [thought]})
    text = {"type": "output_text", "text": beginning.text, "annotations": []}
    items.append({"type": "message", "role": "assistant", "content": [text]})
    return items


def _generated(fields: Fields, beginning: Beginning) -> Fields:
    """One turn of a chat, as what it is: generate has no place for the beginning of an answer."""
    for name in ("template", "context", "images", "suffix"):
        if fields.get(name):
            raise CannotContinue(f"an answer to a request with {name} cannot be taken up")
    kept = {name: value for name, value in fields.items() if name not in CHAT_ONLY}
    messages: list[Fields] = [{"role": "user", "content": fields["prompt"]}]
    if fields.get("system"):
        messages.insert(0, {"role": "system", "content": fields["system"]})
    return {**kept, "messages": [*messages, _message(beginning, "thinking")]}


def _dumped(fields: Fields) -> bytes:
    try:
        return jsonx.dumps(fields)
    except (TypeError, ValueError, RecursionError):  # parsers take what writers do not: depth, for one
        raise CannotContinue("the request cannot be written anew") from None
