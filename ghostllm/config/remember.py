"""The schema of what is remembered: answers that are given again, and what several nodes share through Redis.

Part of `schema`, which see for how a field is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ghostllm.config.constraints import Form, Pattern
from ghostllm.config.kinds import Number, Seconds, Secret, Size

Policy = Literal["local", "refuse"]

RedisUrl = Annotated[
    str,
    Pattern(
        r"rediss?://[^\s@/?#]+(?:/[0-9]+)?|unix:///[^\s@?#]+",
        "redis://HOST:PORT/DB, rediss://… for TLS or unix:///PATH, without credentials: user, password",
    ),
]


@dataclass(slots=True, frozen=True, kw_only=True)
class Cache:
    """Answers that are kept and given again to identical requests."""

    backend: Annotated[
        Literal["off", "memory", "redis"],
        '"memory": this process\'s own; "redis": shared with other nodes, with one in memory before it.',
    ] = "off"
    bytes: Annotated[Size, "Most memory for answers; the least recently used go first."] = 67_108_864
    answer_bytes: Annotated[Size, "Largest answer that is kept, as the client got it."] = 1_048_576
    ttl: Annotated[Seconds, "An answer is kept this long, in seconds; 0 = as long as there is room."] = 3600.0
    requests: Annotated[
        Literal["deterministic", "all"],
        '"deterministic": of requests with temperature 0 or a seed, and embeddings; "all": of any request.',
    ] = "deterministic"
    tenant: Annotated[
        Literal["key", "team"], "Whose requests share answers: one key's, or those of all keys of a team."
    ] = "key"


@dataclass(slots=True, frozen=True, kw_only=True)
class ModelCache:
    """What is kept of one model's answers, where it is not as `cache` says."""

    requests: Annotated[
        Literal["off", "deterministic", "all"] | None, "Which requests; unset: cache.requests."
    ] = None
    ttl: Annotated[Seconds | None, "How long, in seconds; unset: cache.ttl."] = None


@dataclass(slots=True, frozen=True, kw_only=True)
class Redis:
    """A Redis or Valkey server that several nodes share (extra "redis")."""

    url: Annotated[RedisUrl | Literal[""], "Where it is; empty: there is none."] = ""
    user: Annotated[str, "Its ACL user; empty: the default one."] = ""
    password: Annotated[Secret | None, "Best as env:NAME or file:PATH."] = None
    tls_verify: Annotated[bool, "Check the server's certificate."] = True
    tls_ca: Annotated[
        str, Form("file"), "PEM file of certificate authorities to trust instead of the system's."
    ] = ""
    prefix: Annotated[
        str,
        Pattern(r"[!-z|~]+", "printable ASCII characters without spaces and braces"),
        "What the names of all its keys begin with: one for each cluster of gateways.",
    ] = "ghostllm"
    timeout: Annotated[Seconds, "Longest that a request waits for it, in seconds."] = 0.05
    pause: Annotated[Seconds, "After a failure it is not asked for this long, in seconds."] = 1.0
    lease: Annotated[
        Seconds, "What a node has taken of a limit is free this long after it died, in seconds."
    ] = 30.0
    limits: Annotated[
        Policy, 'Rate limits while it is away: "local": each node by itself; "refuse": 503.'
    ] = "local"
    budgets: Annotated[
        Policy, 'Budgets while it is away: "local": by each node\'s own books; "refuse": 503.'
    ] = "local"
    queue: Annotated[Number, "Most commands that wait to be sent to it."] = 10_000
