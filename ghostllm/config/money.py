"""The schema of how much may be used and what it costs: limits, budgets, prices, the usage ledger.

Part of `schema`, which see for how a field is written. Money is in units of `usage.currency`; the gateway
counts it in millionths of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ghostllm.config.constraints import Pattern, Range
from ghostllm.config.kinds import Name, Number, Share

Money = Annotated[float, Range(0, 1e9)]
PerMillion = Annotated[float, Range(0, 1e6)]
PerMinute = Annotated[int, Range(0, 1_000_000_000)]


@dataclass(slots=True, frozen=True, kw_only=True)
class RateLimits:
    """How much may be asked for in a time; 0 = no limit. A minute's worth may come at once, and then comes
    back evenly: 60 a minute are one each second. So s seconds see at most limit x (1 + s / 60).
    """

    requests_per_minute: Annotated[PerMinute, "Requests; above: 429 with the time to wait."] = 0
    tokens_per_minute: Annotated[
        PerMinute,
        "Tokens of prompts and answers together; a request counts with an estimate until it has ended.",
    ] = 0
    concurrent: Annotated[Number, "Requests at one time."] = 0

    @property
    def any(self) -> bool:
        """Whether there is any limit at all."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.concurrent)


@dataclass(slots=True, frozen=True, kw_only=True)
class Budget:
    """How much may be spent by the calendar of `usage.timezone`. Unset: any amount; 0: nothing."""

    day: Annotated[Money | None, "In a day; above: 429 insufficient_quota."] = None
    month: Annotated[Money | None, "In a calendar month; likewise."] = None
    soft: Annotated[Share, "Share of either that is told of when it has been spent; 0 = never."] = 0.8

    @property
    def any(self) -> bool:
        return self.day is not None or self.month is not None


@dataclass(slots=True, frozen=True, kw_only=True)
class Price:
    """What a million tokens of a model cost."""

    input: Annotated[PerMillion, "Tokens of the prompt."] = 0.0
    output: Annotated[PerMillion, "Tokens of the answer, reasoning included."] = 0.0
    cached: Annotated[
        PerMillion | None, "Tokens of the prompt read from the backend's cache; unset: as input."
    ] = None
    cache_write: Annotated[
        PerMillion | None, "Tokens of the prompt written to the backend's cache; unset: as input."
    ] = None

    @property
    def any(self) -> bool:
        """Whether the model costs anything."""
        return bool(self.input or self.output or self.cached or self.cache_write)


@dataclass(slots=True, frozen=True, kw_only=True)
class TeamConfig:
    """Keys whose use is counted together."""

    name: Annotated[Name, "Unique; what `team` of a key names."]
    limits: Annotated[RateLimits, "Of all its keys together."] = field(default_factory=RateLimits)
    budget: Annotated[Budget, "Of all its keys together."] = field(default_factory=Budget)


@dataclass(slots=True, frozen=True, kw_only=True)
class LimitsConfig:
    """Limits by name, for keys made at run time and for tokens whose claims name them."""

    name: Annotated[Name, "Unique."]
    limits: Annotated[RateLimits, "Of each key or client that has them."] = field(default_factory=RateLimits)
    budget: Annotated[Budget, "Of each key or client that has them."] = field(default_factory=Budget)


@dataclass(slots=True, frozen=True, kw_only=True)
class UsageConfig:
    """The ledger: one record of each request, in the state file."""

    enabled: Annotated[
        bool, "Keep it, if there is a state.file; without it budgets begin anew at each start."
    ] = True
    retention_days: Annotated[
        Number, "Records are deleted after so many days, those of this month never; 0 = never."
    ] = 400
    timezone: Annotated[
        str,
        Pattern("[A-Za-z][A-Za-z0-9_+/-]*", 'a name of the time zone database, such as "Europe/Berlin"'),
        "Whose days and months budgets and reports go by; needs the time zone database, but for UTC.",
    ] = "UTC"
    answer_tokens: Annotated[
        Number,
        "Tokens reserved for an answer whose request sets no max_tokens, until it has ended; at most the "
        "limit.",
    ] = 1024
    currency: Annotated[str, Pattern("[A-Z]{3}", "three capital letters, such as USD"), "Of all prices."] = (
        "USD"
    )
