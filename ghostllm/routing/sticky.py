"""balance = "sticky": the same key to the same backend, by rendezvous hashing: when a target comes or goes,
only the keys that belong to it move, and each key has its own order of substitutes. Pure, and the same in
every process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from ghostllm import jsonx
from ghostllm.routing.catalog import Target


def order(key: str, targets: Sequence[Target]) -> list[Target]:
    """key: matched exactly. A target gets keys in proportion to its weight; one of weight 0 comes last."""
    return sorted(targets, key=lambda target: -pull(key, f"{target.backend}\0{target.model}", target.weight))


def pull(key: str, name: str, weight: float) -> float:
    """How strongly `name` attracts `key`; the strongest wins, with a chance in proportion to its weight."""
    # -w / ln(u) for u evenly in (0, 1): Schindelhauer and Schomaker's weighted rendezvous.
    return max(weight, 0.0) / -math.log(even(key, name))


def even(*parts: str) -> float:
    """A number evenly in (0, 1), always the same for the same parts."""
    data = "".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")
    # 52 bits and a half: neither end can be reached by rounding.
    return ((int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 12) + 0.5) / 2.0**52


def conversation(fields: Mapping[str, Any]) -> str | None:
    """What names the conversation of a request: the key that the client gives, or a hash of all up to the
    first user message, which is the same on every turn. None: nothing does.
    """
    for name in ("prompt_cache_key", "conversation"):
        value = fields.get(name)
        if isinstance(value, dict):
            value = value.get("id")
        if isinstance(value, str) and value:
            return f"{name}:{value}"
    messages = fields.get("messages") or fields.get("input")
    if isinstance(messages, str):
        opening: list[Any] = [messages]
    elif isinstance(messages, list) and messages:
        users = (at for at, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "user")
        opening = messages[: next(users, 0) + 1]
    else:
        return None
    try:
        head = jsonx.dumps([fields.get("system"), fields.get("instructions"), *opening])
    except (TypeError, ValueError, RecursionError):
        return None  # nested deeper than can be written
    return f"opening:{blake2b(head, digest_size=16).hexdigest()}"
