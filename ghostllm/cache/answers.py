"""The cache as the gateway uses it: asks whether a request may be answered from memory, finds the answer, and
keeps the new ones.

    question = answers.ask(exchange, model, kinds, model_cache)
    found = answers.find(question, now) or await answers.fetch(question, now)
    if found: answer with found.value.replay(call, int(time()), mint)
    else: a `recorder()` takes what the client is given; then answers.keep(question, exchange, recorder, now)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from time import time
from typing import Any, Protocol

from ghostllm.api.recording import Recorder, load
from ghostllm.cache import policy
from ghostllm.cache.key import Scope, key_of, tenant_digest
from ghostllm.cache.memory import Found, MemoryCache
from ghostllm.cache.refusals import NotCached
from ghostllm.config.remember import Cache, ModelCache
from ghostllm.message import Call, Exchange, Identity, Parameters

MOST_SCOPES = 1024
"""Tenants with models that are remembered: of those with a wildcard, clients choose the names."""

_STAMP = struct.Struct(">d")


class Store(Protocol):
    """Where nodes share answers. Nothing here raises: a store that is away has nothing and keeps nothing."""

    async def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """ttl: seconds; 0: no end. Does not wait."""

    async def flush(self, pattern: str = "*", tenant: str = "*") -> int: ...


class Question:
    """What the cache has to do with one request. state: "bypass" (nothing), else "miss" until something is
    found. look: it may be answered from memory; keep: its answer may be kept. ttl: seconds.
    """

    __slots__ = ("control", "flushes", "keep", "key", "look", "state", "ttl")

    def __init__(self, key: str, control: policy.Control, ttl: float, flushes: int) -> None:
        self.key = key
        self.flushes = flushes  # that there had been when it came
        self.control = control
        self.ttl = ttl
        self.look = bool(key) and not control.no_cache
        self.keep = bool(key)
        self.state: policy.State = "miss" if key else "bypass"


class Answers:
    """store: one that is shared, behind the memory. wall: seconds since 1970."""

    def __init__(self, config: Cache, store: Store | None = None, wall: Callable[[], float] = time) -> None:
        self.config = config
        self.memory: MemoryCache = MemoryCache(config.bytes)
        self._store = store
        self._wall = wall
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._remote_hits = self._unreadable = self._missed = self._bypassed = self._refused = (
            self._flushes
        ) = 0

    def __repr__(self) -> str:
        return f"<Answers {self.memory!r}>"

    def ask(
        self, exchange: Exchange, model: str, kinds: tuple[str, ...], cache: ModelCache | None
    ) -> Question | None:
        """`question` for a call whose parameters are settled. None: of another kind than is ever kept."""
        call = exchange.call
        if call is None or call.operation not in policy.OPERATIONS:
            return None
        scope = self._scope(self.tenant(exchange.identity), model, kinds, call.parameters)
        return self.question(call, scope, exchange.request.headers, cache)

    def _scope(self, tenant: str, model: str, kinds: tuple[str, ...], parameters: Parameters | None) -> Scope:
        """One for all requests that have it, as it remembers the digests that they begin with."""
        known = self._scopes.get((tenant, model))
        if known is None or known.kinds != kinds or known.parameters is not parameters:
            if len(self._scopes) >= MOST_SCOPES:
                self._scopes.clear()
            known = self._scopes[tenant, model] = Scope(tenant, model, kinds, parameters)
        return known

    def tenant(self, identity: Identity) -> str:
        """Whose answers this one gets."""
        if self.config.tenant == "team" and identity.team:
            return f"team:{identity.team}"
        return f"key:{identity.key}"

    def question(
        self, call: Call, scope: Scope, headers: Mapping[bytes, bytes], model: ModelCache | None = None
    ) -> Question:
        """Raises NotCached where only the cache may answer, and it never will."""
        control = policy.read_control(headers)
        requests: str = self.config.requests
        ttl = self.config.ttl
        if model is not None:
            requests = model.requests or requests
            ttl = ttl if model.ttl is None else model.ttl
        key = None
        if not control.no_store and policy.is_cacheable(call, scope.parameters, requests):
            key = key_of(call, scope, headers)
        if key is None:
            self._bypassed += 1
            if control.only_if_cached:
                raise NotCached("this request is not answered from the cache")
        return Question(key or "", control, ttl, self._flushes)

    @property
    def shared(self) -> bool:
        """Whether `fetch` can find anything."""
        return self._store is not None

    def find(self, question: Question, now: float) -> Found | None:
        """In memory. Raises NotCached where only the cache may answer, and there is no other store."""
        found = self.memory.get(question.key, now) if question.look else None
        if found is not None and found.age > question.control.max_age:
            found = None
        if found is not None:
            question.state = "hit"
        elif self._store is None or not question.look:
            self._miss(question)
        return found

    async def fetch(self, question: Question, now: float) -> Found | None:
        """In the shared store, after `find`. Raises NotCached as it does."""
        found = None
        if self._store is not None and question.look:
            data = await self._store.get(question.key)
            if data is not None:
                found = self._read(question, data, now)
        if found is None:
            self._miss(question)
        else:
            question.state = "hit"
        return found

    def recorder(self) -> Recorder:
        return Recorder(self.config.answer_bytes)

    def keep(self, question: Question, exchange: Exchange, recorder: Recorder, now: float) -> bool:
        """Once the client has its whole answer. False: it is not one to be kept, as what was begun before a
        flush is not.
        """
        call = exchange.call
        if not question.keep or call is None or not policy.is_keepable(exchange):
            return False
        if question.flushes != self._flushes:
            return False
        recording = recorder.recording(call, exchange.usage)
        if recording is None:
            self._refused += 1
            return False
        self.memory.put(question.key, recording, now, question.ttl)
        if self._store is not None:
            data = _STAMP.pack(self._wall()) + recording.dump()
            self._store.put(question.key, data, question.ttl)
        return True

    async def flush(self, pattern: str = "*", tenant: str | None = None) -> int:
        """Forgets the answers of models whose names match (fnmatch), of one tenant or of all, here and in the
        shared store: how many. The other nodes' memories are told by whoever calls.
        """
        count = self.forget(pattern, tenant)
        if self._store is None:
            return count
        return max(count, await self._store.flush(pattern, _digest(tenant)))

    def forget(self, pattern: str = "*", tenant: str | None = None) -> int:
        """As `flush`, here only: another node has seen to the shared store."""
        self._flushes += 1
        return self.memory.flush(pattern, _digest(tenant))

    def configure(self, config: Cache) -> None:
        """After a reload; what is kept stays."""
        self.config = config
        self.memory.resize(config.bytes)

    def stats(self) -> dict[str, Any]:
        """hits, misses: of the memory. remote_hits: of the shared store. missed: requests whose answer was in
        neither, or that did not want it. bypassed: those that are never answered from here. refused: answers
        that were too long, or came to no end of their own. unreadable: what another node has kept in another
        way.
        """
        more = {
            "remote_hits": self._remote_hits, "missed": self._missed, "bypassed": self._bypassed,
            "refused": self._refused, "unreadable": self._unreadable, "flushes": self._flushes,
        }  # fmt: skip
        return {**self.memory.stats(), **more}

    def _read(self, question: Question, data: bytes, now: float) -> Found | None:
        """What another node has kept; it is kept here as well."""
        recording = load(data[_STAMP.size :])
        if recording is None:
            self._unreadable += 1
            return None
        age = max(0.0, self._wall() - _STAMP.unpack_from(data)[0])
        if age > question.control.max_age or (question.ttl and age >= question.ttl):
            return None
        self._remote_hits += 1
        self.memory.put(question.key, recording, now, question.ttl, age)
        return Found(recording, age)

    def _miss(self, question: Question) -> None:
        if question.key:
            self._missed += 1
        if question.control.only_if_cached:
            raise NotCached("there is no answer to this request in the cache")


def _digest(tenant: str | None) -> str:
    return "*" if tenant is None else tenant_digest(tenant)
