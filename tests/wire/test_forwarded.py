"""X-Forwarded-For and Forwarded, read from the right."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.wire.forwarded import COMMAS, forwarded, plain_address, x_forwarded_for


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:DB8:0::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("_hidden", None),
        ("", None),
        ("192.0.2.256", None),
        ("192.0.2.01", None),
        ("10.1", None),
        ("example.com", None),
        ("192.0.2.1 x", None),
    ],
)
def test_addresses(text: str, address: str | None) -> None:
    assert plain_address(text) == address


def test_x_forwarded_for() -> None:
    assert list(x_forwarded_for("198.51.100.7, bogus,2001:db8::1 , 192.0.2.1:80")) == [
        "192.0.2.1", "2001:db8::1", None, "198.51.100.7",
    ]  # fmt: skip
    assert list(x_forwarded_for("")) == [None]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("for=192.0.2.1", ["192.0.2.1"]),
        ("For=192.0.2.1;proto=http;by=203.0.113.43", ["192.0.2.1"]),
        ("proto=https; for=192.0.2.1 ; host=h", ["192.0.2.1"]),
        ('for="[2001:db8:cafe::17]:4711"', ["2001:db8:cafe::17"]),
        ('for="192.0.2.1:80"', ["192.0.2.1"]),
        ('for="192.0.2.\\1"', ["192.0.2.1"]),
        ("for=192.0.2.43, for=198.51.100.17", ["198.51.100.17", "192.0.2.43"]),
        ('for=192.0.2.43, for=198.51.100.17;ext="a, b;for=6.6.6.6"', ["198.51.100.17", "192.0.2.43"]),
        ("for=_mystery, for=192.0.2.1", ["192.0.2.1", None]),
        ("for=unknown", [None]),
        ("proto=http", [None]),
        ("for=192.0.2.1;for=192.0.2.2", [None]),
        ("for=192.0.2.1;host=x;for=192.0.2.2", [None]),
        ("", [None]),
        ("for=192.0.2.1,", [None]),
        ("for = 192.0.2.1", [None]),
        ("192.0.2.1", [None]),
    ],
)
def test_forwarded(value: str, addresses: list[str | None]) -> None:
    assert list(forwarded(value)) == addresses


@pytest.mark.parametrize(
    "sent", ['for="', 'for="a, for=6.6.6.6', 'x="', '"', 'for=6.6.6.6;x="\\', "=", ",,;"]
)
def test_what_a_client_sends_cannot_hide_what_the_proxy_adds(sent: str) -> None:
    for added in ("for=192.0.2.1", 'for="[2001:db8::1]:1";by=_x', 'for=192.0.2.1;ext="a, for=6.6.6.6"'):
        first = next(forwarded(f"{sent}, {added}"))
        assert first in ("192.0.2.1", "2001:db8::1")


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255), max_size=60))
def test_whatever_a_client_sends_the_last_element_is_the_proxys(sent: str) -> None:
    assert next(forwarded(f"{sent}, for=192.0.2.1")) == "192.0.2.1"
    assert next(x_forwarded_for(f"{sent}, 192.0.2.1")) == "192.0.2.1"


@settings(deadline=None)
@given(st.text(st.sampled_from('for=,;"\\ 1.2[]:_'), max_size=80))
def test_garbage_ends(value: str) -> None:
    for address in islice(forwarded(value), 1000):
        assert address is None or plain_address(address) == address


def test_an_element_of_very_many_commas_is_given_up() -> None:
    assert list(forwarded('for=192.0.2.1;x="' + "," * COMMAS + '"')) == ["192.0.2.1"]
    assert list(forwarded('for=192.0.2.1;x="' + "," * (COMMAS + 1) + '"')) == [None]


FOUR = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
SIX = st.builds(IPv6Address, st.integers(0, 2**128 - 1))


@settings(deadline=None)
@given(st.lists(FOUR | SIX, min_size=1, max_size=5))
def test_what_is_written_is_read(addresses: list[IPv4Address | IPv6Address]) -> None:
    known = [plain_address(str(address)) for address in reversed(addresses)]
    assert list(x_forwarded_for(", ".join(map(str, addresses)))) == known
    nodes = [f'"[{a}]"' if isinstance(a, IPv6Address) else str(a) for a in addresses]
    assert list(forwarded(", ".join(f"for={node}" for node in nodes))) == known
