"""A split model at run time: which arm a request gets, what became of the arms, and the canary on trial."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ghostllm.config.traffic import SplitConfig
from ghostllm.errors import GhostError, RequestError, UpstreamAnswered
from ghostllm.routing.split import Arm, Canary, assign, mirrored

JUDGED = frozenset(("ok", "error", "broken"))
"""Outcomes that say something of the variant: not those whose client left, or whose request was at fault."""


def at_fault(error: GhostError) -> bool:
    """Whether the request itself is, so that its failing says nothing of the variant."""
    return isinstance(error, RequestError) or (isinstance(error, UpstreamAnswered) and not error.retryable)


class Arms:
    """model: whose requests are shared. shadows: copies under way."""

    def __init__(self, model: str, config: SplitConfig, now: float) -> None:
        self.model = model
        self.config = config
        self.shadows = 0
        self._arms = [Arm(arm.model, arm.weight) for arm in config.arms]
        self._canary = Canary(f"{model}\0{config.canary.model}", config.canary, now=now)
        self._ends: Counter[tuple[str, str]] = Counter()
        self._first: dict[str, tuple[int, float]] = {}

    def __repr__(self) -> str:
        return f"<Arms of {self.model} {dict(self._ends)}>"

    def pick(self, key: str) -> str:
        """The model that serves this caller's request: `model` itself, or another one's name."""
        if any(arm.weight > 0 for arm in self._arms):
            return assign(self.model, self._arms, key).name
        if self.config.canary.model and self._canary.chosen(key):
            return self.config.canary.model
        return self.model

    def mirrors(self, key: str) -> bool:
        """Whether a copy of this request goes to the shadow; if so it is counted as under way."""
        shadow = self.config.shadow
        if not shadow.model or not mirrored(
            shadow.model, shadow.share, key, running=self.shadows, limit=shadow.inflight
        ):
            return False
        self.shadows += 1
        return True

    def ended(self, arm: str, outcome: str, now: float, seconds: float | None) -> None:
        """outcome: of the exchange, or "refused" where the request itself was at fault. seconds: to the first
        token, None if there was none.
        """
        self._count(arm, outcome, seconds)
        if self.config.canary.model and outcome in JUDGED:
            self._canary.ended(arm == self.config.canary.model, outcome != "ok", now, seconds)

    def mirrored(self, outcome: str, seconds: float | None) -> None:
        """A copy has been answered, or not."""
        self.shadows -= 1
        self._count(f"shadow:{self.config.shadow.model}", outcome, seconds)

    def ends(self) -> list[tuple[str, str, int]]:
        """Arm, outcome, how often."""
        return [(arm, outcome, times) for (arm, outcome), times in sorted(self._ends.items())]

    def first_tokens(self) -> list[tuple[str, int, float]]:
        """Arm, how many first tokens, their seconds together."""
        return [(arm, count, total) for arm, (count, total) in sorted(self._first.items())]

    def told(self) -> dict[str, Any]:
        """For operators."""
        told: dict[str, Any] = {"model": self.model, "by": self.config.by}
        names = [arm.name for arm in self._arms] or [self.model]
        total = sum(arm.weight for arm in self._arms) or 1.0
        shares = {arm.name: arm.weight / total for arm in self._arms} or {self.model: 1.0}
        canary = self.config.canary
        if canary.model and not self._arms:
            names.append(canary.model)
            shares = {self.model: 1.0 - self._canary.share, canary.model: self._canary.share}
            told["canary"] = {
                "model": canary.model,
                "state": self._canary.state.name.lower(),
                "step": self._canary.step,
                "why": self._canary.why,
            }
        if self.config.shadow.model:
            names.append(f"shadow:{self.config.shadow.model}")
        told["arms"] = [self._told_arm(name, shares.get(name)) for name in names]
        return told

    def _count(self, arm: str, outcome: str, seconds: float | None) -> None:
        self._ends[arm, outcome] += 1
        if seconds is not None:
            count, total = self._first.get(arm, (0, 0.0))
            self._first[arm] = count + 1, total + seconds

    def _told_arm(self, name: str, share: float | None) -> dict[str, Any]:
        count, total = self._first.get(name, (0, 0.0))
        outcomes = {outcome: times for arm, outcome, times in self.ends() if arm == name}
        return {
            "model": name,
            "share": None if share is None else round(share, 4),
            "outcomes": outcomes,
            "mean_first_token_s": round(total / count, 4) if count else None,
        }
