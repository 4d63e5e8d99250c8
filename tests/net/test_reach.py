"""Which addresses may be asked for somebody else: every spelling of the closed ones is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.errors import AddressRefused
from ghostllm.net.reach import LONGEST_URL, Reach, closed, next_place, place_of

CLOSED = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::8.8.8.8", "100::1",
    "2001::1", "2001:0:5ef5:79fd::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1",
    "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1",
)  # fmt: skip
OPEN = ("1.1.1.1", "8.8.8.8", "172.32.0.1", "172.15.255.255", "100.128.0.1", "192.0.1.1", "223.255.255.255",
        "2606:4700::1111", "2a00:1450:4001::200e", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")  # fmt: skip


@pytest.mark.parametrize("address", CLOSED)
def test_addresses_that_are_not_of_the_open_internet_are_closed(address):
    assert closed(address)
    assert Reach().refusal("name.example", address)


@pytest.mark.parametrize("address", OPEN)
def test_those_that_are_stay_open(address):
    assert closed(address) == ""
    assert Reach().refusal("name.example", address) == ""


@given(st.ip_addresses())
def test_nothing_is_open_that_python_knows_not_to_be_global(address):
    """The standard library's table is the oracle: ours may only be stricter, but for NAT64."""
    told = closed(str(address))
    assert (
        told
        or address.is_global
        or address in ipaddress.ip_network("64:ff9b::/96")
        or (address.version == 6 and address.ipv4_mapped is not None and address.ipv4_mapped.is_global)
    )


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_in_every_coat(address):
    inside = int(address)
    for coat in (f"::ffff:{address}", str(ipaddress.IPv6Address((0x64FF9B << 96) | inside))):
        assert closed(coat) == closed(str(address))
    for coat in ((0x2002 << 112) | inside << 80, inside, (0x20010000 << 96) | inside):
        assert closed(str(ipaddress.IPv6Address(coat)))


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "::g"])
def test_what_is_no_address_is_closed(text):
    assert closed(text) and Reach(["0.0.0.0/0", "::/0"]).refusal("name.example", text)


# --- the allow list


def test_a_network_opens_its_own_addresses_only():
    reach = Reach(["10.1.0.0/16", "fd00:1::/32"])
    assert reach.refusal("a.example", "10.1.2.3") == "" == reach.refusal("a.example", "fd00:1::5")
    assert reach.refusal("a.example", "::ffff:10.1.2.3") == ""
    assert reach.refusal("a.example", "10.2.0.1") and reach.refusal("a.example", "127.0.0.1")


def test_a_name_may_be_anywhere_and_others_not():
    reach = Reach(["Images.LAN.", "*.corp.example"])
    assert reach.refusal("images.lan", "192.168.0.9") == "" == reach.refusal("a.corp.example", "10.0.0.1")
    for other in ("x.images.lan", "images.lan.evil.example", "corp.example", "evilcorp.example"):
        assert reach.refusal(other, "10.0.0.1"), other


def test_an_address_that_is_named_opens_itself_and_no_name_for_it():
    reach = Reach(named=["127.0.0.1", "Keys.LAN.", "FD00::0:1"])
    for host, address in (("127.0.0.1", "127.0.0.1"), ("keys.lan", "10.0.0.1"), ("fd00::1", "fd00::1")):
        assert reach.refusal(host, address) == ""
    assert reach.refusal("localhost", "127.0.0.1") and reach.refusal("127.0.0.2", "127.0.0.2")


# --- spellings

SPELLINGS = (
    "http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://0x7f.0.0.1/", "http://127.1/",
    "http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.1.1/", "http://1.2.3.256/", "http://0x/",
    "http://256.256.256.256/", "http://a.0x7f/", "http://a.1/", "http://[::1%25eth0]/", "http://[fe80::1%eth0]/",
    "http://[::1/", "http://[127.0.0.1]/", "http://[v1.a]/", "http://user@host/", "http://user:pw@host/",
    "http://@host/", "http://safe.example@127.0.0.1/", "http://safe.example:80@127.0.0.1/",
    "http://127.0.0.1\\@safe.example/", "http:\\\\127.0.0.1/", "http:/127.0.0.1/", "http:127.0.0.1",
    "//127.0.0.1/", "http:///path", "http://", "", "host", "ftp://host/", "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_x", "data:text/plain,x", "unix:/run/x", "http+unix://x/", "javascript:alert(1)",
    "http://host:0/", "http://host:65536/", "http://host:-1/", "http://host:/", "http://host:8 0/",
    "http://ho st/", "http://host/\r\nx: y", "http://host/\x00", "http://host\t.example/", " http://host/",
    "http://１２７.0.0.1/", "http://127。0。0。1/", "http://ⓛocalhost/", "http://münchen.example/",
    "http://loc%61lhost/", "http://%31%32%37.0.0.1/", "http://-a.example/", "http://a..example/",
    "http://.example/", "http://..", "http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/",
    "http://host/" + "x" * LONGEST_URL,
)  # fmt: skip


