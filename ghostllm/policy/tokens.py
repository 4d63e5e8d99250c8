"""Tokens (JWT) as credentials. A token is verified once and then known by the digest of the whole of it,
until it expires or its issuer's keys change.

Verification runs where it is asked for. Only what has to be fetched is waited for: then `identify` gives a
PendingToken, whose `settle` is awaited by whoever serves the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

from ghostllm.config.identity import JwtIssuer
from ghostllm.errors import ConfigError, InvalidKey
from ghostllm.message import Identity
from ghostllm.policy import claims, compact
from ghostllm.policy.compact import Compact, Malformed
from ghostllm.policy.issuers import World
from ghostllm.policy.jwks import RETRY, KeySource, KeysUnavailable
from ghostllm.policy.jwt import verified
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook

MOST_KNOWN = 10_000
"""Verified tokens that are remembered; of more, the oldest is verified again."""


class Known:
    """A token that has been verified: for whom, until when, and by which keys."""

    __slots__ = ("ends", "identity", "source", "version")

    def __init__(self, identity: Principal, ends: float, source: KeySource) -> None:
        self.identity = identity
        self.ends = ends
        self.source = source
        self.version = source.version


class PendingToken:
    """A token whose issuer's keys have to be fetched first."""

    __slots__ = ("_seen", "_source", "_token", "_verifier")

    def __init__(self, verifier: TokenVerifier, token: bytes, source: KeySource) -> None:
        self._verifier = verifier
        self._token = token
        self._source = source
        self._seen = source.finished

    def __repr__(self) -> str:
        return f"<PendingToken {self._source!r}>"

    async def settle(self) -> Identity:
        """Raises InvalidKey, KeysUnavailable."""
        try:
            await self._source.ask(self._seen)
        except TimeoutError:
            raise _unavailable(self._source) from None
        found = self._verifier.identify(self._token)
        if isinstance(found, PendingToken):  # the set has changed while this one was waking up
            raise _unavailable(self._source)
        return found


class TokenVerifier:
    """previous: the one that this one replaces; keys that it has fetched are taken over. Raises ConfigError
    for a key file that cannot be used.
    """

    def __init__(
        self,
        issuers: Sequence[JwtIssuer],
        book: RoleBook,
        world: World,
        previous: TokenVerifier | None = None,
    ) -> None:
        self._book = book
        self._clock = world.clock
        self._known: dict[bytes, Known] = {}
        self._sources: dict[str, KeySource] = {}
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        problems = []
        for issuer in issuers:
            kept = previous._sources.get(issuer.issuer) if previous is not None else None
            try:
                if kept is None or not kept.same_as(issuer):
                    kept = KeySource(issuer, world)
                self._sources[issuer.issuer] = kept
            except ValueError as error:
                problems.append(f"jwt: {issuer.name}: {error}")
        if problems:
            raise ConfigError(problems)

    def __repr__(self) -> str:
        return f"<TokenVerifier {list(self._sources.values())} {len(self._known)} known>"

    def could_be(self, credential: bytes) -> bool:
        """Whether it is a token at all, or rather a key: a JSON object in base64, and two dots."""
        return credential.startswith(b"ey") and credential.count(b".") == 2

    def identify(self, token: bytes) -> Identity | PendingToken:
        """Raises InvalidKey, KeysUnavailable."""
        digest = sha256(token).digest()
        known = self._known.get(digest)
        if known is not None:
            if self._clock() < known.ends and known.version == known.source.version:
                return known.identity
            del self._known[digest]
        try:
            return self._verify(token, digest)
        except Malformed as error:
            raise InvalidKey(f"this token is not accepted: {error}") from None

    async def run(self) -> None:
        """Fetches keys, for ever; for one task of whoever owns this. Nothing is fetched without it."""
        async with asyncio.TaskGroup() as group:
            for name, source in self._sources.items():
                source.issuer = self._issuers[name]  # of one that was taken over `refresh` may be another
                group.create_task(source.run())

    def _verify(self, token: bytes, digest: bytes) -> Identity | PendingToken:
        read = compact.read(token)
        issuer = self._issuers.get(read.issuer)
        if issuer is None:
            raise Malformed("its issuer is not known here")
        if read.algorithm not in issuer.algorithms:
            raise Malformed("its algorithm is not accepted")
        source = self._sources[read.issuer]
        keys = source.candidates(read.kid, read.algorithm)
        if not keys:
            if source.may_ask():
                return PendingToken(self, token, source)
            if not source.loaded:
                raise _unavailable(source)
            raise Malformed("its issuer has no such key")
        if not any(verified(token, key, read.algorithm) == read.payload for key in keys):
            raise Malformed("its signature is wrong")
        return self._admit(read, issuer, source, digest)

    def _admit(self, read: Compact, issuer: JwtIssuer, source: KeySource, digest: bytes) -> Identity:
        """read: with a signature that holds."""
        ends = claims.until(read.claims, issuer, self._clock())
        identity = claims.principal(read.claims, issuer, self._book)
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[digest] = Known(identity, ends, source)
        return identity


def _unavailable(source: KeySource) -> KeysUnavailable:
    return KeysUnavailable(
        f"the keys of the token's issuer ({source.issuer.name}) cannot be fetched just now",
        retry_after=RETRY,
    )
