"""On which line of a TOML text each key stands, which the standard library's parser does not tell.

Reads only texts that parser has accepted, so it may be lax: it knows strings, comments and brackets well
enough to find where a value ends, and nothing of values themselves. TOML 1.0, toml.io/en/v1.0.0.
"""

from __future__ import annotations

import re
import tomllib

from ghostllm.config.tree import Path

_BLANK = re.compile(r"(?:\s|#[^\n]*)+")
_STRING = r'"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'"
_KEY = re.compile(rf"(?:{_STRING}|[A-Za-z0-9_-]+)(?:[ \t]*\.[ \t]*(?:{_STRING}|[A-Za-z0-9_-]+))*")
_PART = re.compile(rf"{_STRING}|[A-Za-z0-9_-]+")
_EQUALS = re.compile(r"[ \t]*=")
_VALUE_PIECE = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotes may stand before the closing three
    + r"|'''.*?'{3,5}"
    + rf"|{_STRING}|#[^\n]*|[\[{{]|[\]}}]|\n|[^\"'#\[\]{{}}\n]+",
    re.DOTALL,
)


def toml_lines(text: str) -> dict[Path, int]:
    """Line numbers (from 1) of keys and table headers, by path; elements of arrays of tables by index."""
    lines: dict[Path, int] = {}
    elements: dict[Path, int] = {}
    header: Path = ()
    line, at = 1, 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            line += blank[0].count("\n")
            at = blank.end()
            continue
        brackets = 2 if text.startswith("[[", at) else 1 if text[at] == "[" else 0
        at += brackets
        while brackets and text[at : at + 1] in (" ", "\t"):
            at += 1
        key = _KEY.match(text, at)
        if key is None:
            break
        parts = tuple(_plain(part) for part in _PART.findall(key[0]))
        if brackets:
            header = _header(parts, elements, array=brackets == 2)
            for depth in range(1, len(header) + 1):
                lines.setdefault(header[:depth], line)
            at = text.find("]", key.end()) + brackets
            if at < brackets:
                break
            continue
        for depth in range(1, len(parts) + 1):
            lines.setdefault((*header, *parts[:depth]), line)
        equals = _EQUALS.match(text, key.end())
        end = _value_end(text, equals.end() if equals else key.end())
        line += text.count("\n", at, end)
        at = end
    return lines


def _header(parts: tuple[str, ...], elements: dict[Path, int], *, array: bool) -> Path:
    """The path that `[parts]` or `[[parts]]` opens; each array on the way stands for its last element."""
    path: Path = ()
    for part in parts[:-1] if array else parts:
        path = (*path, part)
        if path in elements:
            path = (*path, elements[path])
    if array:
        path = (*path, parts[-1])
        elements[path] = elements.get(path, -1) + 1
        path = (*path, elements[path])
    return path


def _value_end(text: str, at: int) -> int:
    """Where the line (or, with brackets open, the lines) of the value that starts at `at` ends."""
    depth = 0
    while at < len(text):
        piece = _VALUE_PIECE.match(text, at)
        if piece is None:
            return len(text)
        if piece[0] == "\n" and depth <= 0:
            return at
        depth += (piece[0] in "[{") - (piece[0] in "]}")
        at = piece.end()
    return at


def _plain(part: str) -> str:
    return next(iter(tomllib.loads(f"{part} = 0"))) if part[0] in "\"'" else part
