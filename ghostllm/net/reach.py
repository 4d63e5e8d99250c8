"""Which addresses may be asked on behalf of somebody else, and what an address is, however it is spelled.

Pure: names are not looked up here. An address in another's coat (IPv4 inside IPv6) is judged by what is
inside where a network really carries it there, and refused where it has no business on the open internet.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from ghostllm.errors import AddressRefused
from ghostllm.net.address import Origin

LONGEST_URL = 4096

_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""The last label of what resolvers may read as an IPv4 address: `127.1`, `0x7f.1`, `017700000001`."""
_SAFE = "!$%&'()*+,-./:;=?@_~[]"

_CLOSED = tuple(
    (ipaddress.ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this machine"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's own network"),
        ("127.0.0.0/8", "this machine"),
        ("168.63.129.16/32", "a cloud's own service"),  # Azure's, on an address that looks public
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "reserved for documentation"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("192.168.0.0/16", "a private network"),
        ("198.18.0.0/15", "reserved for tests"),
        ("198.51.100.0/24", "reserved for documentation"),
        ("203.0.113.0/24", "reserved for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/127", "this machine"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "a private network"),
        ("ff00::/8", "multicast"),
        ("2001::/23", "reserved, Teredo among others"),
        ("2001:db8::/32", "reserved for documentation"),
        ("2002::/16", "6to4, an IPv4 address inside"),
        ("3fff::/20", "reserved for documentation"),
    )
)
"""IANA's special-purpose registries (RFC 6890 and what came after it)."""
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True, frozen=True)
class Place:
    """What a URL means. host: in lower case, without brackets and final dot. target: path and query."""

    tls: bool
    host: str
    port: int
    target: str

    @property
    def origin(self) -> Origin:
        return Origin(self.tls, self.host, self.port)

    def __str__(self) -> str:
        """Without path and query: those may hold a credential."""
        return str(self.origin)


def place_of(url: str) -> Place:
    """Raises AddressRefused, in words that do not repeat the URL."""
    if len(url) > LONGEST_URL:
        raise AddressRefused(f"the address is longer than {LONGEST_URL} characters")
    if not url.isprintable() or " " in url or "\\" in url:
        raise AddressRefused("an address has no spaces, backslashes and control characters: write %XX")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused("the address is malformed: its host or its port") from None
    if parts.scheme not in ("http", "https") or not url.lower().startswith(f"{parts.scheme}://"):
        raise AddressRefused("an address begins with https:// or http://")
    if "@" in parts.netloc:
        raise AddressRefused("an address must not hold credentials")
    if port == 0 or parts.netloc.endswith(":"):
        raise AddressRefused("the port must be 1 to 65535")
    tls = parts.scheme == "https"
    host = _host(parts.netloc, parts.hostname or "")
    target = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
    return Place(tls, host, port if port is not None else (443 if tls else 80), target)


def next_place(before: Place, location: str) -> Place:
    """Where a redirect leads. Raises AddressRefused."""
    if not location.isprintable():
        raise AddressRefused("the redirect's address has control characters")
    try:
        after = place_of(urljoin(f"{before}{before.target}", location))
    except ValueError:
        raise AddressRefused("the redirect's address is malformed") from None
    if before.tls and not after.tls:
        raise AddressRefused("the redirect leads from https to http")
    return after


def _host(netloc: str, host: str) -> str:
    host = host.lower()
    if netloc.startswith("["):
        if "%" in host:
            raise AddressRefused("an IPv6 address with a zone means something on its own machine only")
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise AddressRefused("what is in brackets is no IPv6 address") from None
    host = host.removesuffix(".")
    if not host.isascii():
        raise AddressRefused("a host beyond ASCII is written as xn--")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise AddressRefused("an IPv4 address is written as four decimal numbers") from None
    if not _NAME.fullmatch(host):
        raise AddressRefused("the host is no name and no address")
    return host


def closed(address: str) -> str:
    """What kind of address it is that nobody may be sent to; "" for one of the open internet."""
    try:
        found: Address = ipaddress.ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return "link-local"
        inside = found.ipv4_mapped
        if inside is None and found in _NAT64:  # how networks without IPv4 reach the rest of the world
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        found = inside or found
    for network, what in _CLOSED:
        if found in network:
            return what
    if isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL_V6:
        return "reserved"
    return ""


class Reach:
    """What may be reached beside the open internet. allow: networks (`10.1.0.0/16`, `::1/128`), and names of
    hosts that may be at any address (`images.lan`, `*.lan` for all below it). named: hosts as they stand in
    URLs, addresses among them, which open no other name that leads there.
    """

    def __init__(self, allow: Sequence[str] = (), named: Sequence[str] = ()) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._hosts = {_host(f"[{name}]" if ":" in name else name, name) for name in named}
        self._below: list[str] = []
        for one in allow:
            try:
                self._networks.append(ipaddress.ip_network(one))
            except ValueError:
                name = one.lower().removesuffix(".")
                if name.startswith("*."):
                    self._below.append(name[1:])
                else:
                    self._hosts.add(name)

    def __repr__(self) -> str:
        return f"<Reach {len(self._networks)} networks, {len(self._hosts) + len(self._below)} hosts>"

    def trusts(self, host: str) -> bool:
        return host in self._hosts or any(host.endswith(end) for end in self._below)

    def refusal(self, host: str, address: str) -> str:
        """Why `host` at `address` is not to be reached; "": it may be."""
        what = closed(address)
        if not what or self.trusts(host):
            return ""
        try:
            found: Address = ipaddress.ip_address(address)
        except ValueError:
            return what
        if isinstance(found, ipaddress.IPv6Address):
            found = found.ipv4_mapped or found
        return "" if any(found in network for network in self._networks) else what
