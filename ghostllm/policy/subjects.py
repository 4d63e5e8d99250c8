"""Whose use is limited and counted: a key, a team, a model, an address."""

from __future__ import annotations

from typing import NamedTuple

from ghostllm.net.address import neighbourhood


class Subject(NamedTuple):
    """kind: "key", "team", "model" or "address"."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name[:100]!r}"


def address(peer: str) -> Subject:
    """The subject of a client's address: the address itself, of IPv6 the /64 that it is in."""
    return Subject("address", neighbourhood(peer))
