"""Anthropic's messages to neutral ones. The way back is in `message_writer`.

Anthropic knows two roles and mid-conversation `system`; a tool's result is a block of the user's turn. In the
neutral form results are a "tool" message directly after the turn that called, and what the user said beside
them follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from ghostllm import jsonx
from ghostllm.api.canonical import File, Image, Message, Part, Reasoning, Role, Text, ToolCall, ToolResult
from ghostllm.api.members import Members
from ghostllm.errors import RequestError, UnsupportedValue

ROLES = ("user", "assistant", "system")
BLOCKS = {
    "user": ("text", "image", "document", "search_result", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}
"""The blocks of each role. Those of Anthropic's own (hosted) tools are not here, as these tools are not."""

RESULT_BLOCKS = ("text", "image", "document", "search_result")

BILLING = "x-anthropic-billing-header:"
"""Claude Code puts a line of this kind in front of its system prompt. It differs in each request, so that no
backend could reuse the prompt's prefix, and says nothing to a model.
"""

OWN_SIGNATURE = "Z2hvc3RsbG06dW5zaWduZWQ="
"""What stands for a signature where there is none: clients of the dialect send back only thinking that has
one. It is base64, as those of Anthropic are: "ghostllm:unsigned".
"""


def own_signature(signature: str) -> bool:
    """Whether the gateway made this signature, so that it proves nothing to any provider."""
    return signature == OWN_SIGNATURE


def read_system(body: Members) -> tuple[Text, ...]:
    """The member `system`: a string or an array of text blocks."""
    content = body.values.get("system")
    if content is None:
        return ()
    texts = [Text(content)] if isinstance(content, str) else _texts(body, "system")
    if texts and texts[0].text.startswith(BILLING):
        texts[0] = Text(texts[0].text.partition("\n")[2].lstrip("\n"))
    return tuple(text for text in texts if text.text)


def read_messages(body: Members) -> list[Message]:
    """The member `messages`; consecutive turns of one role are one turn, as they are for Anthropic."""
    turns: list[tuple[str, list[Part]]] = []
    for member in body.objects("messages"):
        role = member.required_text("role")
        if role not in ROLES:
            raise UnsupportedValue(
                f"unknown role {role!r}; known are {', '.join(ROLES)}", param=member.param("role")
            )
        parts = list(_content(member, "content", BLOCKS[role], f"a message of role {role}"))
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(parts)
        elif parts or role == "user":  # an assistant's turn without content is an empty prefill
            turns.append((role, parts))
    messages: list[Message] = []
    for role, parts in turns:
        results = tuple(part for part in parts if isinstance(part, ToolResult))
        rest = tuple(part for part in parts if not isinstance(part, ToolResult))
        if results:
            messages.insert(_after_calls(messages), Message("tool", results))
        if rest or not results:
            messages.append(Message(cast(Role, role), rest or (Text(""),)))
    return messages


def _after_calls(messages: list[Message]) -> int:
    """Where results go: nothing may stand between them and their calls, a system message neither."""
    place = len(messages)
    while place and messages[place - 1].role == "system":
        place -= 1
    called = place > 0 and messages[place - 1].role in ("assistant", "tool")
    return place if called else len(messages)


# --- blocks


def _content(member: Members, key: str, known: tuple[str, ...], where: str) -> Iterator[Part]:
    """The parts of a string or an array of blocks. where: in which errors say that a block cannot be.

    Text blocks without text say nothing; Anthropic itself refuses them, a local template may trip over them.
    """
    content = member.raw(key)
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    if not isinstance(content, list):
        raise member.wrong(key, "a string or an array of content blocks")
    for block in member.objects(key):
        kind = block.required_text("type")
        if kind not in known:
            raise UnsupportedValue(
                f"{block.param('type')}: {kind!r} is no block of {where}; known are {', '.join(known)}",
                param=block.param("type"),
            )
        yield from _block(kind, block)


def _block(kind: str, block: Members) -> Iterator[Part]:
    if kind == "text":
        if text := _said(block, "text"):
            yield Text(text)
    elif kind == "image":
        yield _image(block)
    elif kind == "document":
        yield from _document(block)
    elif kind == "search_result":
        found = [text.text for text in _texts(block, "content")]
        yield Text("\n".join([block.required_text("title"), block.required_text("source"), *found]))
    elif kind == "tool_result":
        yield from _result(block)
    elif kind == "tool_use":
        yield ToolCall(block.required_text("id"), block.required_text("name"), _arguments(block))
    elif kind == "thinking":
        signature = block.text("signature") or ""
        yield Reasoning(_said(block, "thinking"), "" if own_signature(signature) else signature)
    else:
        yield Reasoning("", redacted=block.required_text("data"))


def _said(member: Members, key: str) -> str:
    """A string that must be there, but may be empty."""
    if not isinstance(value := member.raw(key), str):
        raise member.wrong(key, "a string")
    return value


def _texts(member: Members, key: str) -> list[Text]:
    """An array of text blocks."""
    blocks = _content(member, key, ("text",), key)
    return [part for part in blocks if isinstance(part, Text)]


def _object(member: Members, key: str) -> Members:
    return Members(member.raw(key), member.param(key))


def _image(block: Members) -> Image:
    source = _object(block, "source")
    kind = source.required_text("type")
    if kind == "base64":
        return Image(source.required_text("data"), source.required_text("media_type").lower())
    if kind == "url":
        return Image(url=source.required_text("url"))
    raise _unknown_source(source, kind, "base64, url")


def _document(block: Members) -> Iterator[Part]:
    """Documents that are text go as text, under their title: every model can read that."""
    source = _object(block, "source")
    kind = source.required_text("type")
    title, context = block.text("title") or "", block.text("context") or ""
    if kind in ("base64", "url"):
        if context:
            yield Text(context)
        if kind == "url":
            yield File(url=source.required_text("url"), filename=title)
        else:
            data, media_type = source.required_text("data"), source.required_text("media_type").lower()
            yield File(data, filename=title, media_type=media_type)
    elif kind == "text":
        yield Text("\n".join(filter(None, (title, context, _said(source, "data")))))
    elif kind == "content":
        if title or context:
            yield Text("\n".join(filter(None, (title, context))))
        yield from _content(source, "content", ("text", "image"), "a document")
    else:
        raise _unknown_source(source, kind, "base64, url, text, content")


def _unknown_source(source: Members, kind: str, known: str) -> UnsupportedValue:
    """Among the unknown is `file`: what is stored at Anthropic cannot be read from here."""
    return UnsupportedValue(
        f"{source.param('type')}: {kind!r} is not served here; known are {known}", param=source.param("type")
    )


def _result(block: Members) -> Iterator[Part]:
    """The result, and after it the files in it: a neutral result holds text and images only."""
    parts: list[Text | Image] = []
    files: list[Part] = []
    if block.has("content"):
        for part in _content(block, "content", RESULT_BLOCKS, "a tool's result"):
            if isinstance(part, Text | Image):
                parts.append(part)
            else:
                files.append(part)
    if not parts:
        parts.append(Text("See the file in the next message." if files else ""))
    identity = block.required_text("tool_use_id")
    yield ToolResult(identity, tuple(parts), error=bool(block.boolean("is_error")))
    yield from files


def _arguments(block: Members) -> str:
    value: Any = block.values.get("input")
    if value is not None and not isinstance(value, dict):
        raise block.wrong("input", "an object")
    try:
        return jsonx.dumps(value or {}).decode()
    except (TypeError, ValueError, RecursionError):  # parsers take what writers do not: depth, for one
        param = block.param("input")
        raise RequestError(f"{param} cannot be written as JSON again", param=param) from None
