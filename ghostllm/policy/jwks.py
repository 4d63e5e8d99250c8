"""The public keys of an issuer (JWKS, RFC 7517): from a file, an address, or by OpenID Connect discovery.

They are fetched again after a while, and when a token names a key that is not among them, though not more
often than COOLDOWN allows: tokens cost nothing to invent. What has been fetched is kept until there is
something better; a set that cannot be read replaces nothing. The fetching is done by `run`, not by whoever
waits for it: a client that leaves in the middle must not cost the others their turn.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from ghostllm.config.identity import JwtIssuer
from ghostllm.errors import GhostError
from ghostllm.policy import jwt
from ghostllm.policy.issuers import World
from ghostllm.policy.jwt import VerificationKey

COOLDOWN = 30.0
"""Seconds between two fetches that tokens can cause."""
RETRY = 5.0
"""The same while there are no keys at all."""
PATIENCE = 10.0
"""Seconds that a fetch may take."""
LEAST_WAIT = 1.0
"""Seconds between two fetches, whatever `refresh` says."""
MOST_BYTES = 512 * 1024
MOST_KEYS = 100
WELL_KNOWN = "/.well-known/openid-configuration"


class KeysUnavailable(GhostError):
    """A token may be good, but the keys of its issuer have never been fetched."""

    status = 503
    code = "issuer_unavailable"


class KeySource:
    """The keys of one issuer. version: changes with them. Raises ValueError for a file that holds none."""

    def __init__(self, issuer: JwtIssuer, world: World) -> None:
        self.issuer = issuer
        self.version = 0
        self.finished = 0
        """Fetches, whatever they brought."""
        self._world = world
        self._keys: tuple[VerificationKey, ...] = ()
        self._wanted = False
        self._wake = asyncio.Event()
        self._fetched = asyncio.Event()  # the next fetch is over; replaced by another one then
        self._begun: float | None = None  # the last fetch, in ticks
        self._under_way = False
        self._failing = ""
        self._fixed = issuer.secret is not None
        if issuer.secret is not None:
            self._keys = (jwt.shared_key(issuer.secret.reveal().encode(), issuer.algorithms),)
        elif issuer.jwks_file:
            self._take(key_set(_file(issuer.jwks_file), issuer.algorithms))
            self._begun = world.ticks()

    def __repr__(self) -> str:
        return f"<KeySource {self.issuer.name} {len(self._keys)} keys>"

    def same_as(self, issuer: JwtIssuer) -> bool:
        """Whether it would be built just so for `issuer`."""
        mine = self.issuer
        return (mine.name, mine.issuer, mine.algorithms, mine.secret) == (
            issuer.name, issuer.issuer, issuer.algorithms, issuer.secret,
        ) and (mine.jwks_url, mine.jwks_file, mine.discovery) == (
            issuer.jwks_url, issuer.jwks_file, issuer.discovery,
        )  # fmt: skip

    @property
    def loaded(self) -> bool:
        return bool(self._keys)

    def candidates(self, kid: str, algorithm: str) -> list[VerificationKey]:
        """The keys that may have signed a token: those of its kid, or without one the only one there is."""
        fitting = [key for key in self._keys if algorithm in key.algorithms]
        if self._fixed:
            return fitting
        if kid:
            return [key for key in fitting if key.kid == kid]
        return fitting if len(fitting) == 1 else []

    def may_ask(self) -> bool:
        """Whether a token may cause a fetch now, or wait for one that is under way."""
        if self._fixed:
            return False
        if self._begun is None or self._wanted or self._under_way:
            return True
        return self._world.ticks() - self._begun >= (COOLDOWN if self._keys else RETRY)

    async def ask(self, seen: int) -> None:
        """Waits for a fetch, unless there has been one since `finished` was `seen`. Raises TimeoutError."""
        if self.finished == seen:
            self._wanted = True
            self._wake.set()
            async with asyncio.timeout(PATIENCE + 1):
                await self._fetched.wait()

    def due(self) -> float:
        """Seconds until they are to be fetched; infinite: never, unless somebody asks."""
        if self._wanted:
            return 0.0
        if self._fixed or (self._keys and not self._failing and not self.issuer.refresh):
            return float("inf")
        if self._begun is None:
            return 0.0
        wait = COOLDOWN if self._failing else self.issuer.refresh
        return max(0.0, self._begun + wait - self._world.ticks())

    async def run(self) -> None:
        """Fetches the keys whenever that is due, for ever."""
        while True:
            self._wake.clear()
            if self.due() <= 0:
                await self.refresh()
            wait = self.due()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait == float("inf") else max(LEAST_WAIT, wait)):
                    await self._wake.wait()

    async def refresh(self) -> None:
        """Fetches the keys. Failures are reported, not raised."""
        self._begun = self._world.ticks()
        self._under_way = True
        try:
            async with asyncio.timeout(PATIENCE):
                keys = key_set(await self._body(), self.issuer.algorithms)
        except TimeoutError:
            self._tell(f"no answer within {PATIENCE:g} s")
        except (GhostError, OSError, ValueError) as error:
            self._tell(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        else:
            self._tell("")
            self._take(keys)
        finally:
            self._under_way = False
        self._wanted = False
        self.finished += 1
        self._fetched.set()
        self._fetched = asyncio.Event()

    def _take(self, keys: tuple[VerificationKey, ...]) -> None:
        if _told(keys) != _told(self._keys):
            self._keys = keys
            self.version += 1

    def _tell(self, reason: str) -> None:
        if reason != self._failing:
            self._failing = reason
            self._world.report(self.issuer.name, reason)

    async def _body(self) -> bytes:
        issuer = self.issuer
        if issuer.jwks_file:
            return _file(issuer.jwks_file)
        address = issuer.jwks_url
        if issuer.discovery:
            document = await self._world.fetch(issuer.issuer.rstrip("/") + WELL_KNOWN)
            address = _discovered(document, issuer.issuer)
        return await self._world.fetch(address)


def key_set(body: bytes, algorithms: Collection[str]) -> tuple[VerificationKey, ...]:
    """The usable keys of a JWKS document. Raises ValueError when there is none."""
    keys = _document(body).get("keys")
    if not isinstance(keys, list):
        raise ValueError("this is no key set: it has no list of keys")
    usable, why = [], "it is empty"
    for jwk in keys[:MOST_KEYS]:
        try:
            usable.append(jwt.public_key(jwk if isinstance(jwk, dict) else {}, algorithms))
        except jwt.Unusable as reason:
            why = str(reason)
    if not usable:
        raise ValueError(f"the key set has no usable key: {why}")
    return tuple(usable)


def _discovered(body: bytes, issuer: str) -> str:
    """Where the keys of `issuer` are, by its own document. Raises ValueError."""
    document = _document(body)
    if document.get("issuer") != issuer:  # or one issuer could speak for another (RFC 8414 section 3.3)
        raise ValueError("the discovery document is that of another issuer")
    address = document.get("jwks_uri")
    secure = issuer.startswith("https://")
    if not isinstance(address, str) or not address.startswith(
        "https://" if secure else ("https://", "http://")
    ):
        raise ValueError("the discovery document has no jwks_uri" + (" by https" if secure else ""))
    return address


def _document(body: bytes) -> dict[str, Any]:
    if len(body) > MOST_BYTES:
        raise ValueError(f"the document is longer than {MOST_BYTES} bytes")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the document is no JSON") from None
    if not isinstance(document, dict):
        raise ValueError("the document is no JSON object")
    return document


def _file(path: str) -> bytes:
    """Raises ValueError."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None


def _told(keys: Collection[VerificationKey]) -> set[tuple[str, frozenset[str], tuple[str, ...]]]:
    return {(key.kid, key.algorithms, key.material) for key in keys}
