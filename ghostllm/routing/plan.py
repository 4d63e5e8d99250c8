"""What was decided about one request: its targets in the order in which they are tried, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.ledger import Prompt
from ghostllm.routing.screening import Screened
from ghostllm.routing.smart import Choice


class RoutePlan:
    """Implements message.Plan. policy: how they were ordered. usable: how many of the targets may be tried at
    once; those behind them are full, resting or absent, and tried when all others have failed. forced: the
    first is one of those. prompt: for `smart`, what its caches are searched for.
    """

    __slots__ = ("_choices", "_screened", "forced", "model", "policy", "prompt", "targets", "usable")

    def __init__(
        self,
        model: Model,
        policy: str,
        targets: Sequence[Target],
        usable: int,
        screened: Screened | None = None,
        choices: Sequence[Choice] = (),
        prompt: Prompt | None = None,
    ) -> None:
        self.model = model
        self.policy = policy
        self.targets = targets
        self.usable = usable
        self.prompt = prompt
        self.forced = screened is not None and screened.forced
        self._screened = screened
        self._choices = choices

    def __repr__(self) -> str:
        return f"<RoutePlan {self.policy} {' '.join(target.backend for target in self.targets)}>"

    @property
    def waiting(self) -> Sequence[Target]:
        """Those that only lack a free slot, in order."""
        if self._screened is None:
            return ()
        return [target for target in self.targets if target in self._screened.waiting]

    def why(self, target: Target) -> str:
        """A word, for the header and the attempt; the figures are in what is told."""
        for choice in self._choices:
            if choice.target is target:
                if choice.tied:
                    return "smart: equals"
                return "smart: cached" if choice.cached > 0 else "smart: least wait"
        return f"{self.policy}, forced" if self.forced else self.policy

    def told(self) -> dict[str, Any]:
        scores = {choice.target: choice for choice in self._choices}
        ordered: list[dict[str, Any]] = []
        for target in self.targets[: self.usable]:
            row: dict[str, Any] = {"backend": target.backend, "model": target.model}
            choice = scores.get(target)
            if choice is not None:
                row["score_s"] = round(choice.score, 4)
                row["why"] = list(choice.why)
            ordered.append(row)
        told: dict[str, Any] = {"model": self.model.name, "policy": self.policy, "targets": ordered}
        if self.forced:
            told["forced"] = True
        if self._screened is not None and self._screened.refused:
            told["refused"] = [
                {"backend": target.backend, "model": target.model, "why": word}
                for target, word in self._screened.refused
            ]
        return told
