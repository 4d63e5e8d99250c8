"""Tokens as they are written: three segments, two of them JSON. Read strictly, and believed by nobody yet.

Whatever two readers could take for two different things is refused: a member that stands twice, a number that
is none, an extension that has to be understood.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

LONGEST = 16_384
"""Bytes of a token. Those with a hundred groups in them have some 6,000."""
LONGEST_KID = 512

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_TYPES = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))
"""Of tokens that tell who somebody is. Others (logout+jwt, dpop+jwt) may be signed with the same key."""


class Malformed(ValueError):
    """In words for the client; nothing of the token is in them."""


@dataclass(slots=True, frozen=True)
class Compact:
    """algorithm, kid: as the header has them; kid is "" where it has none. payload: its bytes, of which
    `claims` are read.
    """

    algorithm: str
    kid: str
    issuer: str
    payload: bytes
    claims: dict[str, Any]


def read(token: bytes) -> Compact:
    """Raises Malformed."""
    if len(token) > LONGEST:
        raise Malformed(f"it is longer than {LONGEST} bytes")
    match = _COMPACT.fullmatch(token)
    if match is None:
        raise Malformed("it is not in the compact form of a signed token")
    header = _object(_decoded(match[1]))
    algorithm, kid, kind = header.get("alg"), header.get("kid", ""), header.get("typ", "JWT")
    if not isinstance(algorithm, str):
        raise Malformed("its header names no algorithm")
    if not isinstance(kid, str) or len(kid) > LONGEST_KID:
        raise Malformed("its kid is no text")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Malformed("it is a token of another type")
    if "crit" in header or "b64" in header:
        raise Malformed("it needs an extension that is not known here")
    payload = _decoded(match[2])
    claims = _object(payload)
    issuer = claims.get("iss")
    if not isinstance(issuer, str):
        raise Malformed("it names no issuer")
    return Compact(algorithm, kid, issuer, payload, claims)


def _decoded(segment: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except ValueError:
        raise Malformed("it is not base64url") from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Malformed) else Malformed("it holds no sound JSON") from None
    if not isinstance(value, dict):
        raise Malformed("it holds no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise Malformed("a member of its JSON stands twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise Malformed(f"{text} is no number of JSON")
