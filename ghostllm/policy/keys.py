"""API keys: who is asking, by the key that came with the request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from ghostllm.config.schema import KeyConfig
from ghostllm.errors import InvalidKey
from ghostllm.message import Identity

MISSING = "no API key: send `Authorization: Bearer <key>`"
WRONG = "this API key is not known here"


EVERYBODY = Identity(manage=True)
"""Whoever asks a gateway without keys, which listens on its own machine only: the machine's owner."""


def hash_key(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class KeyRing:
    """Implements ports.Authenticator. Only digests of keys are held; the whole key is hashed, and the digest
    compared in constant time, so neither a prefix nor a digest passes for a key. Without any key everybody is
    anonymous.
    """

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._identities: dict[bytes, tuple[bytes, Identity]] = {}
        for key in keys:
            digest = (
                hash_key(key.key.reveal()) if key.key else bytes.fromhex(key.hash.removeprefix("sha256:"))
            )
            self._identities[digest] = (digest, Identity(key.name, tuple(key.models), key.manage))

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._identities)}>"

    def identify(self, headers: dict[bytes, bytes]) -> Identity:
        if not self._identities:
            return EVERYBODY
        key = _presented(headers)
        if not key:
            raise InvalidKey(MISSING)
        digest = hashlib.sha256(key).digest()
        found = self._identities.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            raise InvalidKey(WRONG)
        return found[1]


def _presented(headers: dict[bytes, bytes]) -> bytes:
    """The key in `Authorization: Bearer`, `x-api-key` (Anthropic's) or `api-key` (Azure's)."""
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip(b" \t")
    return headers.get(b"x-api-key") or headers.get(b"api-key") or b""
