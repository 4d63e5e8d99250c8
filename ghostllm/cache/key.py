"""What makes two requests the same: everything that can change the answer, and whose it is.

A key is the model's name, a digest of the tenant, and a digest over all of it, with spaces between: so the
answers of one model and those of one tenant can be found to be forgotten. All of it is

- the tenant, the door, the operation and its form,
- the model that the request comes to, and the kinds of backends behind it: another engine is another answer,
- the parameters that the configuration lays under and over the request,
- the header fields that change what a backend makes of a request,
- every member of the body, in any order and however it is spaced, but for those in LEFT_OUT.

The name that the client used for the model is a member of the body: answers tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from json import loads
from typing import Protocol

from ghostllm import jsonx
from ghostllm.message import Call, Parameters

HEADERS = (b"anthropic-beta", b"anthropic-version", b"openai-beta")
"""Of the fields that backends get to see: `traceparent` and the like are about the transport."""

_OPENAI = frozenset(("stream", "stream_options", "user", "safety_identifier", "metadata"))

LEFT_OUT: Mapping[str, frozenset[str]] = {
    "openai": _OPENAI,
    "responses": _OPENAI | {"store"},
    "anthropic": frozenset(("stream", "metadata")),
    "ollama": frozenset(("stream",)),
}
"""By door, the members that do not count, since the model never sees them:

- stream: an answer that is kept can be given in either form.
- stream_options: says whether a stream tells its usage; that is seen to when it is given.
- user, safety_identifier: who sits before the client, for the provider's watch over abuse. The tenant counts.
- metadata: the client's labels; Anthropic's holds nothing but its `user_id`. A response echoes them: it is
  written anew for each request.
- store: of responses, whether the gateway itself keeps them, which it does for each by itself.

Whatever else a body has counts, known or not. Doors that do not know a member pass it on, so it counts there.
"""

_HEADERS = frozenset(HEADERS)

DIGEST, SHORT = 32, 8  # bytes, of everything and of the tenant alone


class Digest(Protocol):
    """One of hashlib's."""

    def update(self, data: bytes, /) -> None: ...
    def copy(self) -> Digest: ...
    def hexdigest(self) -> str: ...


@dataclass(slots=True, frozen=True)
class Scope:
    """What is not in the request itself. tenant: whose requests share answers. model: the name of the one
    that serves the request, after aliases and splits. kinds: of the backends behind it, with what they call
    the model, each once, sorted.
    """

    tenant: str
    model: str
    kinds: tuple[str, ...] = ()
    parameters: Parameters | None = field(default=None, hash=False)
    begun: dict[tuple[str, str, str], Digest] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Digests over all but the body, of requests without HEADERS: by door, operation and form."""


def key_of(call: Call, scope: Scope, headers: Mapping[bytes, bytes]) -> str | None:
    """None for a body that cannot be told from another: with one member twice, or nested too deeply."""
    left_out = LEFT_OUT[call.door]
    fields = call.fields
    quotes = 0
    try:
        if left_out.isdisjoint(fields):
            body = jsonx.canonical(fields)
        else:
            body = jsonx.canonical({name: value for name, value in fields.items() if name not in left_out})
            rest = jsonx.canonical({name: fields[name] for name in left_out if name in fields})
            quotes = rest.count(b'"')
        if _has_duplicates(call, body.count(b'"') + quotes):
            return None
        digest = _begun(call, scope, headers)
    except (TypeError, ValueError, RecursionError):  # what is nested too deeply is read, but not written
        return None
    digest.update(body)
    return f"{scope.model} {tenant_digest(scope.tenant)} {digest.hexdigest()}"


def _begun(call: Call, scope: Scope, headers: Mapping[bytes, bytes]) -> Digest:
    """A digest over all but the body. Raises as jsonx.canonical does."""
    where = call.door, call.operation, call.form
    usual = _HEADERS.isdisjoint(headers)
    if usual:
        known = scope.begun.get(where)
        if known is not None:
            return known.copy()
    parameters = scope.parameters
    given = [dict(parameters.defaults), dict(parameters.forced)] if parameters else None
    passed = [headers[name].hex() if name in headers else None for name in HEADERS]
    outside = jsonx.canonical([scope.tenant, *where, scope.model, scope.kinds, given, passed])
    digest: Digest = blake2b(outside, digest_size=DIGEST)
    digest.update(b"\n")  # no JSON of one line has one: where the first part ends is beyond doubt
    if usual:
        scope.begun[where] = digest.copy()
    return digest


@lru_cache(maxsize=4096)
def tenant_digest(tenant: str) -> str:
    """What stands for a tenant in its keys: names may hold anything. Two with the same one share no answers,
    but are forgotten together.
    """
    return blake2b(tenant.encode("utf-8", "replace"), digest_size=SHORT).hexdigest()


def parts_of(key: str) -> tuple[str, str]:
    """The model's name and the tenant's digest."""
    model, tenant, _ = key.rsplit(" ", 2)
    return model, tenant


def _has_duplicates(call: Call, quotes: int) -> bool:
    """Whether some object of the body has a member twice: the gateway reads the last, a backend perhaps the
    first, and the answer to one request would be given to another. quotes: marks in the body as it is written
    anew; one that is spelled as it came has as many, unless members are gone.
    """
    body = call.body
    if b"\\u0022" not in body:
        return body.count(b'"') != quotes
    try:
        loads(body, object_pairs_hook=_unique)
    except _Duplicate:
        return True
    return False


class _Duplicate(Exception):
    pass


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Duplicate
