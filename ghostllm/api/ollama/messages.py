"""Neutral messages to Ollama's: one text, images as bare base64, tool calls with object arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ghostllm.api.arguments import read_arguments
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
from ghostllm.errors import BytesWanted, UnsupportedValue

IMAGE_TYPES = ("image/jpeg", "image/jpg", "image/png", "image/webp", "")
"""What Ollama's decoders read; "" is a data URL that does not say."""


def write_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Raises UnsupportedValue, RequestError with the path of the part that Ollama cannot take."""
    written: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # of the tools called so far, by call id
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if message.role == "tool":
            written.extend(
                _result(part, names, param) for part in message.parts if isinstance(part, ToolResult)
            )
            continue
        member = _content(message, param)
        if thinking := "".join(part.text for part in message.parts if isinstance(part, Reasoning)):
            member["thinking"] = thinking
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        if calls:
            names.update((call.id, call.name) for call in calls)
            member["tool_calls"] = [_call(call, at, param) for at, call in enumerate(calls)]
        written.append(member)
    return written


def _content(message: Message, param: str) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    shown = [part for part in message.parts if isinstance(part, Text | Image | Audio | File | Refusal)]
    member: dict[str, Any] = {"role": role, "content": _text(shown)}
    if images := _images(shown, param):
        member["images"] = images
    return member


def _text(parts: Iterable[Part]) -> str:
    """Parts on lines of their own, as vLLM joins them: clients send separate documents as separate parts."""
    return "\n".join(part.text for part in parts if isinstance(part, Text | Refusal))


def _images(parts: Sequence[Part], param: str) -> list[str]:
    images = []
    for index, part in enumerate(parts):
        place = f"{param}.content[{index}]"
        if isinstance(part, Audio | File):
            kind = "audio" if isinstance(part, Audio) else "files"
            raise UnsupportedValue(f"Ollama's chat takes text and images, not {kind}", param=f"{place}.type")
        if not isinstance(part, Image):
            continue
        if part.url:
            raise BytesWanted(
                "images by URL are not fetched here: send a data URL, or have the gateway fetch them "
                '(outbound.images = "fetch")',
                param=f"{place}.image_url.url",
            )
        if part.media_type not in IMAGE_TYPES:
            raise UnsupportedValue(
                f"Ollama reads images as jpeg, png or webp, not {part.media_type!r}",
                param=f"{place}.image_url.url",
            )
        images.append(part.data)
    return images


def _call(call: ToolCall, index: int, param: str) -> dict[str, Any]:
    place = f"{param}.tool_calls[{index}]"
    if call.custom:
        raise UnsupportedValue("Ollama has function tools only", param=f"{place}.type")
    place += ".function.arguments"
    arguments = read_arguments(call.arguments, place)
    member: dict[str, Any] = {"function": {"index": index, "name": call.name, "arguments": arguments}}
    return {"id": call.id, **member} if call.id else member


def _result(result: ToolResult, names: dict[str, str], param: str) -> dict[str, Any]:
    parts: tuple[Part, ...] = (Text("Error:"), *result.parts) if result.error else result.parts
    member: dict[str, Any] = {"role": "tool", "content": _text(parts)}
    if images := _images(result.parts, param):
        member["images"] = images
    if result.id:
        member["tool_call_id"] = result.id
    if name := result.name or names.get(result.id, ""):
        member["tool_name"] = name
    return member
