"""API keys: who is asking, by the key that came with the request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from hmac import compare_digest

from ghostllm.config.identity import moment
from ghostllm.config.schema import KeyConfig
from ghostllm.errors import InvalidKey
from ghostllm.message import Identity
from ghostllm.policy.keyhash import KeyHash, make_secret
from ghostllm.policy.keyless import somebody
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook, may_manage

MISSING = "no API key: send `Authorization: Bearer <key>`"
WRONG = "this API key is not known here"
EXPIRED = "this API key has expired"

NEVER = float("inf")


def hash_key(key: str) -> bytes:
    """What `hash = "sha256:…"` in the configuration stands for."""
    return sha256(key.encode()).digest()


class Held:
    """A key that opens the door. expires: seconds since 1970. used: when it last did; None: not since this
    process began, nor before as far as is known.
    """

    __slots__ = ("digest", "expires", "identity", "used")

    def __init__(
        self, digest: bytes, identity: Identity, expires: float = NEVER, used: float | None = None
    ) -> None:
        self.digest = digest
        self.identity = identity
        self.expires = expires
        self.used = used

    def __repr__(self) -> str:
        return f"<Held {self.identity.key}>"


class MadeKeys:
    """Keys made at run time. held: by their hashes. ever: one has been made, so that a key is asked for even
    when the last of them has been revoked.
    """

    __slots__ = ("ever", "held")

    def __init__(self) -> None:
        self.held: dict[bytes, Held] = {}
        self.ever = False

    def __repr__(self) -> str:
        return f"<MadeKeys {len(self.held)}>"


class KeyRing:
    """Implements ports.Authenticator. Only hashes of keys are held, keyed ones but for keys of which the
    configuration gives the SHA-256; the whole key is hashed, and the hash compared in constant time, so
    neither a prefix nor a hash passes for a key. Without any key everybody is anonymous (`keyless`).

    made: keys made at run time under the same `hasher`; they
    come and go while the ring stays. clock: seconds since 1970.
    """

    def __init__(
        self,
        keys: Sequence[KeyConfig],
        *,
        book: RoleBook | None = None,
        hasher: KeyHash | None = None,
        made: MadeKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hasher = hasher or KeyHash(make_secret())
        self._book = book or RoleBook()
        self._made = made or MadeKeys()
        self._clock = clock
        self._held: dict[bytes, Held] = {}
        self._by_sha256: dict[bytes, Held] = {}
        for key in keys:
            held = self._hold(key)
            (self._held if key.key is not None else self._by_sha256)[held.digest] = held
        self._keyed = bool(keys)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self)}>"

    def __len__(self) -> int:
        return len(self._held) + len(self._by_sha256) + len(self._made.held)

    @property
    def keyless(self) -> bool:
        """No key has ever been set."""
        return not self._keyed and not self._made.ever

    def identify(self, headers: dict[bytes, bytes], peer: str = "") -> Identity:
        if not self._keyed and self.keyless:
            return somebody(headers, peer)
        key = presented(headers)
        if not key:
            raise InvalidKey(MISSING)
        identity = self.find(key)
        if identity is None:
            raise InvalidKey(WRONG)
        return identity

    def find(self, key: bytes) -> Identity | None:
        """Whose key it is; None for an unknown one. Raises InvalidKey for one that has expired."""
        digest = self._hasher.of_key(key)
        held = self._held.get(digest) or self._made.held.get(digest)
        if held is None and self._by_sha256:
            digest = sha256(key).digest()
            held = self._by_sha256.get(digest)
        if held is None or not compare_digest(held.digest, digest):
            return None
        now = self._clock()
        if now >= held.expires:
            raise InvalidKey(EXPIRED)
        held.used = now
        return held.identity

    def _hold(self, key: KeyConfig) -> Held:
        if key.key is not None:
            digest = self._hasher.of_key(key.key.reveal().encode())
        else:
            digest = bytes.fromhex(key.hash.removeprefix("sha256:"))
        roles = tuple(key.roles) or (("admin",) if key.manage else ("user",))
        grants = self._book.grants(roles, key.models)
        identity = Principal(
            key.name, tuple(key.models), may_manage(grants), key.weight, key.priority,
            roles=roles, grants=grants, team=key.team,
        )  # fmt: skip
        return Held(digest, identity, moment(key.expires) if key.expires else NEVER)


def presented(headers: dict[bytes, bytes]) -> bytes:
    """The key in `Authorization: Bearer`, `x-api-key` (Anthropic's) or `api-key` (Azure's)."""
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip(b" \t")
    return headers.get(b"x-api-key") or headers.get(b"api-key") or b""
