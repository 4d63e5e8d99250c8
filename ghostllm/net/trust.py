"""Which peers are proxies whose word on a client's address is taken, and what that word is.

The address decides on limits, anonymous access and what the log says, so it is taken from nobody else: fields
that an untrusted peer sends are ignored, and so is all in them that stands left of an untrusted address.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

from ghostllm.wire.forwarded import forwarded, x_forwarded_for

REMEMBERED = 4096
"""Addresses of which it is remembered whether they are trusted."""


class TrustedProxies:
    """networks: where they are. field: the one that they write; another one of the same meaning may be the
    client's own, passed on.
    """

    def __init__(self, networks: Sequence[str], field: str) -> None:
        self._networks = [ip_network(network) for network in networks]
        self._field = field.encode()
        self._read = forwarded if field == "forwarded" else x_forwarded_for
        self._known: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"<TrustedProxies {len(self._networks)} networks, {self._field.decode()}>"

    def has(self, peer: str) -> bool:
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[peer] = self._find(peer)
        return known

    def client(self, headers: dict[bytes, bytes], proxy: str) -> str:
        """The address of the client that `proxy`, a trusted one, speaks for; its own where it names none."""
        value = headers.get(self._field)
        if value is None:
            return proxy
        client = proxy
        for address in self._read(value.decode("latin-1")):
            if address is None:
                break
            client = address
            if not self.has(address):
                break
        return client

    def _find(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks)
