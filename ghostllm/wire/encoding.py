"""Content-Encoding of bodies, undone under a size limit: a few compressed kilobytes can claim gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from ghostllm.errors import BodyTooLarge, RequestError, UnsupportedMediaType
from ghostllm.message import Body

STEP = 1 << 16


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


_DECODERS: dict[bytes, Callable[[Body, int], bytes]] = {b"gzip": _gunzip, b"x-gzip": _gunzip}
