"""Addresses: where to listen, and the origins of backends."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

PREFIX_BYTES = 8  # of an IPv6 address: whoever has one address has the /64 around it


@dataclass(slots=True, frozen=True)
class Origin:
    """Where an upstream lives. base: path before every request path, without its trailing slash."""

    tls: bool
    host: str
    port: int
    base: str = ""

    @property
    def authority(self) -> str:
        """The Host field: brackets around IPv6, no port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.base}"


def parse_origin(url: str) -> Origin:
    """`http[s]://host[:port][/base]`. Raises ValueError saying what is wrong."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url!r}: the scheme must be http or https")
    if not parts.hostname:
        raise ValueError(f"{url!r}: no host")
    if parts.username or parts.password:
        raise ValueError("a URL must not carry credentials: use api_key")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a query or fragment has no meaning here")
    tls = parts.scheme == "https"
    port = parts.port if parts.port is not None else (443 if tls else 80)
    return Origin(tls, parts.hostname, port, parts.path.rstrip("/"))


def split_listen(address: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port` or `:port` (every interface). Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r}: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address needs brackets, such as [::1]:8080")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a socket bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def peer_name(address: object) -> str:
    """The client's address for logs: IPv4 inside IPv6 unfolded, the zone dropped."""
    if not isinstance(address, tuple) or not address:
        return "local"
    host = str(address[0]).partition("%")[0]
    return host[7:] if host.startswith("::ffff:") and "." in host else host


def neighbourhood(peer: str) -> str:
    """What one client surely has of all addresses: the address itself, of IPv6 the /64 around it."""
    return peer if ":" not in peer else _network(peer)


@lru_cache(4096)
def _network(peer: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    prefix = parsed.packed[:PREFIX_BYTES] + bytes(16 - PREFIX_BYTES)
    return f"{ipaddress.IPv6Address(prefix)}/{PREFIX_BYTES * 8}"


@lru_cache(4096)
def place_of(peer: str) -> str:
    """The neighbourhood that limits count by; "" for this machine itself, which is not counted."""
    return "" if peer == "local" or is_loopback(peer) else neighbourhood(peer)
