"""Calls to models, of every door: from the request's body to the generation that answers it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

from ghostllm.api.calls import check_depth
from ghostllm.api.doors import DOORS
from ghostllm.api.ids import mint
from ghostllm.api.splice import edit
from ghostllm.config.traffic import SplitConfig
from ghostllm.errors import BodyTooLarge, GhostError, UnsupportedMediaType
from ghostllm.gateway.attempts import FORWARDED
from ghostllm.gateway.deferred import Deferred
from ghostllm.gateway.detached import Unseen
from ghostllm.gateway.generation import Generation
from ghostllm.gateway.permission import require_model
from ghostllm.gateway.pulse import Pulse
from ghostllm.gateway.sharing import Key, Shared
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Body, Call, Exchange, Identity, Request
from ghostllm.ports import Accounts, Door, Responder, Work
from ghostllm.routing import sticky
from ghostllm.routing.arms import Arms
from ghostllm.routing.catalog import Model
from ghostllm.routing.router import Router
from ghostllm.wire.encoding import decode_body

SHADOW = Identity("shadow")
"""Whose requests the copies are: nobody's."""


class Generator:
    """Begins generations, and keeps what they share: the router, the splits, the calls that may be joined.
    accounts: None where nothing is limited and nothing written down.
    """

    def __init__(self, router: Router, accounts: Accounts | None = None) -> None:
        self.router = router
        self.accounts = accounts
        self.chance = router.chance
        self.pulse = Pulse(router)
        self.mint = mint
        self.splits: dict[str, Arms | None] = {}
        self._shared: dict[Key, Shared] = {}

    def begin(
        self, snapshot: Snapshot, door: Door, operation: str, exchange: Exchange, responder: Responder
    ) -> Work:
        """Raises GhostError for the client."""
        exchange.call = read_call(snapshot, door, operation, exchange.request)
        return self.generate(snapshot, door, exchange, responder)

    def generate(self, snapshot: Snapshot, door: Door, exchange: Exchange, responder: Responder) -> Work:
        """Answers the exchange's call. Raises GhostError for the client."""
        if exchange.identity.confined:
            assert exchange.call is not None
            require_model(snapshot, exchange, exchange.call.model)
        return self.once_booked(
            snapshot, exchange, responder, lambda: self._begin(snapshot, door, exchange, responder)
        )

    def _begin(self, snapshot: Snapshot, door: Door, exchange: Exchange, responder: Responder) -> Work:
        if snapshot.coalesces:
            call = exchange.call
            assert call is not None
            model = snapshot.catalog().find(call.model)
            if model is not None and model.config is not None and model.config.coalesce:
                return self._join(snapshot, door, exchange, responder)
        generation = Generation(self, snapshot, door, exchange, responder)
        generation.start()
        return generation

    def once_booked(
        self, snapshot: Snapshot, exchange: Exchange, responder: Responder, begin: Callable[[], Work]
    ) -> Work:
        """Begins the exchange's call when what it may use has been booked: at once, unless other nodes have
        to be asked. Raises GhostError for the client.
        """
        waiting = self._reserve(snapshot, exchange)
        return begin() if waiting is None else Deferred(responder, waiting, begin)

    def _reserve(self, snapshot: Snapshot, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """See ports.Accounts."""
        accounts = self.accounts
        if accounts is None or not (accounts.limited or exchange.identity.limits):
            return None
        call = exchange.call
        assert call is not None
        model = snapshot.catalog().find(call.model)
        if model is None:
            return accounts.reserve(exchange, "", None)
        return accounts.reserve(exchange, model.name, model.parameters)

    # --- calls that are shared

    def _join(self, snapshot: Snapshot, door: Door, exchange: Exchange, responder: Responder) -> Work:
        call = exchange.call
        assert call is not None
        key = _share_key(exchange, call)
        shared = self._shared.get(key)
        if shared is not None:
            return shared.join(exchange, responder)
        own = Exchange(exchange.request, exchange.request_id, exchange.received)
        own.identity, own.route, own.door, own.call = exchange.identity, exchange.route, exchange.door, call
        own.group = exchange.group
        shared = self._shared[key] = Shared(own, lambda: self._unshare(key))
        follower = shared.join(exchange, responder)
        generation = Generation(self, snapshot, door, own, shared)
        shared.work = generation
        try:
            generation.start()
        except GhostError:
            self._unshare(key)
            raise
        return follower

    def _unshare(self, key: Key) -> None:
        self._shared.pop(key, None)

    # --- split models

    def arms(self, model: Model) -> Arms | None:
        """None: its requests are not shared between variants."""
        try:
            return self.splits[model.name]
        except KeyError:
            arms = None
            if model.config is not None:
                split = model.config.split
                if split.arms or split.canary.model or split.shadow.model:
                    arms = Arms(model.name, split, time.monotonic())
            self.splits[model.name] = arms
            return arms

    def retune(self, splits: Mapping[str, SplitConfig]) -> None:
        """The configuration has changed. splits: by the models' names. Those that are as they were go on."""
        for name, arms in list(self.splits.items()):
            if arms is None or splits.get(name) != arms.config:
                del self.splits[name]

    def split(self, snapshot: Snapshot, arms: Arms, exchange: Exchange) -> str:
        """The model that serves this request; its shadow is sent on its way."""
        key = _caller(arms, exchange)
        if exchange.identity is not SHADOW and arms.mirrors(key):
            self._mirror(snapshot, arms, exchange)
        return arms.pick(key)

    def booked(self, model: str, outcome: str, now: float, exchange: Exchange) -> None:
        """The request of a split model is over."""
        arms = self.splits.get(model)
        if arms is not None and exchange.identity is not SHADOW:
            arms.ended(exchange.arm, outcome, now, _first_token(exchange))

    def _mirror(self, snapshot: Snapshot, arms: Arms, exchange: Exchange) -> None:
        call = exchange.call
        assert call is not None
        copy = Exchange(exchange.request, f"{exchange.request_id}-shadow", time.monotonic())
        copy.identity, copy.door = SHADOW, exchange.door

        def ended(done: Exchange) -> None:
            arms.mirrored(done.outcome, _first_token(done))

        try:
            copy.call = _renamed(call, arms.config.shadow.model)
            uncached = snapshot.uncached()  # it is the model that is on trial
            generation = Generation(self, uncached, DOORS[call.door], copy, Unseen(copy, ended))
            generation.mute = True
            generation.start()
        except GhostError:
            copy.outcome = "error"
            ended(copy)


def _renamed(call: Call, model: str) -> Call:
    """The same of another model, whose name its body has as well."""
    body = b"".join(edit(call.body, call.fields, {"model": model}))
    return replace(call, model=model, body=body, fields={**call.fields, "model": model})


def _caller(arms: Arms, exchange: Exchange) -> str:
    """What stays with its arm."""
    call = exchange.call
    assert call is not None
    if arms.config.by == "key":
        return exchange.identity.key
    if arms.config.by == "conversation":
        return sticky.conversation(call.fields) or exchange.request_id
    return exchange.request_id


def _first_token(exchange: Exchange) -> float | None:
    """Seconds from the head of the request to its first content, waits for a turn aside."""
    if exchange.committed is None:
        return None
    return max(0.0, exchange.committed - exchange.received - exchange.queued)


def _share_key(exchange: Exchange, call: Call) -> Key:
    """Equal for requests that must be answered alike, and are of the same key's clients: an answer that is
    fresh enough for one is not for everybody.
    """
    headers = exchange.request.headers
    passed = tuple((name, headers[name]) for name in sorted(FORWARDED) if name in headers)
    where = call.door, exchange.request.path, headers.get(b"cache-control")
    return exchange.identity.key, where, call.operation, call.form, bytes(call.body), passed


def read_call(snapshot: Snapshot, door: Door, operation: str, request: Request) -> Call:
    """The call that a request's body is. Raises GhostError for the client."""
    body = body_of(request, snapshot.body_bytes)
    call = door.read_call(operation, body)
    check_depth(body, call.fields, snapshot.json_depth)
    return call


def body_of(request: Request, limit: int) -> Body:
    """The JSON body."""
    headers = request.headers
    kind = headers.get(b"content-type", b"application/json")
    if kind != b"application/json":
        kind = kind.partition(b";")[0].strip().lower()
        if kind != b"application/json" and not kind.endswith(b"+json"):
            raise UnsupportedMediaType(
                f"content-type must be application/json, not {kind.decode('latin-1')!r}"
            )
    return decoded_body(request, limit)


def decoded_body(request: Request, limit: int) -> Body:
    """The body, its Content-Encoding undone."""
    encoding = request.headers.get(b"content-encoding")
    if encoding is None:
        return request.body
    try:
        return decode_body(request.body, encoding, limit)
    except BodyTooLarge as error:
        raise BodyTooLarge(f"decompressed, {error.message}") from None
