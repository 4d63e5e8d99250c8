"""Keys and signatures of tokens, by PyJWT and cryptography: the extra `jwt`.

Nothing here believes a token. Which algorithms a key is good for is decided by the configuration and by what
kind of key it is; header fields that name or bring keys (jku, x5u, jwk, x5c) are read by nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

if "RS256" not in jwt.algorithms.get_default_algorithms():
    raise ImportError("PyJWT is there without cryptography")

RSA_BITS = 2048, 16_384
"""A smaller modulus is no protection any more; a larger one is work that somebody else chooses for us."""

_PUBLIC = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
"""The members of a public key, by its kty. A shared secret (kty "oct") is never taken from a key set."""
_RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_OF_CURVE = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_JWS = jwt.PyJWS()


class Unusable(ValueError):
    """Why a key of a key set is of no use here."""


@dataclass(slots=True, frozen=True)
class VerificationKey:
    """kid: "" where it has none. algorithms: those that it may verify. material: what makes it this key and
    no other. key: as PyJWT takes it.
    """

    kid: str
    algorithms: frozenset[str]
    material: tuple[str, ...]
    key: Any

    def __repr__(self) -> str:
        return f"<VerificationKey {self.kid!r} {' '.join(sorted(self.algorithms))}>"


def shared_key(secret: bytes, algorithms: Collection[str]) -> VerificationKey:
    """For HS256 and its like."""
    return VerificationKey("", frozenset(algorithms), (), secret)


def public_key(jwk: Mapping[str, Any], algorithms: Collection[str]) -> VerificationKey:
    """A key of a key set (RFC 7517). algorithms: those that are accepted at all. Raises Unusable."""
    kind, kid = jwk.get("kty"), jwk.get("kid", "")
    if not isinstance(kind, str) or kind not in _PUBLIC or not isinstance(kid, str):
        raise Unusable("its kty is none of RSA, EC and OKP")
    if jwk.get("use", "sig") != "sig" or "verify" not in _operations(jwk):
        raise Unusable("it is not for signatures")
    members = {name: jwk.get(name) for name in _PUBLIC[kind]}
    if not all(isinstance(value, str) for value in members.values()):
        raise Unusable(f"members of a {kind} key are missing")
    fitting = _fitting(kind, members) & frozenset(algorithms)
    own = jwk.get("alg")
    if own is not None:
        fitting &= {str(own)}
    if not fitting:
        raise Unusable("it is for none of the algorithms that are accepted")
    try:
        # Only public members go in: of a private key in the wrong place the public half is enough.
        key = jwt.get_algorithm_by_name(min(fitting)).from_jwk({"kty": kind, **members})
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Unusable(f"it is malformed: {error}") from None
    return VerificationKey(kid, fitting, (kind, *map(str, members.values())), key)


def verified(token: bytes, key: VerificationKey, algorithm: str) -> bytes | None:
    """The payload of a token in compact form that `key` has signed with `algorithm`; None: it has not."""
    if algorithm not in key.algorithms:
        return None
    try:
        payload = _JWS.decode_complete(token, key.key, algorithms=[algorithm])["payload"]
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    return bytes(payload)


def _operations(jwk: Mapping[str, Any]) -> Collection[Any]:
    operations = jwk.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else ()


def _fitting(kind: str, members: Mapping[str, Any]) -> frozenset[str]:
    """The algorithms for which a key of this kind is made. Raises Unusable."""
    if kind != "RSA":
        algorithm = _OF_CURVE.get(members["crv"])
        if algorithm is None or (algorithm == "EdDSA") != (kind == "OKP"):
            raise Unusable("its curve is none of P-256, P-384, P-521 and Ed25519")
        return frozenset((algorithm,))
    least, most = RSA_BITS
    try:
        text = members["n"]
        modulus = int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError:
        raise Unusable("its modulus is malformed") from None
    if not least <= modulus.bit_length() <= most:
        raise Unusable(f"its modulus has not {least} to {most} bits")
    return _RSA
