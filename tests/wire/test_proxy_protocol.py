"""The PROXY protocol: both versions, cut at every byte, and what is none of it."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ghostllm.errors import FramingError
from ghostllm.wire.forwarded import plain_address
from ghostllm.wire.proxy_protocol import BINARY_LIMIT, SIGNATURE, TEXT_LIMIT, read_preface

FOUR = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
SIX = st.builds(IPv6Address, st.integers(0, 2**128 - 1))


def text(source: IPv4Address | IPv6Address) -> bytes:
    return f"PROXY TCP{source.version} {source} {source} 56324 443\r\n".encode()


def binary(source: IPv4Address | IPv6Address, extra: bytes = b"", command: int = 0x21) -> bytes:
    addresses = source.packed * 2 + struct.pack("!HH", 56324, 443) + extra
    family = 0x11 if source.version == 4 else 0x21
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


@settings(deadline=None)
@given(FOUR | SIX, st.binary(max_size=40), st.binary(max_size=20))
def test_both_versions_cut_at_every_byte(
    source: IPv4Address | IPv6Address, extra: bytes, rest: bytes
) -> None:
    for header in (text(source), binary(source, extra)):
        for cut in range(len(header)):
            assert read_preface(header[:cut]) == ("", 0)
        assert read_preface(header + rest) == (plain_address(str(source)), len(header))


def test_a_proxy_that_speaks_for_itself() -> None:
    for header in (
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ffff:f::1 ffff:f::1 65535 65535\r\n",
        SIGNATURE + b"\x20\x00\x00\x00",
        binary(IPv4Address("192.0.2.1"), command=0x20),
        SIGNATURE + b"\x21\x00\x00\x02xx",
        SIGNATURE + b"\x21\x12\x00\x0c" + bytes(12),  # a datagram
        SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),  # a socket of the file system
    ):
        assert read_preface(header + b"GET") == ("", len(header))


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 h 1 2\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::1 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%a fe80::1 1 2\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY \r\n",
        b"PROXY " + b"x" * TEXT_LIMIT,
        b"\r\nGET / HTTP/1.1\r\n",
        SIGNATURE[:-1] + b"\r",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1 in binary
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # no such command
        SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),  # no such family
        SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),  # no such transport
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),  # too short for its addresses
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + struct.pack("!BBH", 0x21, 0x11, BINARY_LIMIT + 1),
    ],
)
def test_what_is_no_sound_header_is_refused(header: bytes) -> None:
    with pytest.raises(FramingError, match="PROXY protocol header"):
        read_preface(header)


@settings(deadline=None)
@given(st.binary(max_size=300))
@example(SIGNATURE + b"\x21\x11\xff\xff")
@example(b"PROXY TCP4 \xb2.0.0.1 1.1.1.1 1 2\r\n")
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"):
        try:
            address, size = read_preface(start + data)
        except FramingError:
            continue
        assert size <= len(start + data)
        assert not address or plain_address(address) == address
        if not size:
            assert len(start + data) < BINARY_LIMIT + 16
