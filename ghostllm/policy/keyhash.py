"""How keys are made, and the only form in which they are kept: a keyed hash, BLAKE2b with a secret of the
gateway. Without the secret a stolen list of hashes is worthless, and nobody outside can choose what a look-up
compares.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b

PREFIX = "gk_"
KEY_BYTES = 32
SECRET_BYTES = 32
DIGEST_BYTES = 32
SEAL_BYTES = 32


def make_key() -> str:
    """A new key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def make_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


class KeyHash:
    """secret: of any length; the same one for all nodes that are to know the same keys."""

    def __init__(self, secret: bytes) -> None:
        own = blake2b(secret, digest_size=SECRET_BYTES).digest()  # as a key BLAKE2b takes 64 bytes at most
        self._keyed = blake2b(key=own, digest_size=DIGEST_BYTES)
        self._seal = blake2b(key=own, digest_size=SEAL_BYTES, person=b"ghostllm-seal")
        self.mark = blake2b(key=own, digest_size=8, person=b"ghostllm-mark").hexdigest()
        """Tells secrets apart without giving them away: what was hashed under another one opens nothing."""

    def __repr__(self) -> str:
        return "<KeyHash>"

    def of_key(self, key: bytes) -> bytes:
        keyed = self._keyed.copy()  # the secret has been taken in already: that is half of the work
        keyed.update(key)
        return keyed.digest()

    def seal(self, text: bytes) -> bytes:
        """What only who has the secret can say of `text`: that it is theirs."""
        sealed = self._seal.copy()
        sealed.update(text)
        return sealed.digest()
