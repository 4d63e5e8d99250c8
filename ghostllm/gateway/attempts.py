"""The attempts of one call: each on one target, one after the other, until one answers in full or none is
left. A stream that breaks after its client has seen some of it is gone on with by the next (rescue).
"""

from __future__ import annotations

import abc
import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ghostllm.errors import GhostError, UpstreamConnectError, UpstreamResting
from ghostllm.gateway.delivery import Delivery, Mode
from ghostllm.gateway.signs import told_rescue
from ghostllm.gateway.spending import spent
from ghostllm.gateway.turn import Place, Turn
from ghostllm.message import Attempt, Exchange, UpstreamRequest
from ghostllm.net.client import Client
from ghostllm.ports import Answer, Work
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.failover import Failover
from ghostllm.routing.plan import RoutePlan
from ghostllm.routing.upstream import Upstream
from ghostllm.wire.h1 import field_block, strip_hop_by_hop

HOLD, WHOLE = Mode.HOLD, Mode.WHOLE

FORWARDED = frozenset((
    b"traceparent", b"tracestate", b"idempotency-key", b"x-client-request-id", b"openai-beta",
    b"anthropic-beta", b"anthropic-version",
))  # fmt: skip
"""The client's header fields that a backend gets to see: no credentials, no cookies, nothing hop-by-hop."""


