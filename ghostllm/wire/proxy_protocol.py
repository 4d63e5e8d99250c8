"""The PROXY protocol, versions 1 and 2: what a proxy says of a connection before its first byte.

After the specification in HAProxy's doc/proxy-protocol.txt. As it asks, nothing is guessed: where the header
is expected it must be there, whole and sound, or the connection is refused.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from ghostllm.errors import FramingError
from ghostllm.wire.forwarded import plain_address

TEXT_LIMIT = 107  # bytes of version 1, line end included
BINARY_LIMIT = 4096  # bytes of version 2 after its 16; proxies in use send less than 600

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"

_TEXT = b"PROXY "
_BINARY_HEAD = 16
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_ADDRESS_BYTES = {1: 12, 2: 36, 3: 216}
"""Of both ends with their ports, by family: IPv4, IPv6, sockets of the file system."""

Preface = tuple[str, int]


def read_preface(data: bytes) -> Preface:
    """The client's address and how many bytes said so; ("", 0) while more must come. An address of "" with a
    number: the proxy speaks for itself (a health check), or does not know. Raises FramingError.
    """
    if data[:1] == SIGNATURE[:1]:
        return _binary(data)
    return _text(data)


def _text(data: bytes) -> Preface:
    if data[: len(_TEXT)] != _TEXT[: len(data)]:
        raise FramingError("a PROXY protocol header is expected from this proxy before the request")
    end = data.find(b"\r\n", 0, TEXT_LIMIT)
    if end < 0:
        if len(data) >= TEXT_LIMIT:
            raise FramingError(f"the PROXY protocol header does not end within {TEXT_LIMIT} bytes")
        return "", 0
    words = data[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return "", end + 2
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise FramingError("the PROXY protocol header is not `PROXY TCP4|TCP6 FROM TO PORT PORT`")
    try:
        four = words[1] == "TCP4"
        ends = [str(IPv4Address(word)) if four else _six(word) for word in words[2:4]]
    except ValueError:
        raise FramingError(f"the PROXY protocol header has an address that is not of {words[1]}") from None
    for port in words[4:]:
        if _PORT.fullmatch(port) is None or int(port) > 65535:
            raise FramingError("the PROXY protocol header has a port that is none")
    return ends[0], end + 2


def _six(text: str) -> str:
    IPv6Address(text)
    address = plain_address(text)
    if address is None or "%" in text:
        raise ValueError(text)
    return address


def _binary(data: bytes) -> Preface:
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise FramingError("a PROXY protocol header is expected from this proxy before the request")
    if len(data) < _BINARY_HEAD:
        return "", 0
    command, family = data[12], data[13]
    if command not in (0x20, 0x21):
        raise FramingError("the PROXY protocol header is neither LOCAL nor PROXY of version 2")
    length = int.from_bytes(data[14:16], "big")
    if length > BINARY_LIMIT:
        raise FramingError(f"the PROXY protocol header is longer than {BINARY_LIMIT} bytes")
    kind, transport = family >> 4, family & 15
    if kind > 3 or transport > 2 or (command == 0x21 and length < _ADDRESS_BYTES.get(kind, 0)):
        raise FramingError("the PROXY protocol header has no sound addresses")
    end = _BINARY_HEAD + length
    if len(data) < end:
        return "", 0
    if command == 0x20 or transport != 1:
        return "", end
    if kind == 1:
        return str(IPv4Address(data[16:20])), end
    if kind == 2:
        return _six(str(IPv6Address(data[16:32]))), end
    return "", end
