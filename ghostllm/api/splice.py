"""Changes top-level members of a JSON object in its bytes, and leaves every other byte as it came.

A request is passed on as the client wrote it: unknown members, number formats, key order and white space
survive, and a body of many megabytes is neither copied nor serialised again. The body has been parsed before
(`fields`), so it is known to be sound JSON; what has to be found is where a member lies.

Finding `"model"` is one search, because in sound JSON the bytes `"model"` followed by a colon are a key: a
quotation mark inside a string has a backslash before it. If there is one such key in the whole text and
nothing spells the letters of a key as `\\u` escapes, then it is the top-level one. Otherwise (a tool with a
parameter named `model`) the candidates are renamed to marks in a copy, and the parser says which of them lie
at the top.

Two top-level members of one name are refused, since gateway and backend could each believe another one.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ghostllm import jsonx
from ghostllm.errors import RequestError
from ghostllm.message import Body, Buffers

JOIN_BELOW = 64 * 1024
"""Bodies up to this many bytes come back as one buffer: joining costs less than writing several."""

BACKSLASH = 0x5C
_VALUE_WINDOW = 4096  # bytes decoded first, when the end of an object or array is looked for
_MARK = f"ghostllm:{secrets.token_hex(16)}:"  # no client can know it, so no client's key begins with it

_ESCAPED_LETTER = re.compile(
    rb"\\u00(?:[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|3[0-9])"
)  # a-z A-Z 0-9 _ written as \u escapes
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_COMMA = re.compile(rb"[ \t\r\n]*,")
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s,{}\[\]"]++', re.DOTALL)
_scan = json.JSONDecoder().raw_decode


class Member(NamedTuple):
    """Where a member lies: its key from `start` (the quotation mark), its value from `value` to `end`."""

    start: int
    value: int
    end: int


def edit(
    body: Body, fields: Mapping[str, Any], changes: Mapping[str, Any], drop: Collection[str] = ()
) -> Buffers:
    """The body with the top-level members `changes` set and `drop` taken out, as buffers to be written one
    after the other; they keep `body` alive and must be used before it changes.

    fields: the parsed body. A name in `drop` that the body lacks is no mistake. Raises RequestError naming a
    member to be edited that occurs twice.
    """
    pieces: list[tuple[int, int, bytes]] = []  # (start, end, what to put there), not overlapping
    added: list[bytes] = []
    for name, value in changes.items():
        text = jsonx.dumps(value)
        if name in fields:
            member = find(body, fields, name)
            pieces.append((member.value, member.end, text))
        else:
            added.append(jsonx.dumps(name) + b":" + text)
    gone = [find(body, fields, name) for name in drop if name in fields and name not in changes]
    opening = body.index(b"{") + 1
    if gone:
        pieces += _cuts(body, opening, gone)
    if added:
        text = b",".join(added)
        pieces.append((opening, opening, text if len(gone) == len(fields) else text + b","))
    return _spliced(body, pieces)


def find(body: Body, fields: Mapping[str, Any], name: str) -> Member:
    """Where the top-level member `name` lies, which `fields` has. Raises RequestError if there are two."""
    key = b'"%b"' % name.encode() if _plain(name) else b""
    at = body.find(key) if key else -1
    if at >= 0 and body.find(key, at + 1) < 0 and body[at - 1] != BACKSLASH and not _escapes_letters(body):
        colon = _COLON.match(body, at + len(key))
        if colon is not None:
            return Member(at, colon.end(), _value_end(body, colon.end()))
    return _find_marked(body, fields, name)


def refuse_duplicate(body: Body, fields: Mapping[str, Any], name: str) -> None:
    """Raises RequestError if the top-level member `name`, which `fields` has, occurs twice."""
    if body.count(b'"%b"' % name.encode()) != 1 or _escapes_letters(body):
        _find_marked(body, fields, name)


def _find_marked(body: Body, fields: Mapping[str, Any], name: str) -> Member:
    """The exact way: a copy in which every key spelled like `name` is another one, and the parser's word."""
    candidates = [
        match for match in _key_pattern(name).finditer(body) if body[match.start() - 1] != BACKSLASH
    ]
    parts: list[bytes | bytearray] = []
    position = 0
    for number, match in enumerate(candidates):
        parts += (
            body[position : match.start()],
            b'"%b%d"' % (_MARK.encode(), number),
            body[match.end(1) : match.end()],
        )
        position = match.end()
    parts.append(body[position:])
    top = [key for key in jsonx.loads(b"".join(parts)) if key.startswith(_MARK)]
    if len(top) != 1:
        raise RequestError(f"the body has {len(top)} members named {name!r}: send one", param=name)
    match = candidates[int(top[0][len(_MARK) :])]
    return Member(match.start(), match.end(), _value_end(body, match.end()))


