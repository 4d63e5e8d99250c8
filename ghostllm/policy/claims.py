"""What the claims of a token say: whether it holds now and here, and who it is that shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from ghostllm.config.identity import JwtIssuer
from ghostllm.policy.compact import Malformed
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import RoleBook, may_manage

LONGEST_NAME = 256
_PLAIN = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""What names keep as it is, beside letters, digits and _.-~; all else becomes %XX, and so does the %."""


def until(claims: Mapping[str, Any], issuer: JwtIssuer, now: float) -> float:
    """The time at which a token ends that holds now; times are seconds since 1970. Raises Malformed."""
    leeway = issuer.leeway
    ends = _time(claims, "exp")
    if ends is None:
        raise Malformed("it has no expiry")
    if now >= ends + leeway:
        raise Malformed("it has expired")
    begins, made = _time(claims, "nbf"), _time(claims, "iat")
    if begins is not None and now < begins - leeway:
        raise Malformed("it does not hold yet")
    if made is not None and now < made - leeway:
        raise Malformed("it was issued in the future")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in issuer.audience for one in named):
        raise Malformed("it is meant for another audience")
    return ends + leeway


def principal(claims: Mapping[str, Any], issuer: JwtIssuer, book: RoleBook) -> Principal:
    """Raises Malformed."""
    paths = issuer.claims
    name = _text(claims, paths.key)
    if not name:
        raise Malformed(f"it has no claim {paths.key}")
    roles = dict.fromkeys(issuer.roles)  # a set in order
    for there in _words(claims, paths.roles):
        roles.update(dict.fromkeys(issuer.role_map.get(there, ())))
    grants = book.grants(tuple(roles), issuer.models)
    return Principal(
        f"{issuer.name}:{name}", tuple(issuer.models), may_manage(grants),
        roles=tuple(roles), grants=grants, source="token",
        team=_text(claims, paths.team) or issuer.team, limits=_text(claims, paths.limits) or issuer.limits,
    )  # fmt: skip


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Malformed(f"its {name} is no number")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise Malformed(f"its {name} is no time")
    return seconds


def _found(claims: Mapping[str, Any], path: str) -> Any:
    """The value at a path; a claim whose own name has the dots (as URLs have) goes first. None: not there."""
    if not path:
        return None
    if path in claims:
        return claims[path]
    value: Any = claims
    for step in path.split("."):
        if not isinstance(value, dict) or step not in value:
            return None
        value = value[step]
    return value


def _text(claims: Mapping[str, Any], path: str) -> str:
    """As a name without spaces and such; "" where the claim is not there. What is there and is no text is
    refused: whoever it was meant to confine would go free.
    """
    value = _found(claims, path)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise Malformed(f"its claim {path} is no text of at most {LONGEST_NAME} characters")
    try:
        return quote(value, safe=_PLAIN)
    except UnicodeEncodeError:
        raise Malformed(f"its claim {path} is not valid Unicode") from None


def _words(claims: Mapping[str, Any], path: str) -> Iterator[str]:
    value = _found(claims, path)
    if isinstance(value, str):
        yield from value.split()
    elif isinstance(value, list):
        yield from (one for one in value if isinstance(one, str))
