"""The items of a conversation to neutral messages.

Reasoning, what was said and the calls of one assistant's turn are items side by side; chat templates want
them as one message, and the results of its calls directly after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from ghostllm.api.canonical import (
    Audio,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from ghostllm.api.members import Members
from ghostllm.api.responses.tools import flat_name
from ghostllm.errors import RequestError, UnsupportedValue

ROLES = ("user", "assistant", "system", "developer")
ITEMS = (
    "message", "reasoning", "function_call", "function_call_output", "custom_tool_call",
    "custom_tool_call_output", "item_reference", "additional_tools",
)  # fmt: skip

SIGNED, SEALED = "ghostllm:signature:", "ghostllm:sealed:"
"""What `encrypted_content` of our own begins with: a provider's signature of the text beside it, or thinking
that it shows only sealed. Any other can be read by nobody but its maker, who is not behind this door.
"""


def seal(signature: str, redacted: str) -> str:
    """The `encrypted_content` that brings these back with the next request; "" when there is nothing."""
    return SEALED + redacted if redacted else SIGNED + signature if signature else ""


def read_items(items: Iterable[Members], references: Mapping[str, Any], said: set[str]) -> list[Message]:
    """references: by id, the stored items that an `item_reference` may mean. said: ids of the items that are
    in the conversation anyway.

    Raises RequestError, UnsupportedValue with the path of the member.
    """
    turns = _Turns()
    for item in items:
        meant = _meant(item, references, said)
        if meant is not None:
            _take(_kind(meant), meant, turns)
            if isinstance(meant.values.get("id"), str):
                said.add(meant.values["id"])
    return list(turns.messages())


def _kind(item: Members) -> str:
    """Messages may go without a type."""
    return "message" if item.has("role") and not item.has("type") else item.required_text("type")


def _meant(item: Members, references: Mapping[str, Any], said: set[str]) -> Members | None:
    """The item itself, or the one that it refers to; None where that is in the conversation already."""
    if _kind(item) != "item_reference":
        return item
    identity = item.required_text("id")
    if identity in said:
        return None
    if identity not in references:
        param = item.param("id")
        raise UnsupportedValue(
            f"{param}: no item with id {identity[:200]!r} is stored here: send the item", param=param
        )
    return Members(references[identity], item.path)


class _Turn:
    __slots__ = ("parts", "results", "role")

    def __init__(self, role: str, parts: list[Part]) -> None:
        self.role = role
        self.parts = parts
        self.results: list[ToolResult] = []  # of the calls in `parts`


class _Turns:
    __slots__ = ("_callers", "_turns")

    def __init__(self) -> None:
        self._turns: list[_Turn] = []
        self._callers: dict[str, tuple[_Turn, str]] = {}  # call id -> its turn, the tool's name

    def others(self, role: str, parts: list[Part]) -> None:
        self._turns.append(_Turn(role, parts or [Text("")]))

    def assistant(self, parts: list[Part]) -> None:
        """Results end a turn: what the assistant says after them is the next one."""
        if not parts:
            return
        last = self._turns[-1] if self._turns else None
        if last is None or last.role != "assistant" or last.results:
            self._turns.append(_Turn("assistant", parts))
        else:
            last.parts.extend(parts)

    def call(self, call: ToolCall) -> None:
        self.assistant([call])
        self._callers[call.id] = (self._turns[-1], call.name)

    def result(self, item: Members, parts: tuple[Text | Image, ...]) -> None:
        """It belongs directly after the turn that called, wherever the client has put it."""
        identity = item.required_text("call_id")
        if identity not in self._callers:
            param = item.param("call_id")
            raise RequestError(f"{param}: no call before it has the id {identity[:200]!r}", param=param)
        turn, name = self._callers[identity]
        turn.results.append(ToolResult(identity, parts, name))

    def messages(self) -> Iterator[Message]:
        for turn in self._turns:
            yield Message(cast(Role, turn.role), tuple(turn.parts))
            if turn.results:
                yield Message("tool", tuple(turn.results))


def _take(kind: str, item: Members, turns: _Turns) -> None:
    if kind == "message":
        role = item.required_text("role")
        if role not in ROLES:
            raise _unknown(item, "role", role, ROLES)
        parts = list(_content(item, "content"))
        if role == "assistant":
            turns.assistant(parts)
        else:
            turns.others(role, parts)
    elif kind == "reasoning":
        turns.assistant(list(_reasoning(item)))
    elif kind in ("function_call", "custom_tool_call"):
        turns.call(_call(item, kind == "custom_tool_call"))
    elif kind in ("function_call_output", "custom_tool_call_output"):
        turns.result(item, tuple(_result(item)))
    elif kind != "additional_tools":
        raise _unknown(item, "type", kind, ITEMS)


def _call(item: Members, custom: bool) -> ToolCall:
    name = flat_name(item.text("namespace") or "", item.required_text("name"))
    said = item.text("input" if custom else "arguments") or ""
    return ToolCall(item.required_text("call_id"), name, said, custom)


def _reasoning(item: Members) -> Iterator[Part]:
    """The thinking itself where it is there, else its summary."""
    said = [part.required_text("type") and _said(part, "text") for part in item.objects("content")]
    if not said:
        said = [_said(part, "text") for part in item.objects("summary")]
    text = "\n\n".join(said)
    sealed = item.text("encrypted_content") or ""
    if text:
        yield Reasoning(text, sealed.removeprefix(SIGNED) if sealed.startswith(SIGNED) else "")
    elif sealed.startswith(SIGNED):
        yield Reasoning("", sealed.removeprefix(SIGNED))
    if sealed.startswith(SEALED):
        yield Reasoning("", redacted=sealed.removeprefix(SEALED))


def _result(item: Members) -> Iterator[Text | Image]:
    for part in _content(item, "output"):
        if not isinstance(part, Text | Image):
            raise UnsupportedValue(
                f"{item.param('output')}: a tool's output is text or images", param=item.param("output")
            )
        yield part


# --- content


def _content(item: Members, key: str) -> Iterator[Part]:
    content = item.raw(key)
    if isinstance(content, str):
        yield Text(content)
        return
    if not isinstance(content, list):
        raise item.wrong(key, "a string or an array of content parts")
    for member in item.objects(key):
        yield _part(member)


def _part(member: Members) -> Part:
    kind = member.required_text("type")
    if kind in ("input_text", "output_text", "text"):  # "text": as Open Responses has it
        return Text(_said(member, "text"))
    if kind == "refusal":
        return Refusal(_said(member, "refusal"))
    if kind == "input_image":
        return _image(member)
    if kind == "input_audio":
        audio = Members(member.raw("input_audio"), member.param("input_audio"))
        return Audio(audio.required_text("data"), audio.required_text("format"))
    if kind == "input_file":
        names = ("file_data", "file_url", "filename")
        _refuse_file_id(member)
        data, url, filename = (member.text(name) or "" for name in names)
        if not data and not url:
            param = member.param("file_data")
            raise RequestError(f"{param} or file_url is required", param=param)
        return File(data=data, url=url, filename=filename)
    known = ("input_text", "output_text", "refusal", "input_image", "input_audio", "input_file")
    raise _unknown(member, "type", kind, known)


def _image(member: Members) -> Image:
    """A data URL is taken apart."""
    _refuse_file_id(member)
    url, detail = member.required_text("image_url"), member.text("detail") or ""
    if not url.startswith("data:"):
        return Image(url=url, detail=detail)
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.rpartition(";")
    if not comma or encoding != "base64":
        raise RequestError("a data URL of an image must be base64", param=member.param("image_url"))
    return Image(data=data, media_type=media_type.lower(), detail=detail)


def _refuse_file_id(member: Members) -> None:
    if member.has("file_id"):
        param = member.param("file_id")
        raise UnsupportedValue(f"{param}: no files are stored here: send the data or a URL", param=param)


def _said(member: Members, key: str) -> str:
    """A string that must be there, but may be empty."""
    if not isinstance(value := member.raw(key), str):
        raise member.wrong(key, "a string")
    return value


def _unknown(member: Members, key: str, value: str, known: tuple[str, ...]) -> UnsupportedValue:
    param = member.param(key)
    return UnsupportedValue(f"unknown {param} {value[:200]!r}; known are {', '.join(known)}", param=param)