@lru_cache(maxsize=256)
def _key_pattern(name: str) -> re.Pattern[bytes]:
    """Matches `name` as a key with its colon, each character raw or as an escape; group 1 is the key."""
    spelled = b"".join(_spellings(character) for character in name)
    return re.compile(rb'("%b")[ \t\r\n]*:[ \t\r\n]*' % spelled)


_SHORT = {
    '"': r"\\\"",
    "\\": r"\\\\",
    "/": r"\\?/",
    "\b": r"\\b",
    "\f": r"\\f",
    "\n": r"\\n",
    "\r": r"\\r",
    "\t": r"\\t",
}


def _spellings(character: str) -> bytes:
    """Every way to write a character in a JSON string, as a pattern: raw or short, or as UTF-16 units in
    hexadecimal.
    """
    digits = [
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit
        for digit in character.encode("utf-16-be").hex()
    ]
    units = "".join(r"\\u" + "".join(digits[i : i + 4]) for i in range(0, len(digits), 4))
    return f"(?:{_SHORT.get(character) or re.escape(character)}|{units})".encode()


def _plain(name: str) -> bool:
    """A name that JSON writes as it is, unless its letters are escaped: those of all known parameters."""
    return name.isascii() and name.isidentifier()


def _escapes_letters(body: Body) -> bool:
    first = body.find(b"\\")
    return first >= 0 and _ESCAPED_LETTER.search(body, first) is not None


def _value_end(body: Body, start: int) -> int:
    """Where the value that begins at `start` ends."""
    scalar = _SCALAR.match(body, start)
    if scalar is not None:
        return scalar.end()
    for window in (_VALUE_WINDOW, len(body)):
        text = str(memoryview(body)[start : start + window], "utf-8", "ignore")
        try:
            _, end = _scan(text)
        except RecursionError:
            break
        except ValueError:  # cut off by the window
            continue
        return start + len(text[:end].encode())
    raise RequestError("the body is nested too deeply, or holds a number too long")


def _cuts(body: Body, opening: int, gone: Iterable[Member]) -> list[tuple[int, int, bytes]]:
    """What to cut so that the members go, with one comma each: the one before, or for the first members the
    one after.
    """
    cuts: list[tuple[int, int, bytes]] = []
    first = opening  # up to here, everything after the brace is cut
    for member in sorted(gone):
        comma = body.rfind(b",", first, member.start)
        if comma < 0:
            following = _COMMA.match(body, member.end)
            first = following.end() if following is not None else member.end
            cuts.append((member.start, first, b""))
        else:
            cuts.append((comma, member.end, b""))
            first = member.end
    return cuts


def _spliced(body: Body, pieces: list[tuple[int, int, bytes]]) -> Buffers:
    view = memoryview(body)
    buffers: Buffers = []
    position = 0
    for start, end, text in sorted(pieces):
        buffers += (view[position:start], text)
        position = end
    buffers.append(view[position:])
    return [b"".join(buffers)] if len(body) <= JOIN_BELOW else buffers
