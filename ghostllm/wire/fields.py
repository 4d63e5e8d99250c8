"""Header fields: their grammar, in both directions, and which of them end at a proxy.

Lines of fields are looked up before they are scanned: clients and servers repeat themselves, so all but two
or three lines of a head are lines of the one before, and a look-up costs a tenth of a scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ghostllm.errors import FramingError
from ghostllm.message import Pairs

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE = rb"[\t\x20-\x7e\x80-\xff]"

FIELD = re.compile(rb"(" + TOKEN + rb"++):[\t ]*+(" + VALUE + rb"*+)")
FIELD_WITHOUT_UNDERSCORE = re.compile(rb"(" + TOKEN.replace(b"_", b"") + rb"++):[\t ]*+(" + VALUE + rb"*+)")
"""Some servers read `_` in a name as `-`, so `content_length` may mean something to the next one."""
HOST = re.compile(
    rb"(?:[A-Za-z0-9_.~%!$&'()*+,;=-]++|\[[0-9A-Fa-f:.]++(?:%25[A-Za-z0-9_.~-]++)?\])(?::[0-9]{0,5})?"
)
LENGTH = re.compile(rb"[0-9]{1,18}")
"""18 digits fit 64 bits; `int` by itself would take `+3`, `1_0` and spaces."""

UNKNOWN = (b"", b"")
"""What `Fields` gives for a line outside its grammar: no field has an empty name."""

HOP_BY_HOP = frozenset(
    (b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
     b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)  # fmt: skip
"""RFC 9110 7.6.1, and the Proxy-* fields, which end at a proxy."""

CREDENTIALS = frozenset(
    (b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie",
     b"set-cookie")
)  # fmt: skip

_NOT_NOMINATED = CREDENTIALS | {b"host", b"content-length", b"content-type"}
"""Fields that `Connection` cannot make disappear: routing, framing, credentials."""

_BLOCK = re.compile(rb"(?:" + TOKEN + rb"++: " + VALUE + rb"*+\r\n)*+")

REMEMBERED_LINES = 1024
REMEMBERED_BYTES = 128  # of one line; so the memory of one direction stays under half a megabyte


class Fields(dict[bytes, tuple[bytes, bytes]]):
    """Field lines (without line end) -> (name in lower case, trimmed value): those seen lately, and by
    `__missing__` any other.

    line: the grammar of a line, with name and value as its groups. values: grammars that the values of some
    fields must match. What is outside gives UNKNOWN. Lines with credentials are not kept, nor are long ones.
    """

    __slots__ = ("_match", "_values")

    def __init__(self, line: re.Pattern[bytes], values: Mapping[bytes, re.Pattern[bytes]]) -> None:
        self._match = line.fullmatch
        self._values = values

    def __missing__(self, line: bytes) -> tuple[bytes, bytes]:
        match = self._match(line)
        if match is None:
            return UNKNOWN
        name, value = match.groups()
        name = name.lower()
        pair = name, value.rstrip(b" \t")
        if name in self._values and self._values[name].fullmatch(pair[1]) is None:
            return UNKNOWN
        if len(line) <= REMEMBERED_BYTES and name not in CREDENTIALS:
            if (
                len(self) >= REMEMBERED_LINES
            ):  # unlike dropping the least recently used, it costs hits nothing
                self.clear()
            self[line] = pair
        return pair


def joined(fields: Iterable[tuple[bytes, bytes]], single: frozenset[bytes]) -> dict[bytes, bytes]:
    """Repeated fields as one, in order (RFC 9110 5.3; cookies as RFC 9113 8.2.3 joins them).

    Raises FramingError for a repeated field of `single`.
    """
    headers: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in headers:
            headers[name] = value
        elif name in single:
            raise FramingError(f"more than one {name.decode()} field")
        else:
            headers[name] += (b"; " if name == b"cookie" else b", ") + value
    return headers


def field_block(fields: Pairs) -> bytes:
    """The lines of `fields`. Raises ValueError for a name that is no token and for control characters in a
    value: with a line break they would become fields of their own, or a second message.
    """
    block = b"".join([b"%b: %b\r\n" % field for field in fields])
    # The block alone does not show it all: a value with a whole line inside matches too (but then there are
    # more lines than fields), and so does a name that ends in a colon.
    if (
        _BLOCK.fullmatch(block) is None
        or block.count(b"\n") != len(fields)
        or b":" in b"".join([name for name, _ in fields])
    ):
        raise ValueError("a line break, a control character or a name that is no token in a header field")
    return block


def options(value: bytes) -> set[bytes]:
    """The members of a comma-separated list, in lower case."""
    return {option.strip(b" \t") for option in value.lower().split(b",")}


def persistent(connection: bytes | None, minor: int) -> bool:
    """Whether a message of HTTP/1.`minor` with this Connection field leaves its connection open (RFC 9112
    9.3).
    """
    if connection is None:
        return minor == 1
    if connection == b"keep-alive":
        return True
    said = options(connection)
    return b"close" not in said and (minor == 1 or b"keep-alive" in said)


def strip_hop_by_hop(headers: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The fields that may be passed on: without those of one hop and those that Connection nominates."""
    dropped = HOP_BY_HOP
    if b"connection" in headers:
        dropped |= options(headers[b"connection"]) - _NOT_NOMINATED
    return {name: value for name, value in headers.items() if name not in dropped}
