"""Content-Encoding of bodies, undone under a size limit: a few compressed kilobytes can claim gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from ghostllm.errors import BodyTooLarge, RequestError, UnsupportedMediaType
from ghostllm.message import Body

LAYERS_LIMIT = 2  # encodings one over the other; more than one is legal and unheard of
MEMBERS_LIMIT = 1024  # gzip members in one body
STEP = 1 << 16  # bytes in and bytes out of one call, so that no rest is copied again and again

Inflate = Callable[[memoryview], Iterator[bytes]]


def decode_body(body: Body, encoding: bytes, limit: int) -> Body:
    """The body without the encodings that a Content-Encoding field names, at most `limit` bytes; the same
    object if it names none.

    Raises BodyTooLarge, RequestError (corrupt or cut short), UnsupportedMediaType (an encoding not known
    here).
    """
    names = [name.strip(b" \t") for name in encoding.lower().split(b",")]
    names = [name for name in names if name not in (b"", b"identity")]
    if len(names) > LAYERS_LIMIT:
        raise UnsupportedMediaType(f"more than {LAYERS_LIMIT} content encodings, one over the other")
    for name in reversed(names):
        body = _inflated(body, _inflate(name), limit)
    return body


def _inflated(body: Body, inflate: Inflate, limit: int) -> bytearray:
    out = bytearray()
    for piece in inflate(memoryview(body)):
        out += piece
        if len(out) > limit:
            raise BodyTooLarge(f"the body exceeds {limit} bytes")
    return out


def _inflate(name: bytes) -> Inflate:
    if name == b"gzip" or name == b"x-gzip":
        return _gunzip
    from ghostllm.wire import zstd

    if name == b"zstd" and zstd.inflate is not None:
        return zstd.inflate
    accepted = "gzip" if zstd.inflate is None else "gzip, zstd"
    raise UnsupportedMediaType(f"content-encoding {name[:40].decode('latin-1')!r}; accepted: {accepted}")


def _gunzip(data: memoryview) -> Iterator[bytes]:
    """One or several gzip members, one after the other (RFC 1952 2.2)."""
    at = 0
    for _ in range(MEMBERS_LIMIT):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            block = data[at : at + STEP]
            if not block:
                raise RequestError("the gzip body is cut short")
            at += len(block)
            yield from _inflate_block(member, block)
        at -= len(member.unused_data)
        if at == len(data):
            return
    raise RequestError(f"the gzip body has more than {MEMBERS_LIMIT} members")


def _inflate_block(member: zlib._Decompress, block: memoryview | bytes) -> Iterator[bytes]:
    """What `block` holds, but for a few bytes that zlib may keep back until the next; the last bytes of all
    follow before the member's checksum is read.
    """
    while block and not member.eof:
        try:
            yield member.decompress(block, STEP)
        except zlib.error as error:
            raise RequestError(f"the gzip body is corrupt: {error}") from None
        block = member.unconsumed_tail
