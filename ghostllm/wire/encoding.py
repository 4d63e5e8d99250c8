"""Content-Encoding of bodies, undone under a size limit: a few compressed kilobytes can claim gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from ghostllm.errors import BodyTooLarge, RequestError, UnsupportedMediaType
from ghostllm.message import Body
from ghostllm.wire.zstd import ZstdError, new_decompressor

STEP = 1 << 16
PIECE = 256


def decode_body(body: Body, encoding: bytes, limit: int) -> Body:
    """The body without its encodings, at most `limit` bytes.

    Raises BodyTooLarge, RequestError (corrupt or cut short), UnsupportedMediaType (an encoding not known
    here).
    """
    for name in reversed([part.strip(b" \t").lower() for part in encoding.split(b",")]):
        if name in (b"identity", b""):
            continue
        decoder = _DECODERS.get(name)
        if decoder is None:
            accepted = ", ".join(sorted(known.decode() for known in _DECODERS))
            raise UnsupportedMediaType(
                f"content-encoding {name[:40].decode('latin-1')!r}; accepted: {accepted}"
            )
        body = decoder(body, limit)
    return body


def _gunzip(body: Body, limit: int) -> bytes:
    """One or several gzip members, one after the other (RFC 1952 2.2)."""
    out = bytearray()
    data: bytes = bytes(body)
    if not data:
        raise RequestError("the gzip body is empty")
    try:
        while data:
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                piece = member.decompress(data, STEP)
                out += piece
                if len(out) > limit:
                    raise BodyTooLarge(f"the body exceeds {limit} bytes")
                data = member.unconsumed_tail if not member.eof else member.unused_data
                if not member.eof and not piece and not data:
                    raise RequestError("the gzip body is cut short")
    except zlib.error as error:
        raise RequestError(f"the gzip body is corrupt: {error}") from None
    return bytes(out)


def _unzstd(body: Body, limit: int) -> bytes:
    """One or several frames. Fed in small pieces, since the decompressor's output has no other bound: PIECE
    bytes cannot unfold to more than a block (128 KiB) for each three of them (RFC 8878 3.1.1.2).
    """
    assert new_decompressor is not None
    out = bytearray()
    rest = memoryview(body)
    frame = new_decompressor()
    try:
        while rest:
            if frame.eof:
                frame = new_decompressor()
            piece, rest = bytes(rest[:PIECE]), rest[PIECE:]
            while piece:
                out += frame.decompress(piece)
                if len(out) > limit:
                    raise BodyTooLarge(f"the body exceeds {limit} bytes")
                piece = frame.unused_data if frame.eof else b""
                if piece:
                    frame = new_decompressor()
    except ZstdError as error:
        raise RequestError(f"the zstd body is corrupt: {error}") from None
    if not frame.eof:
        raise RequestError("the zstd body is cut short")
    return bytes(out)


_DECODERS: dict[bytes, Callable[[Body, int], bytes]] = {b"gzip": _gunzip, b"x-gzip": _gunzip}
if new_decompressor is not None:
    _DECODERS[b"zstd"] = _unzstd
