"""balance = "smart": the target with the shortest expected wait for this very prompt.

Score = (work already waiting + affinity x uncached prefill + decode load + loading + recent failures) /
weight, smallest first. All targets are looked at: drawing two at random cost a quarter in simulation. The
hit length alone never decides: a block common to all prompts would send everything to one backend.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


@dataclass(slots=True, frozen=True)
class Condition:
    """How a backend stands, its load apart. loaded: whether the model is in memory; None: unknown, taken as
    loaded. load: seconds to load it. weight: configured x slow start. faults: recent failures, decayed
    (Breaker.faults).
    """

    loaded: bool | None = None
    load: float | None = None
    weight: float = 1.0
    faults: float = 0.0


READY = Condition()
"""The ordinary one. Shared: never changed."""


@dataclass(slots=True)
class Facts:
    """What is known of one backend at the moment of choice.

    wait: seconds of work ahead (Backlog.wait). cached: tokens of this prompt that it holds. rate: seconds
    per uncached token. decoding: requests past their first token. condition: all else.
    """

    wait: float = 0.0
    cached: float = 0.0
    rate: float = 0.0002
    decoding: int = 0
    condition: Condition = READY


@dataclass(slots=True)
class Choice:
    """A target and its score in seconds. tokens: length of the prompt. spare: of
    weight 0, and so after all others. tied: drawn among equals.
    """

    target: Target
    score: float
    tokens: float
    facts: Facts
    spare: bool = False
    tied: bool = False

    @property
    def why(self) -> tuple[str, ...]:
        """Short words, for `explain` and the debug header."""
        facts = self.facts
        words = [f"wait {facts.wait:.2f}s", f"cached {facts.cached:.0f} of {self.tokens:.0f}"]
        if facts.condition.loaded is False:
            words.append("to be loaded")
        if facts.condition.faults > 0:
            words.append(f"faults {facts.condition.faults:.1f}")
        if facts.condition.weight != 1:
            words.append(f"weight {facts.condition.weight:.2g}")
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
        spare = known.condition.weight <= 0
        ranked.append(Choice(target, score(tokens, known, settings), tokens, known, spare))
    if len(ranked) < 2:
        return ranked
    ranked.sort(key=_rank)
    # With measured rates exact ties vanish, and one idle backend would win them all.
    spare, most = ranked[0].spare, ranked[0].score + settings.tie
    tied = 0
    for choice in ranked:
        if choice.score > most or choice.spare is not spare:
            break
        tied += 1
    if tied > 1:
        for choice in ranked[:tied]:
            choice.tied = True
        # One is drawn; shuffling all of them would cost more than all the rest.
        drawn = int(chance.random() * tied)
        ranked[0], ranked[drawn] = ranked[drawn], ranked[0]
    return ranked


def _rank(choice: Choice) -> tuple[bool, float]:
    return choice.spare, choice.score


def score(tokens: float, facts: Facts, settings: Settings = DEFAULTS) -> float:
    """Seconds; never below 0."""
    seconds = (
        facts.wait
        + settings.affinity * facts.rate * max(0.0, tokens - facts.cached)
        + settings.decode * facts.decoding
    )
    condition = facts.condition
    if condition is READY:
        return seconds
    seconds += settings.fault * condition.faults
    if condition.loaded is False:
        seconds += settings.load if condition.load is None else condition.load
    return seconds / (condition.weight if condition.weight > 0 else 1.0)