class Attempts(Delivery):
    """keepalive: seconds of silence after which a waiting client gets a sign of life, 0: never."""

    keepalive = 0.0
    _broken: Answer | None = None  # the one whose stream is to be gone on with
    _broken_at: Attempt
    _cause: GhostError | None = None  # why it broke
    _extra: Mapping[str, Any]
    _failover: Failover | None = None  # made when the first attempt has failed
    _model: Model
    _route: RoutePlan
    _target: Target
    _waiting: Work | None = None

    # --- for those who derive

    @abc.abstractmethod
    def _give_up(self, error: GhostError) -> None:
        """No attempt is left."""

    @abc.abstractmethod
    def _end_with(self, error: GhostError) -> None:
        """Tells the client, in the answer if that has begun."""

    # --- one after the other

    def _proceed(self, target: Target) -> None:
        """Tries `target`, and while attempts fail at once, the next ones."""
        while (error := self._try(target)) is not None:
            step = self._step(error)
            if step is None:
                return
            target = step

    def _try(self, target: Target) -> GhostError | None:
        """None: the attempt is under way, or waits for its turn."""
        self._waiting = None
        self._target = target
        upstream = self._snapshot.upstreams.get(target.backend)
        if upstream is None:
            return UpstreamConnectError(f"backend {target.backend!r} is no longer there")
        router = self._generator.router
        if router.state(target.backend).gate is None:
            return self._send_to(target, upstream, 0)
        route = self._route
        full = (route.waiting if self._failover is None and not route.usable else ()) or [target]
        places = [(gate, one) for one in full if (gate := router.state(one.backend).gate) is not None]
        try:
            begun = self._queue(places, self._turn_has_come)
        except GhostError as error:
            return error
        return None if begun is None else self._send_in_turn(begun[0][1], begun[1])

    def _turn_has_come(self, place: Place, number: int) -> None:
        """A backend has a slot."""
        self._waited()
        gate, target = place
        now = time.monotonic()
        other: Target | GhostError | None = None
        if not self._generator.router.stands(gate, target, now):
            other = self._elsewhere(place, now)
        if other is None:
            other = self._send_in_turn(target, number)
        else:
            gate.release(number, now)
        if isinstance(other, Target):
            self._proceed(other)
        elif other is not None:
            self._fail_over(other)

    def _elsewhere(self, place: Place, now: float) -> Target | GhostError | None:
        """For a slot of a backend that has gone or fallen ill while it was waited for: its queue empties at
        once, and those who come from there are not to fail for that. The target to try instead, or why this
        one is not tried; None: there is no better one.
        """
        gate, target = place
        router, exchange = self._generator.router, self._exchange
        here = router.holds(gate, target)
        if self._failover is not None:
            if not here:
                return target  # under its name there may be another one
            self._failover.trying(target)
            why = f"backend {target.backend!r} went while its queue was waited in"
            return None if self._failover.last else UpstreamResting(why)
        model = self._snapshot.catalog().find(self._model.name)
        if model is None:
            return UpstreamConnectError(f"backend {target.backend!r} is no longer there")
        try:
            route = router.plan(model, self._call, exchange.identity, exchange.request.headers, now)
        except GhostError as error:
            return error
        self._route = exchange.plan = route
        if here and (target in route.targets[: route.usable] or target in route.waiting):
            return None
        return route.first

    def _send_in_turn(self, target: Target, number: int) -> GhostError | None:
        """Begins an attempt on one of those whose queues were waited in."""
        self._target = target
        return self._send_to(target, self._snapshot.upstreams[target.backend], number)

    def _send_to(self, target: Target, upstream: Upstream, number: int) -> GhostError | None:
        """Begins an attempt. number: of its slot in the backend's queue, 0 where there is none."""
        exchange, route, failover = self._exchange, self._route, self._failover
        router = self._generator.router
        now = time.monotonic()
        attempt = self._attempt = Attempt(target.backend, target.model, now, route.why(target))
        retry = failover is not None
        attempts = exchange.attempts
        if attempts:
            attempt.purpose = self._purpose(target)
        attempts.append(attempt)
        if failover is not None:
            failover.trying(target)
        try:
            if self._broken is None:
                request, answer = upstream.translator.prepare(self._call, target.model, self._extra)
            else:
                request, answer = upstream.translator.resume(
                    self._call, target.model, self._extra, self._broken
                )
            lease = router.begin(route, target, now, hidden=not self._stream, retry=retry)
        except GhostError as error:
            if retry:
                router.pay_back(target)
            if number:
                router.give_back(target, number, now)
            return error
        if number:
            lease.number = number
        self._lease = lease
        self._answer = answer
        exchange.usage = answer.usage
        exchange.backend = target.backend
        self._mode = HOLD if self._stream else WHOLE
        self._held = []
        self._size = 0
        if upstream.asleep:
            self._wait(self._wake(request))
        else:
            self._send(upstream.client, request)
        return None

    def _purpose(self, target: Target) -> str:
        if self._broken is not None:
            return "rescue"
        if self._failover is None:
            return "fallback"
        before = self._exchange.attempts[-1]
        same = (before.backend, before.model) == (target.backend, target.model)
        return "retry" if same else "failover"

    async def _wake(self, request: UpstreamRequest) -> None:
        lease = self._lease
        assert lease is not None
        try:
            client = await lease.upstream.ready()
        except GhostError as error:
            self._waiting = None
            self._fail_over(error)
        else:
            self._waiting = None
            self._send(client, request)

    def _send(self, client: Client, request: UpstreamRequest) -> None:
        lease = self._lease
        assert lease is not None
        last = self._route.lone if self._failover is None else self._failover.last
        limits = self._snapshot.limits(
            lease.upstream, self._model, stream=self._stream, last=last, loading=lease.loading
        )
        self._upstream_call = client.start(request, _forwarded(self._exchange, request), self, limits)

    def _fail_over(self, error: GhostError) -> None:
        """The attempt under way has failed, and the client has seen nothing of it."""
        target = self._step(error)
        if target is not None:
            self._proceed(target)

    def _step(self, error: GhostError) -> Target | None:
        """The target to try now. None: later, or it is over and the client has been told."""
        now = time.monotonic()
        self._close_attempt(error, now)
        self._release(error, now)
        if self._broken is not None:  # what the client has is still of the one that broke
            self._exchange.usage = self._broken.usage
            self._exchange.backend = self._broken_at.backend
        error.forget()
        if self._failover is None:
            routing = self._snapshot.config.routing
            generator = self._generator
            self._failover = Failover(self._route.targets, routing, generator.chance, generator.router)
            self._failover.trying(self._target)
        step = self._failover.after(error, now, resuming=self._broken is not None)
        while step is not None and step[1] and (refusal := self._cannot_resume(step[0])) is not None:
            self._generator.router.pay_back(step[0])  # nobody waits for what is known to be in vain
            self._failover.trying(step[0])
            step = self._failover.after(refusal, now, resuming=True)
        if step is None:
            self._give_up(self._failover.verdict())
            return None
        target, pause = step
        if pause:
            self._wait(self._pause(pause, target))
            return None
        return target

    def _cannot_resume(self, target: Target) -> GhostError | None:
        """Why a target cannot go on with the stream that broke; None: it can, or none has."""
        upstream = self._snapshot.upstreams.get(target.backend)
        if self._broken is None or upstream is None:
            return None
        try:
            upstream.translator.resume(self._call, target.model, self._extra, self._broken)
        except GhostError as error:
            error.forget()
            return error
        return None

    def _close_attempt(self, error: GhostError, now: float) -> None:
        attempts = self._exchange.attempts
        if attempts and attempts[-1].outcome == "open":
            attempt = attempts[-1]
            attempt.outcome, attempt.error, attempt.ended = error.code or "error", error.message, now

    async def _pause(self, seconds: float, target: Target) -> None:
        await asyncio.sleep(seconds)
        self._waiting = None
        self._proceed(target)

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        self._waiting = self._responder.run(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except GhostError as error:
            self._waiting = None
            self._end_with(error)

    # --- a stream that breaks

    def _broke(self, error: GhostError) -> None:
        """Another attempt goes on with it, where that is possible; otherwise the client is told inside."""
        self._cause = error
        if not (self._call.rescue and error.retryable):
            self._give_up(error)
            return
        self._broken = self._answer
        self._broken_at = self._attempt
        self._attempt.usage = spent(self._answer)
        self._fail_over(error)

    def _commit(self) -> None:
        super()._commit()
        if self._broken is not None:
            self._broken = None
            self._exchange.rescued += 1
            self._exchange.backend = self._attempt.backend
            if self.keepalive:
                told_rescue(self._call, self._attempt, self._responder)

    # --- waiting

    def _queue(self, places: list[Place], granted: Callable[[Place, int], None]) -> tuple[Place, int] | None:
        """A place where there is a slot, and the slot's number; None: it waits, and `granted` will be told.
        What was waited in other queues counts: the limit is of all of it. Raises QueueFull.
        """
        exchange, now = self._exchange, time.monotonic()
        model = places[0][1].model
        entry = self._generator.router.entry(exchange.identity, self._call, model, now - exchange.queued)
        turn = Turn(entry, places, granted, self._not_admitted)
        place = turn.enter(now)
        if place is not None:
            return place, entry.number
        self._waiting = turn
        self._generator.pulse.wake()
        return None

    def _waited(self) -> None:
        """The wait for a turn is over."""
        turn = self._waiting
        if isinstance(turn, Turn):
            self._waiting = None
            self._exchange.queued = time.monotonic() - turn.entry.since

    def _not_admitted(self, error: GhostError) -> None:
        """It has waited for a turn as long as it may."""
        self._waited()
        self._give_up(error)

    def _release(self, error: GhostError | None, now: float, *, cancelled: bool = False) -> None:
        """The attempt is over: its place is free, and so is its connection, unless it has been given back.

        The call knows its sink: were it kept here, the two would keep the request's body alive.
        """
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.end(error, now, cancelled=cancelled, usage=self._exchange.usage)
        if self._upstream_call is not None:
            self._upstream_call.cancel()
            self._upstream_call = None


def _forwarded(exchange: Exchange, request: UpstreamRequest) -> bytes:
    """The client's fields for the backend; they stand in for those of the same name that `request` has."""
    headers = exchange.request.headers
    if FORWARDED.isdisjoint(headers):
        return exchange.id_field
    passed = strip_hop_by_hop(headers)
    request.headers = tuple(
        pair for pair in request.headers if pair[0] not in FORWARDED or pair[0] not in passed
    )
    return exchange.id_field + field_block(
        tuple((name, passed[name]) for name in sorted(FORWARDED) if name in passed)
    )
