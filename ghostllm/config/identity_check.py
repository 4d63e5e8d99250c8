"""What the types of `identity` cannot say: unique names, keys that need or exclude each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ghostllm.config.identity import BUILT_IN_ROLES, Anonymous, JwtIssuer, KeyAccess, Role, moment

Fault = tuple[object, str, str]
"""A section, one of its keys, and what is wrong with it."""

EVERYBODY = "anonymous"
"""The name of clients of a gateway without keys; what is stored for it belongs to nobody."""

_LEAST_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Bytes: as many as the hash has (RFC 7518 section 3.2)."""


def faults(
    roles: Sequence[Role],
    issuers: Sequence[JwtIssuer],
    anonymous: Sequence[Anonymous],
    keys: Mapping[str, KeyAccess],
) -> Iterator[Fault]:
    """keys: by name."""
    known = set(BUILT_IN_ROLES)
    for role in roles:
        if role.name in known:
            yield role, "name", f'"{role.name}" is {_owner_of(role.name)}'
        known.add(role.name)
    for section, key, names in _role_lists(issuers, anonymous, keys):
        for name in names:
            if name not in known:
                yield section, key, f'no role is called "{name}"; there are: {", ".join(sorted(known))}'
    yield from _named(issuers, anonymous, keys)
    for issuer in issuers:
        yield from _issuer(issuer)
    for access in keys.values():
        if access.expires:
            try:
                moment(access.expires)
            except ValueError as error:
                yield access, "expires", f"is no such time: {error}"


def _owner_of(name: str) -> str:
    return "a built-in role" if name in BUILT_IN_ROLES else "the name of another one already"


def _role_lists(
    issuers: Iterable[JwtIssuer], anonymous: Iterable[Anonymous], keys: Mapping[str, KeyAccess]
) -> Iterator[tuple[object, str, Iterable[str]]]:
    sections: list[JwtIssuer | Anonymous | KeyAccess] = [*issuers, *anonymous, *keys.values()]
    for section in sections:
        yield section, "roles", section.roles
    for issuer in issuers:
        for names in issuer.role_map.values():
            yield issuer, "role_map", names


def _named(
    issuers: Iterable[JwtIssuer], anonymous: Iterable[Anonymous], keys: Mapping[str, KeyAccess]
) -> Iterator[Fault]:
    """Two clients of one name would share limits, and see each other's stored responses."""
    seen: set[str] = set()
    addresses: set[str] = set()
    for issuer in issuers:
        if issuer.name in seen:
            yield issuer, "name", f'"{issuer.name}" is the name of another one already'
        if issuer.issuer in addresses:
            yield issuer, "issuer", f'"{issuer.issuer}" stands twice'
        seen.add(issuer.name)
        addresses.add(issuer.issuer)
    taken: set[str] = set()
    for rule in anonymous:
        if rule.name in keys or rule.name in taken:
            yield rule, "name", f'"{rule.name}" is the name of another client already'
        taken.add(rule.name)
    for section, name in [*((rule, rule.name) for rule in anonymous), *((a, n) for n, a in keys.items())]:
        if name.partition(":")[0] in seen and ":" in name:
            yield section, "name", f'"{name}" could be the name of a client with a token of that issuer'
        if name == EVERYBODY and isinstance(section, KeyAccess):
            yield section, "name", f'"{name}" is what clients without a key are called'


def _issuer(issuer: JwtIssuer) -> Iterator[Fault]:
    shared = [algorithm for algorithm in issuer.algorithms if algorithm.startswith("HS")]
    places = [key for key in ("jwks_url", "jwks_file", "discovery") if getattr(issuer, key)]
    if shared and len(shared) < len(issuer.algorithms):
        # With both, a public key could be taken for the shared secret: the oldest hole of JWT.
        yield issuer, "algorithms", "HS* and the others exclude each other"
        return
    if shared:
        yield from _secret(issuer, max(_LEAST_SECRET[algorithm] for algorithm in shared))
        for key in places:
            yield issuer, key, "has no meaning where the algorithms are HS*: the secret is the key"
        return
    if issuer.secret is not None:
        yield issuer, "secret", "has a meaning for HS256, HS384 and HS512 only"
    if len(places) != 1:
        told = " and ".join(places) + " are set" if places else "none is set"
        yield (
            issuer,
            places[1] if places else "jwks_url",
            (f"exactly one of jwks_url, jwks_file and discovery is needed; {told}"),
        )
    if issuer.discovery and not re.fullmatch(r"https?://[^/?#\s@]+(/[^?#\s]*)?", issuer.issuer):
        yield issuer, "discovery", "needs an issuer that is an http(s) address without query and fragment"


def _secret(issuer: JwtIssuer, least: int) -> Iterator[Fault]:
    if issuer.secret is None:
        yield issuer, "secret", "missing: HS* needs the shared secret"
    elif len(issuer.secret.reveal().encode()) < least:
        yield issuer, "secret", f"is too short: these algorithms need {least} bytes"
