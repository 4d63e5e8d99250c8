"""The pattern of a stream's events: what a server repeats around each piece of text.

An answer is mostly events that differ from one another in their text alone. One of them is read, and the next
is known by a few comparisons to be the same but for a string, which is a sounder test than looking for what
must not be inside, and a cheaper one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from ghostllm import jsonx

_TEXT = re.compile(rb'"(content|reasoning_content|reasoning|text)"[ \t]*:[ \t]*"')
_PADDING = re.compile(rb'"obfuscation"[ \t]*:[ \t]*"')
"""OpenAI pads events with random letters, so that their length does not tell what is in them."""

SEAM: Final = b'","'
"""Between two texts."""

_QUOTE: Final = 0x22
_LF: Final = 0x0A
_BACKSLASH: Final = 0x5C


class Frame:
    """head: an event up to its text. foot: from the text's end to that of the event, or to the padding.
    close: what comes after the padding, b"" without one. swap: head and foot as the client gets them.
    member: under which name the text stands. as_is: the client gets the events as they come.
    """

    __slots__ = ("_around", "_close", "_foot", "_gap", "_head", "_swap", "as_is", "member")

    def __init__(
        self, member: str, head: bytes, foot: bytes, close: bytes, gap: int, swap: tuple[bytes, bytes]
    ) -> None:
        self.member = member
        self._head = head
        self._foot = foot
        self._close = close
        self._gap = gap
        self._swap = swap
        self._around = len(head) + len(foot)
        self.as_is = swap == (head, foot)

    def __repr__(self) -> str:
        return f"<Frame {self._head[-20:]!r} … {self._foot[:20]!r}>"

    def texts_in(self, data: bytes) -> bytes | None:
        """The texts of one event or several that all fit, as `cut` gives them; None for anything else.

        A read holds several when we are late, which is when they must not cost more than one by one.
        """
        if self._close:
            data = self._unpadded(data)
        text = data.removeprefix(self._head).removesuffix(self._foot)
        if len(text) != len(data) - self._around:
            return None
        if _QUOTE in text:
            return self._texts_of_row(text)
        if _LF in text or (_BACKSLASH in text and text[-1] == _BACKSLASH):
            return None
        return text

    def swapped(self, data: bytes, texts: bytes) -> bytes:
        """Events with these texts for the client, where that is not the same (`as_is`)."""
        head, foot = self._swap
        if self._close:
            return head + texts + foot + data[self._around + len(texts) :]
        return head + texts.replace(SEAM, foot + head) + foot

    def text(self, data: bytes) -> str | None:
        """The text of an event; None if it does not fit, or if reading it is better left to the parser."""
        raw = self.texts_in(data)
        if raw is None or _QUOTE in raw:
            return None
        try:
            if _BACKSLASH in raw:
                text: str = jsonx.loads(b'"%b"' % raw)
                return text
            plain = raw.decode()
        except ValueError:
            return None
        return plain if plain.isprintable() else None  # a bare control character is no JSON

    def cut(self, pieces: list[bytes]) -> bytes | None:
        """The texts of a row of sound events, a piece each, as JSON strings without the first and the last
        quotation mark, a comma between them; None if one of the events does not fit.
        """
        head, foot = self._head, self._foot
        block = b"".join(pieces)
        if self._close:
            row = _padded(head, foot, self._close)
            parts: list[bytes] = row.findall(block) if not row.sub(b"", block) else []
        else:
            parts = list(map(itemgetter(slice(len(head), -len(foot))), pieces))
            if head + (foot + head).join(parts) + foot != block:
                return None
        texts = SEAM.join(parts)
        if len(parts) != len(pieces):
            return None
        if texts.count(b'"') != 2 * len(parts) - 2 and len(unquoted(texts)) != len(parts):
            return None  # something beside the text, or a quotation mark in it
        return texts

    def _texts_of_row(self, row: bytes) -> bytes | None:
        """row: without the head of the first event and the foot of the last."""
        seam = self._foot + self._head
        texts = row.replace(seam, SEAM)
        seams = texts.count(SEAM)
        if self._close or texts.count(b'"') != 2 * seams or _LF in texts:
            return None
        if b'\\"' in texts or texts.endswith(b"\\"):
            return None
        return texts if len(row) - len(texts) == seams * (len(seam) - len(SEAM)) else None

    def _unpadded(self, event: bytes) -> bytes:
        """An event up to its padding; b"" if it is not padded as it has to be."""
        start = len(self._head)
        end = event.find(b'"', start) + len(self._foot)
        if (
            event.find(b'"', end) == len(event) - len(self._close)
            and event.find(b"\n", start) == len(event) - self._gap
            and event.endswith(self._close)
        ):
            return event[:end]
        return b""


def unquoted(texts: bytes) -> list[Any]:
    """The values of what `Frame.cut` has given; [] if that is no JSON."""
    try:
        values: list[Any] = jsonx.loads(b'["%b"]' % texts)
    except jsonx.DecodeError:
        return []
    return values if set(map(type, values)) == {str} else []


@lru_cache(maxsize=64)
def _padded(head: bytes, foot: bytes, close: bytes) -> re.Pattern[bytes]:
    """An event, with its text as group 1."""
    text = rb'([^"\\]*+(?:\\.[^"\\]*+)*+)'
    return re.compile(re.escape(head) + text + re.escape(foot) + rb'[^"\\]*+' + re.escape(close))


def learn(event: bytes, gap: int, edited: Callable[[bytes], bytes]) -> Frame | None:
    """The frame of an event that carries a piece of text and nothing else; None for any other event.

    gap: how far before the end of the event its first LF stands. edited: makes the changes that every event
    needs.
    """
    texts = list(_TEXT.finditer(event))
    if len(texts) != 1:
        return None
    head, rest = event[: texts[0].end()], event[texts[0].end() :]
    text, _, _ = rest.partition(b'"')
    foot, close = rest[len(text) :], b""
    padding = _PADDING.search(foot)
    if padding is not None:
        letters, _, _ = foot[padding.end() :].partition(b'"')
        foot, close = foot[: padding.end()], foot[padding.end() + len(letters) :]
    if b"\\" in text or not _is_silent(head.partition(b":")[2] + foot + close):
        return None
    return Frame(texts[0][1].decode(), head, foot, close, gap, (edited(head), edited(foot)))


def _is_silent(text: bytes) -> bool:
    """Whether an event without its text says nothing."""
    try:
        chunk = jsonx.loads(text)
        (choice,) = chunk["choices"]
        delta = choice.get("delta", choice)
        said = [value for name, value in delta.items() if name not in ("role", "index")]
        rest = (choice.get("finish_reason"), chunk.get("usage"), chunk.get("error"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return all(value is None or value == "" for value in said) and rest == (None, None, None)
