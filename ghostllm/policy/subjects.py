"""Whose use is limited and counted: a key, a team, a model, an address."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple

PREFIX_BYTES = 8  # of an IPv6 address: whoever has one address has the /64 around it


class Subject(NamedTuple):
    """kind: "key", "team", "model" or "address"."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name[:100]!r}"


def address(peer: str) -> Subject:
    """The subject of a client's address: the address itself, of IPv6 the /64 that it is in."""
    return Subject("address", peer) if ":" not in peer else _network(peer)


@lru_cache(4096)
def _network(peer: str) -> Subject:
    try:
        parsed = IPv6Address(peer.partition("%")[0])
    except ValueError:
        return Subject("address", peer)
    if parsed.ipv4_mapped is not None:
        return Subject("address", str(parsed.ipv4_mapped))
    prefix = parsed.packed[:PREFIX_BYTES] + bytes(16 - PREFIX_BYTES)
    return Subject("address", f"{IPv6Address(prefix)}/{PREFIX_BYTES * 8}")
