"""Zstandard, where this Python has it: in its own library from 3.14 on, else by the `zstandard` package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Protocol


class Decompressor(Protocol):
    """Reads one frame; what follows it is `unused_data`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes) -> bytes: ...


new_decompressor: Callable[[], Decompressor] | None
ZstdError: type[Exception]

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError

    new_decompressor = ZstdDecompressor
else:
    try:
        import zstandard
    except ImportError:
        new_decompressor, ZstdError = None, ValueError
    else:
        new_decompressor, ZstdError = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
