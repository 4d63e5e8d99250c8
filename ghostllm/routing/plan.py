"""What was decided about one request: its targets in the order in which they are tried, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ghostllm.routing.backlog import Seat
from ghostllm.routing.catalog import Model, Target
from ghostllm.routing.ledger import Prompt
from ghostllm.routing.screening import Screened
from ghostllm.routing.smart import Choice, seconds_of, why


class RoutePlan:
    """Implements message.Plan. policy: how they were ordered. usable: how many of the targets may be tried at
    once; those behind them are full, resting or absent, and tried when all others have failed. forced: the
    first is one of those. lone: there is one target only. prompt: for `smart`, what its caches are searched
    for; lead: its place in the ledger for the first. Of choices the first `tied` are equals; where they are
    all the targets there are, `targets` may be None.
    """

    __slots__ = (
        "_choices", "_screened", "_targets", "_tied", "first", "forced", "lead", "lone", "model", "policy",
        "prompt", "usable",
    )  # fmt: skip

    def __init__(
        self,
        model: Model,
        policy: str,
        targets: Sequence[Target] | None,
        usable: int,
        screened: Screened | None = None,
        choices: Sequence[Choice] = (),
        tied: int = 0,
        prompt: Prompt | None = None,
    ) -> None:
        self.model = model
        self.policy = policy
        self._targets = targets
        self.lead: Seat | None = choices[0][1] if choices else None
        if targets is not None:
            self.first = targets[0]
            self.lone = len(targets) == 1
        else:
            self.first = choices[0][1].target
            self.lone = len(choices) == 1
        self.usable = usable
        self.prompt = prompt
        self.forced = screened is not None and screened.forced
        self._screened = screened
        self._choices = choices
        self._tied = tied

    def __repr__(self) -> str:
        return f"<RoutePlan {self.policy} {' '.join(target.backend for target in self.targets)}>"

    @property
    def targets(self) -> Sequence[Target]:
        """In the order in which they are tried. Most requests need the first only."""
        targets = self._targets
        if targets is None:
            targets = self._targets = [choice[1].target for choice in self._choices]
        return targets

    @property
    def name(self) -> str:
        """See message.Plan."""
        return self.model.name

    @property
    def waiting(self) -> Sequence[Target]:
        """Those that only lack a free slot, in order."""
        if self._screened is None:
            return ()
        return [target for target in self.targets if target in self._screened.waiting]

    def why(self, target: Target) -> str:
        """A word, for the header and the attempt; the figures are in what is told."""
        for at, choice in enumerate(self._choices):
            if choice[1].target is target:
                if at < self._tied:
                    return "smart: equals"
                return "smart: cached" if choice[3] > 0 else "smart: least wait"
        return f"{self.policy}, forced" if self.forced else self.policy

    def told(self) -> dict[str, Any]:
        scores = {choice[1].target: (at, choice) for at, choice in enumerate(self._choices)}
        ordered: list[dict[str, Any]] = []
        for target in self.targets[: self.usable]:
            row: dict[str, Any] = {"backend": target.backend, "model": target.model}
            if target in scores:
                at, choice = scores[target]
                row["score_s"] = round(seconds_of(choice), 4)
                row["why"] = why(choice, tied=at < self._tied)
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
