"""Records of keys on their way between nodes, through a server that is not trusted.

Each has a seal before it, which only who has the nodes' secret can make: who can write to the server can make
no key, and give none another role. What is sealed is checked all the same: it may be of another version.
"""

from __future__ import annotations

import math
import re
from hmac import compare_digest
from typing import Any

from ghostllm import jsonx
from ghostllm.policy.keyhash import DIGEST_BYTES, SEAL_BYTES, KeyHash
from ghostllm.state.keys import KeyRecord, terms_of

LARGEST = 262_144  # bytes: of a key that names as many models as fit into the body that makes it, and more

NAME = re.compile(r"(?!key_)[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
"""No colon: names with one are of tokens (`ISSUER:subject`). What begins with `key_` is an id."""

_ID = re.compile(r"key_[0-9a-f]{16}")
_MEMBERS = frozenset(("id", "name", "digest", "terms", "made", "expires", "revoked"))
_TERMS = frozenset(("roles", "team", "models", "limits", "weight", "priority"))


def seal(record: KeyRecord, hasher: KeyHash) -> bytes:
    """What is known of a key, but for when it was used: that is each node's own."""
    text = jsonx.dumps(
        {
            "id": record.id,
            "name": record.name,
            "digest": record.digest.hex(),
            "terms": record.terms.told(),
            "made": record.made,
            "expires": record.expires,
            "revoked": record.revoked,
        }
    )
    return hasher.seal(text) + text


def unseal(value: bytes, hasher: KeyHash) -> KeyRecord:
    """Raises ValueError for what no node with this secret has written, and for what is no such record."""
    if len(value) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    text = value[SEAL_BYTES:]
    if not compare_digest(value[:SEAL_BYTES], hasher.seal(text)):
        raise ValueError("not sealed with this gateway's state.key_secret")
    told = jsonx.loads(text)
    if not isinstance(told, dict) or told.keys() != _MEMBERS:
        raise ValueError(f"not an object of {', '.join(sorted(_MEMBERS))}")
    terms = told["terms"]
    _check_terms(terms)
    for name, pattern in (("id", _ID), ("name", NAME)):
        if not isinstance(told[name], str) or not pattern.fullmatch(told[name]):
            raise ValueError(f"{name} is none")
    digest = told["digest"]
    if not isinstance(digest, str) or len(digest) != 2 * DIGEST_BYTES:
        raise ValueError("digest is none")
    return KeyRecord(
        id=told["id"],
        name=told["name"],
        digest=bytes.fromhex(digest),
        mark=hasher.mark,
        terms=terms_of({**terms, "weight": float(terms["weight"])}),
        made=_time(told, "made"),
        expires=None if told["expires"] is None else _time(told, "expires"),
        revoked=None if told["revoked"] is None else _time(told, "revoked"),
    )


def _check_terms(terms: Any) -> None:
    if not isinstance(terms, dict) or terms.keys() != _TERMS:
        raise ValueError(f"terms are not an object of {', '.join(sorted(_TERMS))}")
    for name in ("roles", "models"):
        if not isinstance(terms[name], list) or not all(isinstance(one, str) for one in terms[name]):
            raise ValueError(f"terms.{name} is no list of strings")
    for name in ("team", "limits"):
        if not isinstance(terms[name], str):
            raise ValueError(f"terms.{name} is no string")
    if not _number(terms["weight"]) or terms["weight"] < 0.01:
        raise ValueError("terms.weight is no number from 0.01 on")
    if not isinstance(terms["priority"], int) or isinstance(terms["priority"], bool):
        raise ValueError("terms.priority is no integer")


def _time(told: dict[str, Any], name: str) -> float:
    if not _number(told[name]) or told[name] < 0:
        raise ValueError(f"{name} is no time")
    return float(told[name])


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
