"""Ollama's messages to neutral ones. The way back is in `messages`.

Calls and their results need no ids here: Ollama's clients pair them by the tool's name, or by order. Other
dialects cannot do without, so ids are made where there are none: from the place of the call, so that the same
conversation reads the same in its next turn, and backends find its prefix in their caches.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from ghostllm import jsonx
from ghostllm.api.canonical import Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from ghostllm.api.members import Members
from ghostllm.errors import RequestError, UnsupportedValue

ROLES = ("system", "developer", "user", "assistant", "tool")

SNIFFED = 16  # characters of base64 that show 12 bytes, the longest of the marks below


@dataclass(slots=True)
class _Asked:
    """A call without its result so far. made: its id is ours, so that no result can name it."""

    id: str
    name: str
    made: bool


def read_messages(body: Members) -> Iterator[Message]:
    """The member `messages`. Raises RequestError, UnsupportedValue with the path of the member."""
    members = list(body.objects("messages"))
    taken = {call.text("id") for member in members for call in _calls(member)}
    asked: list[_Asked] = []
    for index, member in enumerate(members):
        role = member.required_text("role")
        if role not in ROLES:
            raise UnsupportedValue(
                f"unknown role {role!r}; known are {', '.join(ROLES)}", param=member.param("role")
            )
        if role == "tool":
            yield Message("tool", (_result(member, asked, f"call_{index}"),))
            continue
        if role == "user":
            asked = []  # what was called before stays without a result
        parts = _parts(member, role)
        for number, call in enumerate(_calls(member) if role == "assistant" else ()):
            read = _call(call, _free(f"call_{index}_{number}", taken))
            asked.append(_Asked(read.id, read.name, made=not call.has("id")))
            parts.append(read)
        yield Message(cast(Role, role), tuple(parts) or (Text(""),))


def images(member: Members) -> list[Image]:
    """The member `images`: bare base64, whose first bytes say what it is."""
    found = []
    for index, data in enumerate(member.array("images")):
        param = f"{member.param('images')}[{index}]"
        if not isinstance(data, str):
            raise RequestError(f"{param} must be a string of base64", param=param)
        found.append(Image(data, _media_type(data, param)))
    return found


def _media_type(data: str, param: str) -> str:
    try:
        head = base64.b64decode(data[:SNIFFED], validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(
            f"{param} must be bare base64, without a data URL's beginning", param=param
        ) from None
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"RIFF") and head[8:] == b"WEBP":
        return "image/webp"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    raise UnsupportedValue(f"{param} is no image in jpeg, png, webp or gif", param=param)


def _parts(member: Members, role: str) -> list[Part]:
    parts: list[Part] = []
    thinking = member.text("thinking")
    if thinking and role == "assistant":
        parts.append(Reasoning(thinking))
    if text := member.text("content"):
        parts.append(Text(text))
    parts += images(member)
    return parts


def _calls(member: Members) -> list[Members]:
    return list(member.objects("tool_calls"))


def _call(member: Members, made: str) -> ToolCall:
    """made: its id if it has none."""
    function = Members(member.raw("function"), member.param("function"))
    arguments = function.values.get("arguments")
    if arguments is not None and not isinstance(arguments, dict):
        raise function.wrong("arguments", "an object")
    try:
        text = jsonx.dumps(arguments or {}).decode()
    except (TypeError, ValueError, RecursionError):  # parsers take what writers do not: depth, for one
        param = function.param("arguments")
        raise RequestError(f"{param} cannot be written as JSON again", param=param) from None
    return ToolCall(member.text("id") or made, function.required_text("name"), text)


def _free(name: str, taken: set[str | None]) -> str:
    while name in taken:
        name += "_"
    return name


def _result(member: Members, asked: list[_Asked], made: str) -> ToolResult:
    """made: the id of a result that belongs to no call."""
    said, name = member.text("tool_call_id") or "", member.text("tool_name") or ""
    text = member.text("content") or ""
    pictures = images(member)
    parts: list[Text | Image] = [Text(text)] if text or not pictures else []
    call = _answered(asked, said, name)
    if call is None:
        return ToolResult(said or made, (*parts, *pictures), name)
    asked.remove(call)
    return ToolResult(call.id, (*parts, *pictures), name or call.name)


def _answered(asked: list[_Asked], said: str, name: str) -> _Asked | None:
    """The call that a result answers: by id, else by name, else the first one that waits. An id that is
    unknown can only mean a call to which the client gave none.
    """
    if said:
        for call in asked:
            if call.id == said:
                return call
    waiting = [call for call in asked if call.made or not said]
    if name:
        return next((call for call in waiting if call.name == name), None)
    return waiting[0] if waiting else None
