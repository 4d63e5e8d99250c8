"""balance = "smart": the target with the shortest expected wait for this very prompt.

Score = (work already waiting + affinity x uncached prefill + decode load + loading + recent failures) /
weight, smallest first. All targets are looked at: drawing two at random cost a quarter in simulation. The
hit length alone never decides: a block common to all prompts would send everything to one backend.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ghostllm.routing.catalog import Target


@dataclass(slots=True, frozen=True, kw_only=True)
class Settings:
    """affinity: how much dearer than waiting a second of own prefill counts; above 1 it keeps conversations
    where their cache is. decode: seconds per request that is being decoded. fault: seconds per recent
    failure, so that failing fast never looks like being free. tie: seconds within which scores are equal.
    load: seconds to load a model, where nobody has measured it.
    """

    affinity: float = 4.0
    decode: float = 0.0
    fault: float = 5.0
    tie: float = 0.005
    load: float = 10.0


@dataclass(slots=True, frozen=True, kw_only=True)
class Facts:
    """What is known of one backend at the moment of choice.

    wait: seconds of work ahead (Backlog.wait). cached: tokens of this prompt that it holds. rate: seconds
    per uncached token. decoding: requests past their first token. loaded: whether the model is in memory;
    None: unknown, taken as loaded. load: seconds to load it. weight: configured x thermal x slow start.
    faults: recent failures, decayed (Breaker.faults).
    """

    wait: float = 0.0
    cached: float = 0.0
    rate: float = 0.0002
    decoding: int = 0
    loaded: bool | None = None
    load: float | None = None
    weight: float = 1.0
    faults: float = 0.0


@dataclass(slots=True, frozen=True)
class Choice:
    """A target and its score in seconds. tokens: length of the prompt. tied: drawn among equals."""

    target: Target
    score: float
    tokens: float
    facts: Facts
    tied: bool = False

    @property
    def why(self) -> tuple[str, ...]:
        """Short words, for `explain` and the debug header."""
        facts = self.facts
        words = [f"wait {facts.wait:.2f}s", f"cached {facts.cached:.0f} of {self.tokens:.0f}"]
        if facts.loaded is False:
            words.append("to be loaded")
        if facts.faults > 0:
            words.append(f"faults {facts.faults:.1f}")
        if facts.weight != 1:
            words.append(f"weight {facts.weight:.2g}")
        return (*words, "tied") if self.tied else tuple(words)


DEFAULTS = Settings()


def order(
    targets: Sequence[Target],
    tokens: float,
    facts: Callable[[Target], Facts],
    *,
    chance: random.Random,
    settings: Settings = DEFAULTS,
) -> list[Choice]:
    """tokens: length of the prompt. A target of weight 0 comes after all others."""
    ranked = []
    for target in targets:
        known = facts(target)
        ranked.append(Choice(target, score(tokens, known, settings), tokens, known))
    ranked.sort(key=lambda choice: (choice.facts.weight <= 0, choice.score))
    # With measured rates exact ties vanish, and one idle backend would win them all.
    first = [
        choice
        for choice in ranked
        if choice.score - ranked[0].score <= settings.tie
        and (choice.facts.weight <= 0) == (ranked[0].facts.weight <= 0)
    ]
    if len(first) > 1:
        chance.shuffle(first)
        ranked[: len(first)] = [replace(choice, tied=True) for choice in first]
    return ranked


def score(tokens: float, facts: Facts, settings: Settings = DEFAULTS) -> float:
    """Seconds; never below 0."""
    seconds = (
        facts.wait
        + settings.affinity * facts.rate * max(0.0, tokens - facts.cached)
        + settings.decode * facts.decoding
        + settings.fault * facts.faults
    )
    if facts.loaded is False:
        seconds += settings.load if facts.load is None else facts.load
    return seconds / (facts.weight if facts.weight > 0 else 1.0)