@pytest.mark.parametrize("url", SPELLINGS)
def test_odd_spellings_are_refused_before_anything_is_looked_up(url):
    with pytest.raises(AddressRefused) as refusal:
        place_of(url)
    assert "pw" not in refusal.value.message


@pytest.mark.parametrize(
    ("url", "host", "port", "target"),
    [
        ("https://Images.Example./a.png?b=c#d", "images.example", 443, "/a.png?b=c"),
        ("HTTP://127.0.0.1", "127.0.0.1", 80, "/"),
        ("http://[::FFFF:7f00:1]:8080/x", "::ffff:127.0.0.1", 8080, "/x"),
        (
            "https://xn--mnchen-3ya.example/ü b".replace(" ", "%20"),
            "xn--mnchen-3ya.example",
            443,
            "/%C3%BC%20b",
        ),
        ("http://host_name.example/%41?x=%zz", "host_name.example", 80, "/%41?x=%zz"),
        ("http://localhost./", "localhost", 80, "/"),
    ],
)
def test_what_an_address_means(url, host, port, target):
    place = place_of(url)
    assert (str(ipaddress.ip_address(place.host)) if ":" in host else place.host, place.port) in (
        (host, port), (str(ipaddress.ip_address(host)) if ":" in host else host, port)
    )  # fmt: skip
    assert place.target == target
    assert "b=c" not in str(place)


@given(st.text(max_size=60), st.sampled_from(["http://", "https://", "HTTP://", "http://[", ""]))
def test_whatever_is_read_is_plain(text, scheme):
    """Either it is refused, or host, port and path can go into a request head as they are."""
    try:
        place = place_of(scheme + text)
    except AddressRefused:
        return
    line = f"{place.host}{place.target}"
    assert line.isascii() and line.isprintable() and " " not in line
    assert 1 <= place.port <= 65535 and place.target.startswith("/")
    assert not set(place.host) & set("@/\\?#%[]") and not place.host.endswith(".")


@given(st.ip_addresses(v=4), st.data())
def test_every_spelling_of_an_ipv4_address_is_itself_or_refused(address, data):
    numbers = [int(part) for part in str(address).split(".")]
    kept = data.draw(st.integers(1, 4))
    last = int.from_bytes(bytes(numbers[kept - 1 :]), "big")
    parts = [*numbers[: kept - 1], last]
    shown = [data.draw(st.sampled_from(["%d", "0x%x", "0%o", "0x%08x", "00%d"])) % part for part in parts]
    host = ".".join(shown) + data.draw(st.sampled_from(["", "."]))
    try:
        place = place_of(f"http://{host}/")
    except AddressRefused:
        return
    assert place.host == str(address)


# --- redirects


@pytest.mark.parametrize(
    "location",
    ["http://b.example/", "file:///etc/passwd", "https://u:p@b.example/", "https://127.1/", "//[::1%25lo]/",
     "https://b.example:0/", "http:\\\\b.example", "https://b.example/\r\nx", "https://[/", "\x7f"],
)  # fmt: skip
def test_a_redirect_is_held_to_the_same_and_keeps_its_encryption(location):
    with pytest.raises(AddressRefused):
        next_place(place_of("https://a.example/x/y"), location)


@pytest.mark.parametrize(
    ("location", "meant"),
    [("/z", "https://a.example/z"), ("z", "https://a.example/x/z"), ("?q", "https://a.example/x/y?q"),
     ("//b.example/z", "https://b.example/z"), ("https://b.example", "https://b.example/")],
)  # fmt: skip
def test_a_redirect_may_be_relative(location, meant):
    place = next_place(place_of("https://a.example/x/y"), location)
    assert f"{place}{place.target}" == meant
