"""One call to a model, from its plan to its end. Its tries on the targets of the plan are `attempts`, what
one attempt's bytes become is `delivery`.

A generation is driven by the connections' callbacks; only what has to wait for something else (an unknown
model, a turn in a queue, a server to be started, a pause before another try) is a Work of its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ghostllm.api.doors import DOORS
from ghostllm.errors import (
    BytesWanted,
    ContextLengthExceeded,
    GhostError,
    ModelNotFound,
    Overloaded,
    QueueFull,
    UnsupportedParameter,
)
from ghostllm.gateway.permission import refused_model
from ghostllm.gateway.pictures import Pictures
from ghostllm.gateway.recalling import Recalling
from ghostllm.gateway.signs import sign_of_life
from ghostllm.gateway.spending import spent
from ghostllm.gateway.turn import Place, Turn
from ghostllm.message import NO_USAGE, Usage
from ghostllm.routing.arms import at_fault
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.gate import Gate
from ghostllm.routing.plan import RoutePlan

CONTENT_CODES = frozenset(("content_filter", "content_policy_violation"))


class Generation(Recalling):
    """Implements ports.Work and pulse.Living. The exchange has its call. over: nothing further happens.
    mute: no signs of life are wanted.
    """

    mute = False
    over = False
    _asked = ""  # the split model, if it is one
    _quiet = 0.0  # since when
    _seen = 0  # bytes that had gone out at the last pulse
    _slot: tuple[Gate, int] | None = None  # in the queue of the model
    _visited: tuple[str, ...] = ()  # models that could not answer

    def __repr__(self) -> str:
        return f"<Generation of {self._exchange!r}>"

    # --- the plan

    def start(self) -> None:
        """Makes the first attempt, unless something has to be waited for. Raises GhostError for the
        client.
        """
        pictures = self._snapshot.pictures
        if pictures is not None and pictures.first and pictures.wanted(self._call):
            self._wait(self._with_pictures(pictures))
        else:
            self._begin()
        if self._stream and not self.mute and not self.over:
            self.keepalive = self._snapshot.config.routing.keepalive
            if self.keepalive:
                self._quiet = self._exchange.received
                self._generator.pulse.add(self)

    def _begin(self) -> None:
        model = self._snapshot.catalog().find(self._call.model)
        if model is None:
            self._wait(self._look_again(self._call.model))
        else:
            self._plan(model)

    async def _with_pictures(self, pictures: Pictures) -> None:
        """Begins, or begins again, with the images' bytes in the place of their URLs."""
        await pictures.inline(self._call)
        self._waiting = None
        self._begin()

    def cancel(self) -> None:
        """The client has left: so does everything that was begun for it."""
        exchange = self._exchange
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        now = time.monotonic()
        if exchange.attempts and exchange.attempts[-1].outcome == "open":
            exchange.attempts[-1].outcome = "cancelled"
            exchange.attempts[-1].ended = now
        self._count_what_was_told()
        self._release(None, now, cancelled=True)
        self._finish("cancelled", now)

    def _plan(self, model: Model) -> None:
        """Raises GhostError for the client, if no other model stands in for one that has no place for it."""
        while True:
            try:
                return self._plan_for(model)
            except (Overloaded, QueueFull) as error:
                other = self._fallback(error)
                if other is None:
                    raise
                model = other

    def _plan_for(self, model: Model) -> None:
        exchange = self._exchange
        identity = exchange.identity
        if identity.confined and not model.open_to(identity, exchange.group):
            raise refused_model(identity, self._call.model)
        if model.config is not None:
            model = self._arm(model)
        self._model = model
        call = self._call
        parameters = call.parameters = model.parameters
        self._extra: Mapping[str, Any] = parameters.over(call.fields) if parameters else {}
        answers = self._snapshot.answers
        if answers is None or not self._recall(answers, model):
            self._route_to(model)

    def _route_to(self, model: Model) -> None:
        """Raises GhostError for the client."""
        exchange, call, router = self._exchange, self._call, self._generator.router
        call.rescue = self._stream and self._snapshot.rescues(model)
        now = time.monotonic()
        route = router.plan(model, call, exchange.identity, exchange.request.headers, now)
        self._route: RoutePlan = route
        exchange.plan = route
        gate = router.gate(model) if model.config is not None else None
        if gate is not None:
            begun = self._queue([(gate, self._first())], self._admitted)
            if begun is None:
                return
            self._slot = gate, begun[1]
        self._proceed(self._first())

    def _arm(self, model: Model) -> Model:
        """Of a split model, the variant that this caller gets."""
        arms = self._generator.arms(model)
        if arms is None:
            return model
        self._asked = model.name
        name = self._generator.split(self._snapshot, arms, self._exchange)
        self._exchange.arm = name
        found = self._snapshot.catalog().find(name) if name != model.name else model
        return found or model

    async def _look_again(self, name: str) -> None:
        """A model that nobody knows may be new: asks the backends once more."""
        await self._snapshot.refresh()
        self._waiting = None
        model = self._snapshot.catalog().find(name)
        if model is not None:
            self._plan(model)
        elif not self._exchange.identity.may(self._exchange.group, name):
            raise refused_model(self._exchange.identity, name)
        else:
            raise ModelNotFound(
                f"no backend serves the model {name!r}; GET /v1/models lists those served", param="model"
            )

    # --- waiting for a turn

    def _admitted(self, place: Place, number: int) -> None:
        """There is a slot in the model's own queue."""
        self._slot = place[0], number
        self._waited()
        self._proceed(self._first())

    def _first(self) -> Target:
        return self._route.first

    # --- ends

    def _give_up(self, error: GhostError) -> None:
        """No attempt is left."""
        if isinstance(error, UnsupportedParameter) and error.param == "n" and self._call.fields.get("n"):
            self._fan_out()
            return
        if isinstance(error, BytesWanted) and self._fetch_pictures(error):
            return
        model = self._fallback(error) if self._exchange.committed is None else None
        if model is None:
            self._end_with(error)
            return
        self._failover = None
        self._release_slot(time.monotonic())
        try:
            self._plan(model)
        except GhostError as fault:
            self._end_with(fault)

    def _fetch_pictures(self, error: BytesWanted) -> bool:
        """Whether all begins again with the bytes of the images."""
        pictures = self._snapshot.pictures
        if pictures is None or self._broken is not None or not pictures.helps(self._call):
            return False
        self._failover = None
        attempts = self._exchange.attempts
        attempts[:] = [attempt for attempt in attempts if attempt.outcome != error.code]  # never sent
        self._release_slot(time.monotonic())
        self._wait(self._with_pictures(pictures))
        return True

    def _fallback(self, error: GhostError) -> Model | None:
        """The model that the configuration names for such an error, if its turn has not been yet."""
        config = self._model.config
        if config is None:
            return None
        if isinstance(error, ContextLengthExceeded):
            name = config.fallback.context
        elif error.code in CONTENT_CODES:
            name = config.fallback.content
        else:
            unavailable = error.retryable or error.status == 503 or isinstance(error, QueueFull)
            name = config.fallback.unavailable if unavailable else ""
        model = self._snapshot.catalog().find(name) if name else None
        self._visited += (self._model.name,)
        if (
            model is None
            or model.name in self._visited
            or not model.open_to(self._exchange.identity, self._exchange.group)
        ):
            return None
        return model

    def _end_with(self, error: GhostError) -> None:
        """Tells the client, in the answer if that has begun."""
        now = time.monotonic()
        exchange = self._exchange
        error.forget()
        self._close_attempt(error, now)
        self._release(error, now)
        refused = at_fault(error) and not exchange.committed
        if not self._shown:
            self._finish("refused" if refused else "error", now)
            self._hint()
            self._responder.fail(error)
            return
        error = self._cause or error
        exchange.error = error
        exchange.outcome = "broken"
        self._count_what_was_told()
        self._finish("refused" if refused else "broken", now)
        self._told_inside(error)

    def _count_what_was_told(self) -> None:
        """Of an answer that ends before its end."""
        exchange = self._exchange
        if exchange.committed is not None:
            exchange.usage = spent(self._broken or self._answer)
        elif exchange.usage is NO_USAGE:
            exchange.usage = Usage(partial=True)
        else:
            exchange.usage.partial = True

    def _told_inside(self, error: GhostError) -> None:
        if self._broken is not None:
            self._answer = self._broken
        elif self._exchange.committed is None and self._stream:  # nothing but signs of life has gone out
            writer = DOORS[self._call.door].writer(self._call, int(time.time()), self._generator.mint)
            self._responder.write(writer.error(error))
            self._responder.end(close=True)
            return
        super()._told_inside(error)

    def _fan_out(self) -> None:
        """No target gives several answers to a request: asks for each by itself."""
        from ghostllm.gateway.fanout import Fanout  # here, as it makes generations

        self._exchange.attempts.clear()
        self._finish("", time.monotonic())
        self._hint()
        snapshot = self._snapshot.uncached()  # each of the answers is to be another one
        fanout = Fanout(self._generator, snapshot, self._door, self._exchange, self._responder)
        self._waiting = fanout
        fanout.start(self._call.fields["n"])

    def _succeed(self, now: float) -> None:
        self._exchange.outcome = self._attempt.outcome = "ok"
        self._attempt.ended = now
        self._release(None, now)
        self._finish("ok", now)

    def _release_slot(self, now: float) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot[0].release(slot[1], now)

    def _finish(self, outcome: str, now: float) -> None:
        """Nothing further happens here. outcome: for a split model's books; "": somebody else's."""
        if self.over:
            return
        self.over = True
        if self.keepalive:
            self._generator.pulse.discard(self)
        if self._slot is not None:
            self._release_slot(now)
        plan = self._exchange.plan
        if isinstance(plan, RoutePlan):
            plan.prompt = None  # as long as the request was, and the plan is kept to be explained
        if self._asked and outcome:
            self._generator.booked(self._asked, outcome, now, self._exchange)

    # --- signs of life

    def pulse(self, now: float) -> None:
        """Called now and then."""
        sent = self._exchange.bytes_out
        if sent != self._seen:
            self._seen = sent
            self._quiet = now
        elif now - self._quiet >= self.keepalive:
            self._quiet = now
            self._say_something(now)

    def _say_something(self, now: float) -> None:
        if self._upstream_call is not None and self._upstream_call.paused:
            return  # it is the client that does not read
        turn = self._waiting
        data = sign_of_life(self._call, turn.outlook(now) if isinstance(turn, Turn) else None)
        if data:
            if not self._shown:
                self._show()
            self._responder.write(data)
            self._seen = self._exchange.bytes_out
