"""Zstandard decompression: the standard library's from Python 3.14 on, before that the `zstandard` package
where it is installed. The only module that imports either, and it is imported when the first such body comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ghostllm.errors import RequestError

MAX_WINDOW = 1 << 23  # 8 MiB, all that an HTTP receiver has to hold for a frame (RFC 9659)
MAX_WINDOW_LOG = 23
FRAMES_LIMIT = 1024
STEP = 256
"""Bytes given to `zstandard` at a time. Its output has no limit, and four bytes can stand for 128 KiB: so one
step makes 8 MiB at most.
"""
LIMITED_STEP = 1 << 16  # bytes in and bytes out of one call of the standard library's, which has such a limit

_CUT = "the zstd body is cut short"

Inflate = Callable[[memoryview], Iterator[bytes]]


def _by_standard_library(data: memoryview) -> Iterator[bytes]:
    settings = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
    at = 0
    for _ in range(FRAMES_LIMIT):
        frame = zstd.ZstdDecompressor(options=settings)
        while not frame.eof:
            block = data[at : at + LIMITED_STEP] if frame.needs_input else b""
            if frame.needs_input and not block:
                raise RequestError(_CUT)
            at += len(block)
            try:
                yield frame.decompress(block, LIMITED_STEP)
            except zstd.ZstdError as error:
                raise RequestError(f"the zstd body is corrupt: {error}") from None
        at -= len(frame.unused_data)
        if at == len(data):
            return
    raise RequestError(f"the zstd body has more than {FRAMES_LIMIT} frames")


def _by_package(data: memoryview) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    at = 0
    for _ in range(FRAMES_LIMIT):
        frame = context.decompressobj()
        while not frame.eof:
            block = data[at : at + STEP]
            if not block:
                raise RequestError(_CUT)
            at += len(block)
            try:
                yield frame.decompress(block)
            except zstandard.ZstdError as error:
                raise RequestError(f"the zstd body is corrupt: {error}") from None
        at -= len(frame.unused_data)
        if at == len(data):
            return
    raise RequestError(f"the zstd body has more than {FRAMES_LIMIT} frames")


inflate: Inflate | None = None
"""A body's contents in pieces of bounded size; None where nothing here can decompress zstd."""

try:
    from compression import zstd

    inflate = _by_standard_library
except ImportError:
    try:
        import zstandard

        inflate = _by_package
    except ImportError:
        pass
