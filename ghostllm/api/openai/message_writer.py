"""Neutral messages to OpenAI's, as the server at hand can take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ghostllm.api.canonical import (
    Audio,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from ghostllm.api.openai.traits import Traits
from ghostllm.errors import UnsupportedValue

_Shown = Text | Image | Audio | File


def write_messages(messages: Sequence[Message], traits: Traits) -> list[dict[str, Any]]:
    """Raises UnsupportedValue with the path of the part that the server cannot take."""
    _refuse(messages, traits)
    if not traits.result_images:
        messages = _images_after_results(messages)
    if not traits.system_anywhere:
        messages = _system_in_front(messages)
    return [member for message in messages for member in _write_message(message, traits)]


def write_call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


# --- what the server cannot take


def _refuse(messages: Sequence[Message], traits: Traits) -> None:
    for index, message in enumerate(messages):
        calls = 0
        for place, part in enumerate(message.parts):
            if isinstance(part, File) and (part.url or not traits.files):
                what = "files by URL" if traits.files else "files"
                raise UnsupportedValue(
                    f"{traits.label} does not take {what}: send their text",
                    param=f"messages[{index}].content[{place}].type",
                )
            if isinstance(part, ToolCall):
                if part.custom and not traits.custom_tools:
                    raise UnsupportedValue(
                        f"{traits.label} has function tools only",
                        param=f"messages[{index}].tool_calls[{calls}].type",
                    )
                calls += 1


def _images_after_results(messages: Sequence[Message]) -> list[Message]:
    """Images out of tool messages into the user's turn after them: one that is there, or a new one. Tool
    messages of one turn stay together.
    """
    moved: list[Message] = []
    waiting: list[Part] = []
    for message in messages:
        if message.role == "tool":
            moved.append(replace(message, parts=tuple(_without_images(message, waiting))))
            continue
        if waiting:
            if message.role == "user":
                message = replace(message, parts=(*waiting, *message.parts))
            else:
                moved.append(Message("user", tuple(waiting)))
            waiting = []
        moved.append(message)
    if waiting:
        moved.append(Message("user", tuple(waiting)))
    return moved


def _without_images(message: Message, waiting: list[Part]) -> Iterable[Part]:
    for part in message.parts:
        if isinstance(part, ToolResult) and any(isinstance(inner, Image) for inner in part.parts):
            images = (inner for inner in part.parts if isinstance(inner, Image))
            waiting += (Text(f"What the tool call {part.id} has shown:"), *images)
            texts = tuple(inner for inner in part.parts if isinstance(inner, Text))
            part = replace(part, parts=texts or (Text("See the image in the next message."),))
        yield part


def _system_in_front(messages: Sequence[Message]) -> list[Message]:
    said = [message for message in messages if message.role in ("system", "developer")]
    if len(said) == 0 or (len(said) == 1 and messages[0] is said[0]):
        return list(messages)
    texts = [part.text for message in said for part in message.parts if isinstance(part, Text)]
    others = [part for message in said for part in message.parts if not isinstance(part, Text)]
    first = Message("system", (Text("\n\n".join(texts)), *others))
    return [first, *(message for message in messages if message.role not in ("system", "developer"))]


# --- messages


def _write_message(message: Message, traits: Traits) -> list[dict[str, Any]]:
    """Tool results become a message each, since OpenAI's tool messages answer one call."""
    if message.role == "tool":
        return [_write_result(part, traits) for part in message.parts if isinstance(part, ToolResult)]
    role = "system" if message.role == "developer" and not traits.developer else message.role
    member: dict[str, Any] = {"role": role}
    if message.name:
        member["name"] = message.name
    content = [part for part in message.parts if isinstance(part, _Shown)]
    # a signature or sealed thinking is another provider's, who alone can read it
    thought = "".join(part.text for part in message.parts if isinstance(part, Reasoning))
    refusals = "".join(part.text for part in message.parts if isinstance(part, Refusal))
    calls = [write_call(part) for part in message.parts if isinstance(part, ToolCall)]
    if content or role != "assistant":
        member["content"] = _write_content(content, traits)
    else:  # local servers want some content of a turn that calls nothing
        member["content"] = "" if traits.flat_text and not calls else None
    if thought and traits.reasoning:
        member[traits.reasoning] = thought
    if refusals:
        member["refusal"] = refusals
    if calls:
        member["tool_calls"] = calls
    return [member]


def _write_content(parts: Sequence[_Shown], traits: Traits) -> Any:
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    if traits.flat_text and all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text))
    return [_write_part(part) for part in parts]


def _write_part(part: _Shown) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        image = {"url": part.url or f"data:{part.media_type};base64,{part.data}"}
        return {"type": "image_url", "image_url": {**image, "detail": part.detail} if part.detail else image}
    if isinstance(part, Audio):
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
    file = {"file_data": _file_data(part), "file_id": part.file_id, "filename": part.filename}
    return {"type": "file", "file": {name: value for name, value in file.items() if value}}


def _file_data(part: File) -> str:
    """A data URL, where the media type says which: OpenAI takes no other."""
    if not part.data or not part.media_type or part.data.startswith("data:"):
        return part.data
    return f"data:{part.media_type};base64,{part.data}"


def _write_result(result: ToolResult, traits: Traits) -> dict[str, Any]:
    """OpenAI has no mark for a failed tool, so the words say it."""
    parts: list[_Shown] = list(result.parts)
    if result.error:
        first = parts[0] if parts else None
        if isinstance(first, Text):
            parts[0] = Text(f"Error: {first.text}")
        else:
            parts.insert(0, Text("Error: the tool failed"))
    content = _write_content(parts, traits)
    member = {"role": "tool", "tool_call_id": result.id, "content": content}
    return {**member, "name": result.name} if result.name else member
