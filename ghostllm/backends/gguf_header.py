"""The few facts of a GGUF file's header that decide how its server is set up.

Format: ggml's docs/gguf.md. All numbers little-endian: magic `GGUF`, version u32, tensor count u64, pair
count u64, then pairs of key (string), type (u32) and value. Strings carry a u64 length in bytes. The file may
come from anywhere, so nothing in it is trusted: every length is checked against what is left of the file.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Any

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(slots=True, frozen=True)
class Header:
    """architecture: such as "llama". context: tokens it was trained for. pooling: how the model itself makes
    one vector out of all tokens (1 mean, 2 first, 3 last, 4 rank); None for models that only generate.
    """

    architecture: str
    context: int | None
    pooling: int | None


def read_header(path: str) -> Header:
    """Raises OSError, and ValueError saying what is wrong with the file."""
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            raise ValueError("not a GGUF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pairs = _Reader(data).pairs()
    architecture = str(pairs.get("general.architecture", ""))
    return Header(
        architecture,
        _number(pairs.get(f"{architecture}.context_length")),
        _number(pairs.get(f"{architecture}.pooling_type")) or None,
    )


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


class _Reader:
    """Walks the pairs. Arrays are stepped over: the vocabulary is one, with a string for each token."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._end = len(data)
        self._at = len(MAGIC)

    def pairs(self) -> dict[str, Any]:
        try:
            version = self._take(_U32)
            if version not in _VERSIONS:
                raise ValueError(f"GGUF version {version} is not known")
            self._take(_U64)
            return {self._string().decode("utf-8", "replace"): self._value() for _ in range(self._take(_U64))}
        except struct.error:
            raise ValueError("the GGUF header is cut short") from None

    def _take(self, form: struct.Struct) -> Any:
        value = form.unpack_from(self._data, self._at)[0]
        self._at += form.size
        return value

    def _skip(self, size: int) -> None:
        if size > self._end - self._at:
            raise ValueError("the GGUF header is cut short")
        self._at += size

    def _string(self) -> bytes:
        size = self._take(_U64)
        start = self._at
        self._skip(size)
        return self._data[start : self._at]

    def _value(self) -> Any:
        kind = self._take(_U32)
        if kind == _STRING:
            return self._string().decode("utf-8", "replace")
        if kind == _ARRAY:
            return self._array()
        return self._take(_scalar(kind))

    def _array(self) -> None:
        kind, count = self._take(_U32), self._take(_U64)
        if kind != _STRING:
            self._skip(_scalar(kind).size * count)
            return
        unpack, at, last = _U64.unpack_from, self._at, self._end
        for _ in range(count):
            at += 8 + unpack(self._data, at)[0]
            if at > last:
                raise ValueError("the GGUF header is cut short")
        self._at = at


def _scalar(kind: int) -> struct.Struct:
    form = _SCALARS.get(kind)
    if form is None:
        raise ValueError(f"the GGUF header has a value of unknown type {kind}")
    return struct.Struct(form)
