"""Issuers of tokens, and what it takes to know their clients; the rest of it is loaded only where the
configuration has some.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ghostllm.config.identity import JwtIssuer
from ghostllm.errors import ConfigError
from ghostllm.policy.roles import RoleBook

if TYPE_CHECKING:
    from ghostllm.policy.tokens import TokenVerifier

Fetch = Callable[[str], Awaitable[bytes]]
"""The body of a 200 answer at an address. Raises GhostError or OSError."""


@dataclass(slots=True, frozen=True, kw_only=True)
class World:
    """What a verifier needs of it. report: the name of an issuer and why its keys could not be fetched, or ""
    when they could be again. clock: seconds since 1970. ticks: seconds of a clock that nobody sets.
    """

    fetch: Fetch
    report: Callable[[str, str], None] = lambda issuer, reason: None
    clock: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic


def hosts(issuers: Sequence[JwtIssuer]) -> list[str]:
    """Those that the configuration itself names for keys. Where a discovery document or a redirect leads from
    there is somebody else's word.
    """
    named = [issuer.issuer if issuer.discovery else issuer.jwks_url for issuer in issuers]
    return [host for address in named if address and (host := urlsplit(address).hostname)]


def token_verifier(
    issuers: Sequence[JwtIssuer], book: RoleBook, world: World, previous: TokenVerifier | None = None
) -> TokenVerifier | None:
    """None without issuers. previous: the one that it replaces. Raises ConfigError."""
    if not issuers:
        return None
    try:
        from ghostllm.policy.tokens import TokenVerifier
    except ImportError:
        raise ConfigError(["jwt: tokens need an extra: pip install 'ghostllm[jwt]'"]) from None
    return TokenVerifier(issuers, book, world, previous)
