"""balance = "smart": the target with the shortest expected wait for this very prompt.

Score = (work already waiting + affinity x uncached prefill + decode load + loading + recent failures) /
weight, smallest first. All targets are looked at: drawing two at random cost a quarter in simulation. The
hit length alone never decides: a block common to all prompts would send everything to one backend.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from operator import attrgetter

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
class Choice:
    """A target, and what is known of it at the moment of choice.

    tokens: length of the prompt. wait: seconds of work ahead (Backlog.wait). cached: tokens of this prompt
    that it holds. rate: seconds per uncached token. decoding: requests past their first token. condition: all
    else. score: seconds, once it has been ordered. tied: drawn among equals.
    """

    target: Target
    tokens: float
    wait: float = 0.0
    cached: float = 0.0
    rate: float = 0.0002
    decoding: int = 0
    condition: Condition = READY
    score: float = 0.0
    tied: bool = False

    @property
    def spare(self) -> bool:
        """Of weight 0, and so after all others."""
        return self.condition.weight <= 0

    @property
    def why(self) -> tuple[str, ...]:
        """Short words, for `explain`."""
        words = [f"wait {self.wait:.2f}s", f"cached {self.cached:.0f} of {self.tokens:.0f}"]
        if self.condition.loaded is False:
            words.append("to be loaded")
        if self.condition.faults > 0:
            words.append(f"faults {self.condition.faults:.1f}")
        if self.condition.weight != 1:
            words.append(f"weight {self.condition.weight:.2g}")
        return (*words, "tied") if self.tied else tuple(words)


DEFAULTS = Settings()
_score = attrgetter("score")


def order(choices: list[Choice], *, chance: random.Random, settings: Settings = DEFAULTS) -> list[Choice]:
    """Scores them and puts them in order, in place. A target of weight 0 comes after all others."""
    ordinary = True
    affinity, decode = settings.affinity, settings.decode
    for choice in choices:
        uncached = choice.tokens - choice.cached
        choice.score = choice.wait + decode * choice.decoding
        if uncached > 0:
            choice.score += affinity * choice.rate * uncached
        if choice.condition is not READY:
            ordinary = False
            choice.score = _conditional(choice.score, choice.condition, settings)
    if len(choices) > 1:
        choices.sort(key=_score if ordinary else _rank)
        # With measured rates exact ties vanish, and one idle backend would win them all.
        if choices[1].score - choices[0].score <= settings.tie:
            _draw(choices, chance, settings.tie)
    return choices


def _conditional(seconds: float, condition: Condition, settings: Settings) -> float:
    seconds += settings.fault * condition.faults
    if condition.loaded is False:
        seconds += settings.load if condition.load is None else condition.load
    return seconds / (condition.weight if condition.weight > 0 else 1.0)


def _rank(choice: Choice) -> tuple[bool, float]:
    return choice.spare, choice.score


def _draw(choices: list[Choice], chance: random.Random, tie: float) -> None:
    """One of the equals becomes the first; shuffling them all would cost more than all the rest."""
    spare, most = choices[0].spare, choices[0].score + tie
    tied = 0
    while tied < len(choices) and choices[tied].score <= most and choices[tied].spare is spare:
        tied += 1
    if tied > 1:
        for choice in choices[:tied]:
            choice.tied = True
        drawn = int(chance.random() * tied)
        choices[0], choices[drawn] = choices[drawn], choices[0]
