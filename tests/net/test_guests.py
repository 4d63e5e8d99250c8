"""Whose connections and requests are counted, and who may say that they are somebody else's."""

import pytest

from ghostllm.config.schema import Limits, Server
from ghostllm.errors import AddressFull
from ghostllm.net.address import neighbourhood, place_of
from ghostllm.net.guests import Guests
from ghostllm.net.trust import TrustedProxies

PROXIES = ("192.0.2.0/24", "2001:db8:1::/48")


def guests(**options):
    books = Guests()
    books.configure(Server(limits=Limits(connections_per_address=2, streams_per_address=2), **options))
    return books


def test_one_client_has_the_64_around_its_address():
    assert neighbourhood("198.51.100.7") == "198.51.100.7"
    assert neighbourhood("2001:db8::1") == neighbourhood("2001:db8::ffff:1") == "2001:db8::/64"
    assert neighbourhood("2001:db8:0:1::1") != neighbourhood("2001:db8::1")
    assert neighbourhood("::ffff:198.51.100.7") == "198.51.100.7"
    assert neighbourhood("fe80::1%eth0") == "fe80::/64"
    assert neighbourhood("a:b") == "a:b"


def test_this_machine_is_not_counted():
    assert [place_of(peer) for peer in ("127.0.0.1", "127.8.8.8", "::1", "local")] == [""] * 4
    assert guests().enter("127.0.0.1") is None


@pytest.mark.parametrize(
    ("one", "other"), [("198.51.100.7", "198.51.100.8"), ("2001:db8::1", "2001:db8:0:1::1")]
)
def test_connections_of_an_address(one, other):
    books = guests()
    inside = [books.enter(one), books.enter(one)]
    with pytest.raises(AddressFull, match="too many connections from your address.*2"):
        books.enter(one)
    assert books.enter(other) is not None, "another address has its own"
    inside[0].leave()
    inside[0].leave()
    assert books.enter(one) is not None
    with pytest.raises(AddressFull):
        books.enter(one)


def test_connections_of_a_trusted_proxy_are_not_counted():
    books = guests(trusted_proxies=PROXIES)
    assert all(books.enter("192.0.2.1") for _ in range(10))
    assert not len(books.connections)


def test_requests_in_flight_are_counted_for_whom_the_proxy_names():
    books = guests(trusted_proxies=PROXIES)
    proxied = [books.enter("192.0.2.1") for _ in range(4)]
    direct = books.enter("198.51.100.7")
    assert proxied[0].begin("198.51.100.7") is None
    assert direct.begin("198.51.100.7") is None
    refusal = proxied[1].begin("198.51.100.7")
    assert refusal.status == 429 and "2" in refusal.message and refusal.retry_after
    assert proxied[2].begin("198.51.100.8") is None
    assert proxied[3].begin("192.0.2.1") is None, "a proxy's own are not counted"
    direct.end()
    assert proxied[1].begin("198.51.100.7") is None
    for guest in (*proxied, direct):
        guest.leave()
    assert not len(books.streams) and not len(books.connections)


def test_no_limits():
    books = Guests()
    books.configure(Server(limits=Limits(connections_per_address=0, streams_per_address=0)))
    inside = [books.enter("198.51.100.7") for _ in range(5000)]
    assert all(guest.begin("198.51.100.7") is None for guest in inside)


def test_other_limits_count_those_who_are_there_already():
    books = guests()
    first, _ = books.enter("198.51.100.7"), books.enter("198.51.100.7")
    books.configure(Server(limits=Limits(connections_per_address=1), trusted_proxies=("192.0.2.0/24",)))
    first.leave()
    with pytest.raises(AddressFull, match="limit 1"):
        books.enter("198.51.100.7")
    assert books.speaks_first("192.0.2.1") is False and books.enter("192.0.2.1") is not None


def trust(field="x-forwarded-for"):
    return TrustedProxies(PROXIES, field)


def test_the_client_is_the_first_from_the_right_that_nobody_vouches_for():
    headers = {b"x-forwarded-for": b"6.6.6.6, 198.51.100.7, 192.0.2.9, 2001:db8:1::2"}
    assert trust().client(headers, "192.0.2.1") == "198.51.100.7"
    assert trust().client({}, "192.0.2.1") == "192.0.2.1"
    assert trust().client({b"x-forwarded-for": b"192.0.2.9"}, "192.0.2.1") == "192.0.2.9"
    assert trust().client({b"x-forwarded-for": b"6.6.6.6, unknown, 192.0.2.9"}, "192.0.2.1") == "192.0.2.9"
    assert trust().client({b"x-forwarded-for": b"6.6.6.6, \xff"}, "192.0.2.1") == "192.0.2.1"


def test_only_the_field_that_the_proxies_write_is_read():
    both = {b"x-forwarded-for": b"198.51.100.7", b"forwarded": b"for=198.51.100.8"}
    assert trust().client(both, "192.0.2.1") == "198.51.100.7"
    assert trust("forwarded").client(both, "192.0.2.1") == "198.51.100.8"
    assert trust("forwarded").client({b"x-forwarded-for": b"6.6.6.6"}, "192.0.2.1") == "192.0.2.1"


def test_fields_of_others_are_ignored():
    books = guests(trusted_proxies=PROXIES)
    headers = {b"x-forwarded-for": b"6.6.6.6", b"forwarded": b"for=6.6.6.6"}
    assert books.enter("198.51.100.7").client(headers) == "198.51.100.7"
    assert not books.speaks_first("192.0.2.1")
    speaking = guests(trusted_proxies=PROXIES, proxy_protocol=True)
    assert speaking.speaks_first("192.0.2.1") and not speaking.speaks_first("198.51.100.7")


def test_what_is_remembered_of_addresses_is_bounded():
    known = trust()
    assert sum(known.has(f"10.{n >> 8}.{n & 255}.1") for n in range(9000)) == 0
    assert known.has("192.0.2.1") and not known.has("not an address")
