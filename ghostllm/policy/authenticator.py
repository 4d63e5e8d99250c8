"""Who is asking: by a key, by a token, or by where they are. Without any of these set up: `keyless`.

    keys -> tokens -> anonymous

A credential that is neither known nor a placeholder is refused, wherever it comes from: its sender means to
be somebody.
"""

from __future__ import annotations

from typing import Protocol

from ghostllm.errors import InvalidKey
from ghostllm.message import Identity
from ghostllm.policy.anonymous import AnonymousRules
from ghostllm.policy.keyless import somebody
from ghostllm.policy.keys import MISSING, WRONG, KeyRing, presented
from ghostllm.ports import Pending


class Tokens(Protocol):
    """`tokens.TokenVerifier`, which is loaded only where it is wanted."""

    def could_be(self, credential: bytes) -> bool: ...

    def identify(self, token: bytes) -> Identity | Pending: ...


class Authenticator:
    """Implements ports.Authenticator, as a KeyRing alone does, which has less to do. tokens, anonymous: None
    where the configuration has none.
    """

    def __init__(
        self, keys: KeyRing, tokens: Tokens | None = None, anonymous: AnonymousRules | None = None
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._anonymous = anonymous

    def __repr__(self) -> str:
        return f"<Authenticator {self._keys!r} {self._tokens!r} {self._anonymous!r}>"

    @property
    def keyless(self) -> bool:
        """Nobody can be told from anybody else."""
        return self._tokens is None and self._anonymous is None and self._keys.keyless

    def identify(self, headers: dict[bytes, bytes], peer: str = "") -> Identity | Pending:
        """peer: the client's address. Raises InvalidKey. Pending: the answer has to be waited for."""
        if self.keyless:
            return somebody(headers, peer)
        credential = presented(headers)
        if credential:
            tokens = self._tokens
            if tokens is not None and tokens.could_be(credential):
                return tokens.identify(credential)
            identity = self._keys.find(credential)
            if identity is not None:
                return identity
        if self._anonymous is not None:
            anonymous = self._anonymous.identify(peer, credential)
            if anonymous is not None:
                return anonymous
        raise InvalidKey(WRONG if credential else MISSING)
