"""Neutral messages to Anthropic's: a system text in front, then turns of user and assistant that take turns.

What begins the conversation in the system's name becomes `system`. Later such messages become text of the
user's turn, in `<system>` tags: newer models alone take the role there, and no answer is worse than a lower
rank. A conversation of nothing else is the user's, as Anthropic answers users only.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any

from ghostllm.api.anthropic.request_reader import own_signature
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
from ghostllm.errors import RequestError, UnsupportedValue

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MAGIC = {"/9j/": "image/jpeg", "iVBORw0KGgo": "image/png", "R0lGOD": "image/gif", "UklGR": "image/webp"}
"""How base64 of each begins, for clients (Ollama's) that do not say what they send."""

_SUFFIXES = {".pdf": "application/pdf", ".txt": "text/plain", ".md": "text/plain", ".csv": "text/plain"}
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")  # in the ids of calls, which other servers write as they like

Block = dict[str, Any]
_Shown = Text | Image | Audio | File | Refusal


def write_messages(messages: Sequence[Message]) -> tuple[list[Block], list[Block]]:
    """`system` as blocks (empty without any), and `messages`. Raises RequestError, UnsupportedValue with the
    path of the part that Anthropic cannot take.
    """
    leading = 0
    while leading < len(messages) and _is_system(messages[leading]):
        leading += 1
    alone = leading == len(messages)
    if alone:
        leading = 0
    system = [block for index in range(leading) for block in _system(messages[index], index)]
    turns = _Turns()
    for index in range(leading, len(messages)):
        message = messages[index]
        if message.role == "assistant":
            turns.add("assistant", _assistant(message, index, turns.ids))
        elif message.role == "tool":
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            turns.add("user", [_result(result, index, turns.ids) for result in results])
        elif message.role == "user":
            turns.add("user", _content(message.parts, index))
        else:
            blocks = _system(message, index)
            turns.add("user", blocks if alone else [_tagged(block) for block in blocks])
    return system, turns.close()


class _Turns:
    """Turns in the making: messages of one role in a row are one turn, and one that says nothing is none."""

    def __init__(self) -> None:
        self.ids = _Ids()
        self._turns: list[tuple[str, list[Block]]] = []

    def add(self, role: str, blocks: list[Block]) -> None:
        if blocks and self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(blocks)
        elif blocks:
            self._turns.append((role, blocks))

    def close(self) -> list[Block]:
        """Raises RequestError when nothing has been said."""
        if not self._turns:
            raise RequestError("messages must say something: all of them are empty", param="messages")
        role, last = self._turns[-1]
        if role == "assistant" and last[-1]["type"] == "text":
            # the beginning of the answer; Anthropic refuses one that ends with white space
            last[-1]["text"] = last[-1]["text"].rstrip()
        return [{"role": role, "content": _results_first(blocks)} for role, blocks in self._turns]


class _Ids:
    """The ids of calls as Anthropic takes them: in its characters, and no two alike. Most stay as they are.

    A result belongs to the first call of its id that has none yet: some servers number the calls of each turn
    anew, and Ollama's have no ids.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._waiting: dict[str, list[str]] = {}
        self._last: dict[str, str] = {}

    def call(self, identity: str) -> str:
        safe = base = _FOREIGN.sub("_", identity) or "call"
        number = 1
        while safe in self._used:
            number += 1
            safe = f"{base}_{number}"
        self._used.add(safe)
        self._waiting.setdefault(identity, []).append(safe)
        self._last[identity] = safe
        return safe

    def result(self, identity: str) -> str:
        waiting = self._waiting.get(identity)
        if waiting:
            return waiting.pop(0)
        return self._last.get(identity) or _FOREIGN.sub("_", identity) or "call"


def _results_first(blocks: list[Block]) -> list[Block]:
    """Anthropic wants the results of tools before anything else that the user's turn says."""
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


# --- turns


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _system(message: Message, index: int) -> list[Block]:
    for place, part in enumerate(message.parts):
        if not isinstance(part, Text):
            param = f"messages[{index}].content[{place}].type"
            raise UnsupportedValue("a system message of Anthropic's is text only", param=param)
    return [_text(part.text) for part in message.parts if isinstance(part, Text) and part.text.strip()]


def _tagged(block: Block) -> Block:
    return _text(f"<system>\n{block['text']}\n</system>")


def _assistant(message: Message, index: int, ids: _Ids) -> list[Block]:
    """In the order of the parts: a thought belongs in front of what came of it."""
    blocks: list[Block] = []
    calls = place = 0
    for part in message.parts:
        if isinstance(part, ToolCall):
            blocks.append(_call(part, f"messages[{index}].tool_calls[{calls}]", ids))
            calls += 1
        elif isinstance(part, Reasoning):
            blocks.extend(_thinking(part))
        elif not isinstance(part, ToolResult):
            blocks.extend(_part(part, f"messages[{index}].content[{place}]"))
            place += 1
    return blocks


def _thinking(part: Reasoning) -> Iterable[Block]:
    """Anthropic takes no thoughts but its own, which their signatures prove."""
    if part.redacted:
        if not own_signature(part.redacted):
            yield {"type": "redacted_thinking", "data": part.redacted}
    elif part.signature and not own_signature(part.signature):
        yield {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _call(call: ToolCall, param: str, ids: _Ids) -> Block:
    if call.custom:
        raise UnsupportedValue("Anthropic has function tools only", param=f"{param}.type")
    param += ".function.arguments"
    arguments = read_arguments(call.arguments, param)
    return {"type": "tool_use", "id": ids.call(call.id), "name": call.name, "input": arguments}


def _result(result: ToolResult, index: int, ids: _Ids) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": ids.result(result.id)}
    content = _content(result.parts, index)
    if len(content) == 1 and content[0]["type"] == "text":
        block["content"] = content[0]["text"]
    elif content:
        block["content"] = content
    if result.error:
        block["is_error"] = True
    return block


# --- parts


def _content(parts: Sequence[Part], index: int) -> list[Block]:
    """The blocks of a message that holds no calls, thoughts or results."""
    shown = [part for part in parts if isinstance(part, _Shown)]
    return [
        block
        for place, part in enumerate(shown)
        for block in _part(part, f"messages[{index}].content[{place}]")
    ]


def _part(part: _Shown, param: str) -> Iterable[Block]:
    """One block, or none of blank text: Anthropic refuses it."""
    if isinstance(part, Text | Refusal):
        if part.text.strip():
            yield _text(part.text)
    elif isinstance(part, Image):
        yield _image(part, param)
    elif isinstance(part, File):
        yield _document(part, param)
    else:
        raise UnsupportedValue("Anthropic takes text, images and files, not audio", param=f"{param}.type")


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _image(part: Image, param: str) -> Block:
    if part.url:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    kind = part.media_type
    if not kind:
        kind = next((known for start, known in _MAGIC.items() if part.data.startswith(start)), "")
    elif kind == "image/jpg":
        kind = "image/jpeg"
    if kind not in IMAGE_TYPES:
        said = f", not {kind!r}" if kind else ": say which in the data URL"
        raise UnsupportedValue(
            f"Anthropic reads images as jpeg, png, gif or webp{said}", param=f"{param}.image_url.url"
        )
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": part.data}}


def _document(part: File, param: str) -> Block:
    source: Block
    if part.file_id:
        source = {"type": "file", "file_id": part.file_id}
    elif part.url:
        source = {"type": "url", "url": part.url}
    else:
        source = _file_data(part, f"{param}.file.file_data")
    block: Block = {"type": "document", "source": source}
    return {**block, "title": part.filename} if part.filename else block


def _file_data(part: File, param: str) -> Block:
    """A PDF goes as it is; other text is decoded, as Anthropic takes that plain."""
    data, kind = part.data, part.media_type
    if data.startswith("data:"):
        head, comma, data = data[5:].partition(",")
        kind, _, encoding = head.rpartition(";")
        if not comma or encoding != "base64":
            raise RequestError(f"{param}: a data URL of a file must be base64", param=param)
    if not kind:
        kind = next((kind for end, kind in _SUFFIXES.items() if part.filename.lower().endswith(end)), "")
    kind = kind.partition(";")[0].strip().lower()
    if kind == "application/pdf":
        return {"type": "base64", "media_type": kind, "data": data}
    if not kind.startswith("text/"):
        said = f"not {kind!r}" if kind else "and the media type of this one is not said"
        raise UnsupportedValue(f"Anthropic reads files as PDF or text, {said}", param=param)
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise RequestError(f"{param} is no base64 of UTF-8 text", param=param) from None
    return {"type": "text", "media_type": "text/plain", "data": text}
