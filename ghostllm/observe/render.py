"""How a log record looks: one JSON object a line for machines, aligned words for people.

A record is a dict that begins with time, level and event. Whatever it holds, its rendering is one line (a
traceback in text form excepted) and never raises: a log must not be what breaks a request.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from time import gmtime, strftime
from typing import Any

from ghostllm import jsonx
from ghostllm.config.kinds import Secret

Record = dict[str, Any]
Renderer = Callable[[Record], bytes]
"""Gives the record's line, without its line break."""

LONGEST_TEXT = 8192  # characters of one value; a traceback or a child's line is cut there
DEEPEST = 5

_BARE = re.compile(r"[^\s\"'=\\{}\[\],]+")
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_second = (0, "")
_millisecond = (0, "")


def timestamp(now: float) -> str:
    """RFC 3339, UTC, with milliseconds. Made once a millisecond, and all but those once a second: under load,
    when it matters, most records of a batch share it.
    """
    global _second, _millisecond
    millisecond = int(now * 1000)
    known, text = _millisecond
    if known != millisecond:
        second, rest = divmod(millisecond, 1000)
        if _second[0] != second:
            _second = (second, strftime("%Y-%m-%dT%H:%M:%S.", gmtime(second)))
        text = f"{_second[1]}{rest:03d}Z"
        _millisecond = (millisecond, text)
    return text


def json_line(record: Record) -> bytes:
    try:
        return jsonx.dumps(record)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # a value that JSON does not have, or half a surrogate pair
        return jsonx.dumps(plain(record))


def text_line(*, colour: bool) -> Renderer:
    """Time, level, event, then `name=value` for every field that has a value."""
    dim, bold, reset = ("\x1b[2m", "\x1b[1m", "\x1b[0m") if colour else ("", "", "")

    def render(record: Record) -> bytes:
        fields = plain(record)
        time, level, event = (fields.pop(name, "-") for name in ("time", "level", "event"))
        below = str(fields.pop("traceback", "")).splitlines()
        tint = _COLOURS.get(level, "") if colour else ""
        words = [f"{dim}{time}{reset}", f"{tint}{level:<7}{reset}", f"{bold}{_visible(event):<20}{reset}"]
        words += [f"{dim}{name}={reset}{_word(value)}" for name, value in fields.items() if value is not None]
        lines = [" ".join(words).rstrip(), *(f"    | {_visible(line)}" for line in below)]
        return "\n".join(lines).encode()

    return render


def plain(value: Any, depth: int = 0, mask: Callable[[str], str] | None = None) -> Any:
    """The value as JSON has it. Secrets become stars, strange objects their `str`, long texts are cut. mask:
    applied to every text, before it is cut.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        text = value.encode("utf-8", "backslashreplace").decode()
        return _cut(text if mask is None else mask(text))
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, (bytes, bytearray)):
        return plain(value.decode("utf-8", "backslashreplace"), depth, mask)
    if depth < DEEPEST:
        if isinstance(value, Mapping):
            return {
                str(plain(key, DEEPEST, mask)): plain(item, depth + 1, mask) for key, item in value.items()
            }
        if isinstance(value, (list, tuple, set, frozenset)):
            return [plain(item, depth + 1, mask) for item in value]
    return plain(_shown(value), 0, mask)


def _shown(value: object) -> str:
    try:
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"


def _word(value: Any) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return _visible(value)
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    """Without control characters: a path or a model's name must not draw on somebody's terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
