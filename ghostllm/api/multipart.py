"""Where a field of a `multipart/form-data` body lies (RFC 7578), so that it can be read and replaced without
a copy of what may be an hour of speech.
"""

from __future__ import annotations

import re

from ghostllm.errors import RequestError
from ghostllm.message import Body

PARTS_LIMIT = 1000
HEAD_LIMIT = 8192  # bytes of the header fields of one part

_BOUNDARY = re.compile(
    rb";[ \t]*boundary=(?:\"([^\"\\\r\n]{1,70})\"|([!#$%&'*+.^_`|~0-9A-Za-z-]{1,70}))[ \t]*(?:;|$)",
    re.IGNORECASE,
)
_PARAMETER = rb"[ \t]*;[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:\"([^\"\r\n]*)\"|([^\s;\"]+))"
_DISPOSITION = re.compile(
    rb"^content-disposition:[ \t]*form-data((?:%b)*)" % _PARAMETER, re.IGNORECASE | re.MULTILINE
)
_PARAMETERS = re.compile(_PARAMETER)


def boundary_of(content_type: bytes) -> bytes:
    """The boundary that a Content-Type names. Raises RequestError."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise RequestError("content-type multipart/form-data must name its boundary")
    return match[1] or match[2]


def find_field(body: Body, boundary: bytes, name: str) -> tuple[int, int] | None:
    """Start and end of the value of the field `name`; None if there is none. Raises RequestError for a body
    that is not multipart, is cut short, or has the field twice: two readers could each take another one.
    """
    delimiter = b"--" + boundary
    found: tuple[int, int] | None = None
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise RequestError("the multipart body does not begin with its boundary")
    for _ in range(PARTS_LIMIT):
        at += len(delimiter)
        if body[at : at + 2] == b"--":
            return found
        if body[at : at + 2] != b"\r\n":
            raise RequestError("the multipart body has a boundary with something behind it")
        start = body.find(b"\r\n\r\n", at, at + HEAD_LIMIT)
        end = body.find(b"\r\n" + delimiter, start + 2) if start >= 0 else -1
        if end < 0:
            raise RequestError("the multipart body is cut short: a part has no end")
        if _name(body, at + 2, start + 2) == name.encode():
            if found is not None:
                raise RequestError(f"the multipart body has the field {name!r} twice", param=name)
            found = min(start + 4, end), end
        at = end + 2
    raise RequestError(f"the multipart body has more than {PARTS_LIMIT} parts")


def _name(body: Body, start: int, end: int) -> bytes | None:
    """The name in a part's header fields. Read parameter by parameter: a file's name may hold anything."""
    disposition = _DISPOSITION.search(body, start, end)
    if disposition is None:
        return None
    for parameter, quoted, plain in _PARAMETERS.findall(disposition[1]):
        if parameter.lower() == b"name":
            return bytes(quoted or plain)
    return None
