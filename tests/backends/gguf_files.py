"""GGUF files made by hand: a header, and no tensors behind it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

TYPES = {
    "u32": (4, "<I"),
    "i32": (5, "<i"),
    "f32": (6, "<f"),
    "bool": (7, "<?"),
    "u64": (10, "<Q"),
    "f64": (12, "<d"),
}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind: str, content: object) -> bytes:
    """kind: a name of TYPES, "str", or "[kind]" for an array."""
    if kind == "str":
        return struct.pack("<I", 8) + text(content)
    if kind.startswith("["):
        items = [value(kind[1:-1], item) for item in content]
        inner = value(kind[1:-1], "" if kind == "[str]" else 0)[:4]
        return struct.pack("<I", 9) + inner + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    number, form = TYPES[kind]
    return struct.pack("<I", number) + struct.pack(form, content)


def gguf(pairs: Mapping[str, tuple[str, object]] | None = None, version: int = 3) -> bytes:
    chosen = {"general.architecture": ("str", "llama")} if pairs is None else pairs
    body = b"".join(text(key) + value(*pair) for key, pair in chosen.items())
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(chosen)) + body
