"""Decides for each request: which targets, in which order, and whether one may be had right now.

    plan = router.plan(model, call, identity, pin, now)       pure but for the balancers' own memory
    lease = router.begin(plan, target, now, …)                raises UpstreamResting
    lease.first_token(now); lease.end(error, now)             however it ended, once

What is known of the backends lives here and outlasts the configuration.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import count

from ghostllm.api.needs import needs
from ghostllm.config.traffic import Routing
from ghostllm.errors import Overloaded, UnsupportedValue, UpstreamResting
from ghostllm.message import Call, Identity
from ghostllm.routing import health, latency, smart, sticky
from ghostllm.routing.admission import Entry
from ghostllm.routing.backlog import Seat
from ghostllm.routing.balance import Rotation, order
from ghostllm.routing.breaker import State as BreakerState
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.gate import Gate
from ghostllm.routing.latency import PeakEwma
from ghostllm.routing.lease import Lease
from ghostllm.routing.ledger import Ledger, Prompt
from ghostllm.routing.plan import RoutePlan
from ghostllm.routing.prefix import BLOCK, chain, rendered
from ghostllm.routing.screening import Screened, Standing, refusal, screen
from ghostllm.routing.smart import Choice
from ghostllm.routing.state import BackendState, gate_before, queue_settings
from ghostllm.routing.upstream import Upstream

ONLY = "only target"
LEAST_PROMPT = 2 * BLOCK
"""Bytes of a request below which its beginning is not looked for in the caches: there is little to be won."""

MOST_LANES = 1024

BY_SCORE = frozenset(("smart", "latency"))
"""Policies under which a backend that has failed is last for as long as that is remembered."""


class Lane:
    """What stays the same from one request of a model to the next, found once. alone: the plan of a model of
    one target. even: no target's weight is anything but 1.
    """

    __slots__ = ("alone", "even", "model", "seats", "states")

    def __init__(self, model: Model, states: list[BackendState], seats: list[Seat]) -> None:
        self.model = model
        self.states = states
        self.seats = seats
        self.even = all(target.weight == 1.0 for target in model.targets)
        self.alone: RoutePlan | None = None
        if len(model.targets) == 1:
            self.alone = RoutePlan(model, ONLY, model.targets, 1)

    def __repr__(self) -> str:
        return f"<Lane of {self.model.name} {self.states}>"


class Router:
    """upstreams: the fleet as it is now. chance: for ties and draws."""

    def __init__(
        self, routing: Routing, upstreams: Mapping[str, Upstream], chance: random.Random, now: float
    ) -> None:
        self.ledger = Ledger(smart.Settings(affinity=routing.affinity))
        self.chance = chance
        self.states: dict[str, BackendState] = {}
        self._routing = routing
        self._upstreams = upstreams
        self._rotation = Rotation()
        self._numbers = count(1)
        self._gates: dict[str, Gate | None] = {}  # of models
        self._lanes: dict[str, Lane] = {}  # by model
        self._began = now

    def __repr__(self) -> str:
        return f"<Router {list(self.states.values())}>"

    # --- what is known

    def state(self, backend: str) -> BackendState:
        state = self.states.get(backend)
        if state is None:
            config = self._upstreams[backend].config
            state = self.states[backend] = BackendState(config, self._routing, self._began)
            if config.cache_tokens:
                self.ledger.hold(backend, config.cache_tokens)
        return state

    def prune(self) -> None:
        """Forgets the backends that are gone from the fleet; leases on them may still end. What was found
        anew under an old name begins anew.
        """
        self._lanes.clear()
        for name, state in list(self.states.items()):
            upstream = self._upstreams.get(name)
            if upstream is None or upstream.config != state.config:
                del self.states[name]
                self.ledger.drop(name)
                if state.gate is not None:
                    state.gate.close()

    def retune(self, routing: Routing, slots: Mapping[str, int], now: float) -> None:
        """The configuration has changed. slots: of the queues before models, by the models' names."""
        self._routing = routing
        self.ledger.retune(smart.Settings(affinity=routing.affinity))
        for state in self.states.values():
            state.retune(routing, now)
        for name, gate in list(self._gates.items()):
            count = slots.get(name, 0)
            if gate is not None:
                gate.retune(queue_settings(count, routing), now)  # without slots all may begin
            if gate is None or not count:
                del self._gates[name]

    def gate(self, model: Model) -> Gate | None:
        """The queue before a model, over all its targets."""
        try:
            return self._gates[model.name]
        except KeyError:
            slots = model.config.max_inflight if model.config is not None else 0
            gate = self._gates[model.name] = gate_before(model.name, slots, self._routing)
            return gate

    def gates(self) -> list[Gate]:
        """All queues that there are."""
        found = [gate for gate in self._gates.values() if gate is not None]
        return found + [state.gate for state in self.states.values() if state.gate is not None]

    def entry(self, identity: Identity, call: Call, model: str, since: float) -> Entry:
        """A request's place in a queue. since: when it began to wait. Its cost is the length of its prompt
        in tokens, more or less.
        """
        return Entry(
            number=next(self._numbers),
            key=identity.key,
            model=model,
            since=since,
            cost=1.0 + len(call.body) / 4,
            weight=identity.weight,
            priority=identity.priority,
        )

    # --- deciding

    def plan(
        self,
        model: Model,
        call: Call,
        identity: Identity,
        headers: Mapping[bytes, bytes],
        now: float,
    ) -> RoutePlan:
        """Raises UnsupportedValue where no target is able to do what the call needs, Overloaded where there
        is none.
        """
        lane = self._lanes.get(model.name)
        if lane is None or lane.model is not model:
            lane = self._lane(model)
        unfit = self._unfit(model, call) if model.picky else None
        if lane.alone is not None:
            return lane.alone
        pin = headers.get(b"x-ghostllm-backend")
        if pin is None and not unfit and _all_ordinary(lane.states):
            if model.balance == "smart" and lane.even:
                prompt = self._prompt(model, call, identity)
                choices, tied = self.ledger.order(lane.seats, prompt, None, now, self.chance)
                return RoutePlan(model, "smart", None, len(choices), None, choices, tied, prompt)
            return self._ordered(model, model.targets, (), None, call, identity, headers, now)
        targets: Sequence[Target] = model.targets
        screened = None
        waiting: Sequence[Target] = ()
        if unfit or pin is not None or not all(state.plain() for state in lane.states):
            screened = self._screened(targets, unfit or {}, pin, now)
            targets, waiting = screened.allowed, screened.waiting
        return self._ordered(model, targets, waiting, screened, call, identity, headers, now)

    def _lane(self, model: Model) -> Lane:
        if not model.targets:
            raise Overloaded(f"no backend of model {model.name!r} is there now", retry_after=5)
        if len(self._lanes) >= MOST_LANES:  # of a model with a wildcard there are as many as clients invent
            self._lanes.clear()
        states = [self.state(target.backend) for target in model.targets]
        seats = [self.ledger.seat(target) for target in model.targets]
        lane = self._lanes[model.name] = Lane(model, states, seats)
        return lane

    def begin(
        self,
        plan: RoutePlan,
        target: Target,
        now: float,
        *,
        hidden: bool,
        retry: bool = False,
    ) -> Lease:
        """hidden: the answer is not streamed, so its first token will not be seen. retry: it has been paid
        for, and the breaker was asked then. Raises UpstreamResting.
        """
        state = self.states.get(target.backend) or self.state(target.backend)
        breaker = state.breaker
        ticket = breaker.admit(now, force=retry or plan.usable == 1 or plan.lone)
        if ticket is None:
            raise UpstreamResting(
                f"backend {target.backend!r} is left alone after its failures",
                retry_after=max(1.0, breaker.until - now),
            )
        lease = Lease(self._upstreams[target.backend], state, target, ticket, now)
        if retry:
            lease.retry = True
        elif state.budget.tokens < state.budget.burst:
            state.budget.first(now)
        if state.observed is not None:
            lease.loading = lease.awaited = state.loaded(target.model) is False
        if plan.prompt is not None:
            ledger = lease.ledger = self.ledger
            seat = plan.lead
            if seat is None or seat.target is not target:
                seat = self._seat(plan.model, target)
            lease.sent = ledger.dispatched(seat, plan.prompt, now, hidden=hidden)
            if plan.prompt.blocks:
                lease.prompt = plan.prompt
            if not hidden:
                lease.awaited = True
        elif plan.policy == "latency":
            lease.metered()
        return lease

    def able(self, target: Target, now: float) -> bool:
        """Whether a further attempt may go there at once."""
        if target.backend not in self._upstreams:
            return False
        state = self.state(target.backend)
        there = state.health.state is not health.State.DOWN and not state.draining
        return there and state.breaker.allows(now) and not state.full

    def pay(self, target: Target, now: float) -> bool:
        """Takes a retry out of the backend's budget."""
        return target.backend in self._upstreams and self.state(target.backend).budget.take(now)

    def pay_back(self, target: Target) -> None:
        """A retry that was paid for and has come to nothing before it was sent."""
        if target.backend in self._upstreams:
            self.state(target.backend).budget.refund()

    def waits(self, target: Target, now: float) -> bool:
        """Whether nothing but a free slot is missing there."""
        if target.backend not in self._upstreams:
            return False
        stand = self.state(target.backend).standing(target.model, now)
        return refusal(stand) == "full"

    def holds(self, gate: Gate, target: Target) -> bool:
        """Whether it is still the queue before that backend, which may have gone or been replaced."""
        state = self.states.get(target.backend)
        return state is not None and state.gate is gate

    def stands(self, gate: Gate, target: Target, now: float) -> bool:
        """Whether a slot of that queue is still good for something."""
        if not self.holds(gate, target):
            return False
        state = self.state(target.backend)
        return state.health.state is not health.State.DOWN and state.breaker.allows(now)

    def give_back(self, target: Target, number: int, now: float) -> None:
        """A slot of a backend's queue that no attempt came to use."""
        gate = self.state(target.backend).gate
        if gate is not None:
            gate.release(number, now)

    def _seat(self, model: Model, target: Target) -> Seat:
        lane = self._lanes.get(model.name)
        if lane is not None:
            for seat in lane.seats:
                if seat.target is target:
                    return seat
        return self.ledger.seat(target)

    # --- steps of a plan

    def _ordered(
        self,
        model: Model,
        targets: Sequence[Target],
        waiting: Sequence[Target],
        screened: Screened | None,
        call: Call,
        identity: Identity,
        headers: Mapping[bytes, bytes],
        now: float,
    ) -> RoutePlan:
        policy = model.balance
        choices: Sequence[Choice] = ()
        tied = 0
        prompt = None
        usable = len(targets)
        every = [*targets, *waiting] if waiting else targets
        if policy == "smart":
            prompt = self._prompt(model, call, identity)
            seats = [self._seat(model, target) for target in every]
            conditions = [self.state(target.backend).condition(target, now) for target in every]
            choices, tied = self.ledger.order(seats, prompt, conditions, now, self.chance)
            ordered = [choice[1].target for choice in choices]
            if waiting:
                full = frozenset(waiting)
                ordered.sort(key=full.__contains__)
        else:
            ordered = self._by_policy(policy, model, targets, call, identity, headers, now)
            if waiting:
                ordered += self._by_policy(policy, model, waiting, call, identity, headers, now)
        if screened is not None:
            if policy in BY_SCORE:
                self._probe_first(ordered, usable)
            chosen = frozenset(ordered)
            for words in (("not pinned",), ("unknown",), ("breaker open", "down")):
                ordered += [
                    target for target, word in screened.refused if word in words and target not in chosen
                ]
        return RoutePlan(model, policy, ordered, usable, screened, choices, tied, prompt)

    def _probe_first(self, ordered: list[Target], usable: int) -> None:
        """A backend whose rest is over is tried by this request: by score alone it would wait until its
        failures are forgotten, with nobody to find out that it is well again.
        """
        for at in range(1, usable):
            if self.state(ordered[at].backend).breaker.state is BreakerState.OPEN:
                ordered.insert(0, ordered.pop(at))
                return

    def _by_policy(
        self,
        policy: str,
        model: Model,
        targets: Sequence[Target],
        call: Call,
        identity: Identity,
        headers: Mapping[bytes, bytes],
        now: float,
    ) -> list[Target]:
        if policy == "latency":
            return latency.order(targets, self._meter, self._load, now, chance=self.chance)
        if policy == "sticky":
            key = sticky_key(model, call, identity, headers)
            if key is not None:
                return sticky.order(key, targets)
            policy = "least_requests"
        return order(
            policy,
            model.name,
            targets,
            load=self._load,
            rotation=self._rotation,
            chance=self.chance,
            warmth=lambda backend: self.state(backend).weight(now),
        )

    def _load(self, backend: str) -> int:
        return self._upstreams[backend].in_flight

    def _meter(self, backend: str) -> PeakEwma:
        return self.state(backend).meter

    def _prompt(self, model: Model, call: Call, identity: Identity) -> Prompt:
        if len(call.body) < LEAST_PROMPT:
            return Prompt(model.name, len(call.body), ())
        text = rendered(call.fields)
        return Prompt(model.name, len(text), chain(text, model.name, identity.key))

    def _screened(
        self, targets: Sequence[Target], unfit: Mapping[Target, str], pin: bytes | None, now: float
    ) -> Screened:
        def standing(target: Target) -> Standing:
            return self.state(target.backend).standing(target.model, now, unfit=unfit.get(target, ""))

        return screen(targets, standing, pin=None if pin is None else pin.decode("latin-1"))

    def _unfit(self, model: Model, call: Call) -> dict[Target, str]:
        """The targets that cannot serve the call, with the reason. What is not known speaks for them."""
        needed = needs(call)
        unable = {
            target: ", ".join(sorted(lacking))
            for target in model.targets
            if target.capabilities and (lacking := needed - target.capabilities)
        }
        if len(unable) == len(model.targets):
            least = min(unable.values(), key=len)
            raise UnsupportedValue(f"no target of model {model.name!r} can do this: {least}", param="model")
        if "vision" in needed:  # the bytes of an image say nothing of its tokens
            return unable
        tokens = len(call.body) / self.ledger.ratio(model.name).value
        small = {
            target: "context too small"
            for target in model.targets
            if target.context is not None and target.context < tokens
        }
        # An estimate must not refuse what the servers may take: the last word is theirs.
        return {**small, **unable} if len({**small, **unable}) < len(model.targets) else unable


def _all_ordinary(states: Sequence[BackendState]) -> bool:
    for state in states:
        if not state.ordinary():
            return False
    return True


def sticky_key(model: Model, call: Call, identity: Identity, headers: Mapping[bytes, bytes]) -> str | None:
    """What the model's configuration says stays with its target; None where the request has nothing of it."""
    by = model.config.sticky if model.config is not None else "conversation"
    if by == "key":
        return identity.key
    if by.startswith("header:"):
        value = headers.get(by.removeprefix("header:").lower().encode())
        return None if value is None else value.decode("latin-1")
    return sticky.conversation(call.fields)
