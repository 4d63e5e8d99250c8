"""The schema of what happens to a request on its way to a backend: time limits, routing, queues, splits.

Part of `schema`, which see for how a field is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ghostllm.config.constraints import Pattern, Range
from ghostllm.config.kinds import Balance, ModelName, Name, Number, Seconds, Share, Size, Weight


@dataclass(slots=True, frozen=True, kw_only=True)
class Timeouts:
    """Time limits of one upstream exchange, in seconds; 0 = none, None = inherit.

    The nearest level that sets a limit wins: model, backend, global, built-in.
    """

    connect: Annotated[Seconds | None, "To connect, TLS handshake included."] = None
    head: Annotated[Seconds | None, "From the request's last byte to the head of the answer."] = None
    first_token: Annotated[
        Seconds | None,
        "From the request's last byte to the first content of a stream; beyond it the next target is tried.",
    ] = None
    load: Annotated[
        Seconds | None, "Added to head and first_token where the model has to be loaded first."
    ] = None
    idle: Annotated[Seconds | None, "Longest silence within an answer."] = None
    total: Annotated[
        Seconds | None,
        "The whole exchange. Bounds a stream only where set on its model or backend: long answers are fine.",
    ] = None


BUILT_IN_TIMEOUTS = Timeouts(connect=5.0, head=300.0, first_token=300.0, load=300.0, idle=120.0, total=600.0)


@dataclass(slots=True, frozen=True, kw_only=True)
class RetryBudget:
    """How many retries a backend is sent, so that retries cannot double an outage."""

    share: Annotated[float, Range(0), "Retries for each first attempt."] = 0.2
    per_second: Annotated[float, Range(0), "Retries whatever the traffic."] = 0.5
    burst: Annotated[float, Range(1), "Most retries saved up, and the number at the start."] = 20.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Breaker:
    """When a failing backend is left alone, and for how long."""

    failures: Annotated[Size, "Failures in a row that open it."] = 5
    share: Annotated[Share, "Share of failures among recent requests that opens it."] = 0.5
    volume: Annotated[float, Range(1), "Recent requests below which a share means nothing."] = 10.0
    memory: Annotated[Seconds, 'Half-life of "recent".'] = 10.0
    period: Annotated[Seconds, "First time open; doubles while the backend keeps failing."] = 2.0
    period_max: Annotated[Seconds, "Longest time open."] = 60.0
    calm: Annotated[Seconds, "After this long closed, earlier openings are forgiven."] = 60.0
    retry_after_max: Annotated[Seconds, "A longer Retry-After of the backend is cut to this."] = 120.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Health:
    """Looks at each backend beside its traffic. No key is sent by them unless the server asks for one."""

    interval: Annotated[Seconds, "Between two probes of a backend, with jitter; 0 = no probes."] = 10.0
    timeout: Annotated[Seconds, "Longest wait for a probe's answer."] = 5.0
    rise: Annotated[Size, "Probes passed in a row until an absent backend is used again."] = 2
    fall: Annotated[Size, "Probes failed in a row until a backend counts as absent."] = 3
    slow_start: Annotated[Seconds, "A backend that returns gets its full share after this; 0 = at once."] = (
        30.0
    )
    first_weight: Annotated[Share, "Its share at the moment of return."] = 0.1
    load: Annotated[Seconds, "Between two looks at its own queue and its loaded models; 0 = none."] = 2.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Queue:
    """Requests that wait because every target is at its max_inflight; fair between keys."""

    waiting: Annotated[Number, "Most requests in the queue of a backend; above: 429."] = 100
    waiting_model: Annotated[Number, "Most of them for one model; above: 429."] = 100
    wait: Annotated[Seconds, "Longest wait for a turn; beyond it: 503."] = 60.0
    starvation: Annotated[
        Seconds, "Who has waited this long is next, whatever the others' claims; 0 = never."
    ] = 30.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Routing:
    """How targets are chosen and failures retried."""

    attempts: Annotated[Size, "Most tries for one request, the first included."] = 3
    backoff: Annotated[Seconds, "Wait before the second try on the same target; doubles, with jitter."] = 0.2
    backoff_max: Annotated[Seconds, "Longest wait between two tries."] = 5.0
    retry_after_max: Annotated[Seconds, "A backend's Retry-After above this is not waited for."] = 20.0
    refresh: Annotated[Seconds, "Between two looks at each backend's list of models; 0 = only at start."] = (
        30.0
    )
    balance: Annotated[
        Balance, "How requests spread over a model's targets, where the model does not say."
    ] = "smart"
    affinity: Annotated[
        float, Range(0), "smart: how strongly a cached beginning of the prompt holds a conversation."
    ] = 4.0
    rescue: Annotated[
        bool,
        "A stream that breaks after its first token goes on at another target, where the model does not say.",
    ] = True
    keepalive: Annotated[
        Seconds, "A waiting stream's client gets a sign of life this often, in its dialect; 0 = none."
    ] = 15.0
    headers: Annotated[bool, "Answers say in x-ghostllm-… fields who gave them, and why."] = True
    explain: Annotated[
        Number, "Requests kept for `ghostctl explain`: so many that were answered, so many that were not."
    ] = 200
    retry_budget: Annotated[RetryBudget, "How many retries a backend is sent."] = field(
        default_factory=RetryBudget
    )
    breaker: Annotated[Breaker, "When a failing backend is left alone."] = field(default_factory=Breaker)
    health: Annotated[Health, "Looks at each backend beside its traffic."] = field(default_factory=Health)
    queue: Annotated[Queue, "Requests that wait for a backend at its limit."] = field(default_factory=Queue)


@dataclass(slots=True, frozen=True, kw_only=True)
class TargetConfig:
    """One place where a model is served."""

    backend: Annotated[Name, "Name of a backend; * and ? stand for any, so for those yet to be found, too."]
    model: Annotated[
        ModelName | Literal[""],
        'What the model is called there; empty: the same. "*": what name\'s * stood for.',
    ] = ""
    weight: Annotated[
        Weight, 'Share of requests; counts under every way but "failover" and "round_robin".'
    ] = 1.0
    context: Annotated[Size | None, "Tokens of context there, where the backend does not say."] = None


@dataclass(slots=True, frozen=True, kw_only=True)
class ArmConfig:
    """A variant of a split model."""

    model: Annotated[ModelName, "Name of another model, which serves this arm."]
    weight: Annotated[Weight, "Share of the callers."] = 1.0


@dataclass(slots=True, frozen=True, kw_only=True)
class CanaryConfig:
    """A new variant that gets more and more of the requests, and goes back by itself where it is worse."""

    model: Annotated[ModelName | Literal[""], "Name of the model on trial; empty: no canary."] = ""
    steps: Annotated[tuple[Share, ...], "Its shares of the callers, rising."] = (0.01, 0.05, 0.25, 0.5)
    answers: Annotated[Size, "Its answers in a step before the next one."] = 100
    seconds: Annotated[Seconds, "Least length of a step."] = 300.0
    few: Annotated[Size, "Its answers before it can be judged as worse."] = 20
    errors: Annotated[Share, "Share of failures above the old variant's that ends it."] = 0.02
    slower: Annotated[float, Range(1), "Factor of the old variant's time to first token that ends it."] = 1.5


@dataclass(slots=True, frozen=True, kw_only=True)
class ShadowConfig:
    """Copies of requests whose answers nobody sees and nobody is billed for."""

    model: Annotated[ModelName | Literal[""], "Name of the model that gets copies; empty: none."] = ""
    share: Annotated[Share, "Share of the requests that are copied."] = 1.0
    inflight: Annotated[Size, "Copies under way at one time; further ones are not made."] = 4


@dataclass(slots=True, frozen=True, kw_only=True)
class SplitConfig:
    """Sharing a model's requests between variants."""

    by: Annotated[Literal["key", "conversation", "request"], "What stays with the arm it was given to."] = (
        "conversation"
    )
    arms: Annotated[
        tuple[ArmConfig, ...], "A/B: variants by weight; the model's own targets are not used then."
    ] = ()
    canary: Annotated[CanaryConfig, "A new variant on trial against the model's own targets."] = field(
        default_factory=CanaryConfig
    )
    shadow: Annotated[ShadowConfig, "Copies of requests to another model."] = field(
        default_factory=ShadowConfig
    )


@dataclass(slots=True, frozen=True, kw_only=True)
class Fallback:
    """Models to be asked instead, by what the model's own targets answered."""

    context: Annotated[ModelName | Literal[""], "Where the prompt is too long for this one."] = ""
    content: Annotated[ModelName | Literal[""], "Where a content filter refuses the prompt."] = ""
    unavailable: Annotated[ModelName | Literal[""], "Where no target of this one can answer."] = ""


StickyBy = Annotated[
    str, Pattern("conversation|key|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+", 'conversation, key, or "header:NAME"')
]

Capability = Literal["chat", "completions", "embeddings", "tools", "vision", "thinking"]
