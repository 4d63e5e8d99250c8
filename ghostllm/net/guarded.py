"""The one client for addresses that somebody else has chosen: an image in a request, a link in a document.

A name is looked up once, and the connection goes to the address that was looked at: a name that means
something else a moment later (DNS rebinding) changes nothing. Every redirect is looked at as the first
address was. No cookie, no credential, no header of a client goes along, and no proxy of the environment is
asked. One time limit is for all of it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ghostllm.config.outbound import Outbound
from ghostllm.errors import AddressRefused, FetchFailed, GhostError, UpstreamConnectError
from ghostllm.message import Pairs, UpstreamRequest
from ghostllm.net.client import Client
from ghostllm.net.fetch import Fetched, fetch_by
from ghostllm.net.lookup import addresses
from ghostllm.net.reach import Place, Reach, next_place, place_of
from ghostllm.net.tls import client_context
from ghostllm.wire.encoding import decode_body

REDIRECTS = frozenset((301, 302, 303, 307, 308))
MOST_ADDRESSES = 4  # of a name are tried, one after the other

Lookup = Callable[[str], Awaitable[list[str]]]


@dataclass(slots=True, frozen=True, kw_only=True)
class Bounds:
    """seconds: for all of it, redirects included. bytes: of the body, also when it was compressed."""

    seconds: float = 10.0
    bytes: int = 1 << 20
    redirects: int = 3


class GuardedClient:
    """tls: how certificates are checked. lookup: the addresses of a name; raises OSError."""

    def __init__(
        self,
        reach: Reach,
        bounds: Bounds,
        *,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup = addresses,
    ) -> None:
        self._reach = reach
        self._bounds = bounds
        self._tls = tls
        self._lookup = lookup

    def __repr__(self) -> str:
        return f"<GuardedClient {self._reach!r} {self._bounds!r}>"

    async def body(self, url: str) -> bytes:
        """The body of a 200 answer. Raises AddressRefused, FetchFailed."""
        return (await self.get(url)).body

    async def get(self, url: str, accept: bytes = b"*/*") -> Fetched:
        """A 200 answer, its Content-Encoding undone. Raises AddressRefused, FetchFailed."""
        place = place_of(url)
        headers: Pairs = (
            (b"accept", accept),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"ghostllm"),
        )
        try:
            async with asyncio.timeout(self._bounds.seconds):
                return self._read(place, await self._follow(place, headers))
        except TimeoutError:
            raise FetchFailed(f"{place} gave no whole answer within {self._bounds.seconds:g} s") from None

    async def _follow(self, place: Place, headers: Pairs) -> Fetched:
        for _ in range(self._bounds.redirects + 1):
            answer = await self._ask(place, headers)
            if answer.status not in REDIRECTS:
                return answer
            location = answer.headers.get(b"location")
            if location is None:
                raise FetchFailed(f"{place} redirects to nowhere")
            place = next_place(place, location.decode("utf-8", "replace"))
        raise FetchFailed(f"more than {self._bounds.redirects} redirects")

    async def _ask(self, place: Place, headers: Pairs) -> Fetched:
        """One answer, from the first of the host's addresses that takes the connection."""
        error: GhostError | None = None
        for address in (await self._open_addresses(place))[:MOST_ADDRESSES]:
            client = Client(place.origin, str(place), tls=self._context(place), address=address)
            request = UpstreamRequest("GET", place.target, headers)
            try:
                return await fetch_by(client, request, seconds=self._bounds.seconds, limit=self._bounds.bytes)
            except UpstreamConnectError as reason:
                error = reason
            except GhostError as reason:
                raise FetchFailed(_told(place, reason)) from None
            finally:
                await client.close()
        assert error is not None
        raise FetchFailed(_told(place, error)) from None

    async def _open_addresses(self, place: Place) -> list[str]:
        """Those of the host's addresses that may be reached, IPv4 first. Raises AddressRefused where there
        are others only.
        """
        if ":" in place.host or place.host.rpartition(".")[2].isdigit():
            found = [place.host]
        else:
            try:
                found = await self._lookup(place.host)
            except OSError as error:
                raise FetchFailed(f"{place.host} cannot be looked up: {error.strerror or error}") from None
        if not found:
            raise FetchFailed(f"{place.host} has no address")
        refusals = {address: self._reach.refusal(place.host, address) for address in found}
        allowed = [address for address, refusal in refusals.items() if not refusal]
        if not allowed:
            raise AddressRefused(
                f"{place.host} is not to be reached from here: {refusals[found[0]]} (outbound.allow)"
            )
        return sorted(allowed, key=lambda address: ":" in address)

    def _context(self, place: Place) -> ssl.SSLContext | None:
        if place.tls and self._tls is None:
            self._tls = client_context()
        return self._tls if place.tls else None

    def _read(self, place: Place, answer: Fetched) -> Fetched:
        if answer.status != 200:
            raise FetchFailed(f"{place} answered {answer.status}")
        encoding = answer.headers.get(b"content-encoding")
        if encoding is not None:
            try:
                answer.body = bytes(decode_body(answer.body, encoding, self._bounds.bytes))
            except GhostError as error:
                raise FetchFailed(f"{place}: {error.message}") from None
        return answer


def guarded_client(config: Outbound, most: int, also: Sequence[str] = ()) -> GuardedClient:
    """most: bytes of one answer. also: hosts that the configuration names elsewhere, which may be anywhere.
    Raises OSError (SSLError too) for a tls_ca that cannot be used.
    """
    tls = client_context(ca_file=config.tls_ca) if config.tls_ca else None
    bounds = Bounds(seconds=config.seconds, bytes=most, redirects=config.redirects)
    return GuardedClient(Reach(config.allow, also), bounds, tls=tls)


def _told(place: Place, error: GhostError) -> str:
    """The client's words, of a server that is no backend."""
    words = error.message.removeprefix("backend ").replace(repr(str(place)), str(place), 1)
    return words if str(place) in words else f"{place}: {words.replace('the backend', 'the server', 1)}"
