"""Whom a connection speaks for, and what each client address has at one time.

This machine's own clients are not counted: a local proxy, a tunnel or a test stands for many. Nor are trusted
proxies; but their requests are, for the addresses that they name.
"""

from __future__ import annotations

from ghostllm.config.schema import Server
from ghostllm.errors import AddressFull
from ghostllm.net.address import place_of
from ghostllm.net.census import Census
from ghostllm.net.trust import TrustedProxies


class Guests:
    """Keeps the books of all connections of a server. `configure` may be called again: what is counted stays,
    and connections that are there go on as they began.
    """

    def __init__(self) -> None:
        self.trust: TrustedProxies | None = None
        self.connections = Census()
        self.streams = Census()
        self._speaks_first = False

    def configure(self, config: Server) -> None:
        self.trust = None
        if config.trusted_proxies:
            self.trust = TrustedProxies(config.trusted_proxies, config.forwarded)
        self.connections.limit = config.limits.connections_per_address
        self.streams.limit = config.limits.streams_per_address
        self._speaks_first = config.proxy_protocol

    def __repr__(self) -> str:
        return f"<Guests {self.connections} {self.streams}>"

    def speaks_first(self, peer: str) -> bool:
        """Whether a connection from `peer` begins with the PROXY protocol."""
        return self._speaks_first and self.trust is not None and self.trust.has(peer)

    def enter(self, peer: str) -> Guest | None:
        """Counts a connection. None: nothing about it counts. Raises AddressFull."""
        if self.trust is not None and self.trust.has(peer):
            return Guest(self, peer, "", self.trust)
        place = place_of(peer)
        if not place:
            return None
        if not self.connections.take(place):
            limit = self.connections.limit
            raise AddressFull(f"too many connections from your address (limit {limit})", retry_after=1)
        return Guest(self, peer, place, None)


class Guest:
    """One connection that counts. place: where it is counted; "": nowhere. trust: it is a proxy's, so that
    its requests are others'.
    """

    __slots__ = ("_guests", "_peer", "_place", "_stream", "_trust")

    def __init__(self, guests: Guests, peer: str, place: str, trust: TrustedProxies | None) -> None:
        self._guests = guests
        self._peer = peer
        self._place = place
        self._trust = trust
        self._stream = ""  # whose the request under way is

    def __repr__(self) -> str:
        return f"<Guest {self._peer} {self._place or 'uncounted'}>"

    def client(self, headers: dict[bytes, bytes]) -> str:
        """The address of the client that a request is from."""
        return self._peer if self._trust is None else self._trust.client(headers, self._peer)

    def begin(self, client: str) -> AddressFull | None:
        """Counts a request of `client`, or says that it has too many."""
        streams, trust = self._guests.streams, self._trust
        place = self._place if trust is None else "" if trust.has(client) else place_of(client)
        if not place or not streams.limit:
            return None
        if not streams.take(place):
            told = f"too many requests in flight from your address (limit {streams.limit})"
            return AddressFull(told, retry_after=1)
        self._stream = place
        return None

    def end(self) -> None:
        """The request is over."""
        if self._stream:
            self._guests.streams.give(self._stream)
            self._stream = ""

    def leave(self) -> None:
        """The connection is over."""
        self.end()
        if self._place:
            self._guests.connections.give(self._place)
            self._place = ""
