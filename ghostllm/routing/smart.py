"""balance = "smart": the target with the shortest expected wait for this very prompt.

Score = (work already waiting + affinity x uncached prefill + decode load + loading + recent failures) /
weight, smallest first. All targets are looked at: drawing two at random cost a quarter in simulation. The
hit length alone never decides: a block common to all prompts would send everything to one backend.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from operator import itemgetter

from ghostllm.routing.backlog import Seat


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

Choice = tuple[float, Seat, float, float, float, Condition]
"""A target, and what is known of it at the moment of choice: score; its seat; seconds of work ahead
(Backlog.wait); tokens of this prompt that it holds; tokens of the prompt; all else. A tuple, as every request
makes one for each target, and hardly any is ever looked at.
"""


DEFAULTS = Settings()

SPARE = 1e12
"""Added to the score of a target of weight 0: it comes after all others."""

LEAST_WEIGHT = 1e-6
"""Below it a weight counts as this, so that scores stay below SPARE."""

_score = itemgetter(0)


def score(
    wait: float, uncached: float, rate: float, decoding: int, condition: Condition, settings: Settings
) -> float:
    """Seconds. uncached: tokens to be computed. rate: seconds for each. decoding: requests past their first
    token.
    """
    seconds = wait + settings.decode * decoding
    if uncached > 0:
        seconds += settings.affinity * rate * uncached
    if condition is READY:
        return seconds
    seconds += settings.fault * condition.faults
    if condition.loaded is False:
        seconds += settings.load if condition.load is None else condition.load
    return seconds / max(condition.weight, LEAST_WEIGHT) if condition.weight > 0 else seconds + SPARE


def arrange(choices: list[Choice], *, chance: random.Random, settings: Settings = DEFAULTS) -> int:
    """Puts them in order, in place: how many of the first are equals, of which one was drawn; 0 if the first
    is alone.
    """
    if len(choices) < 2:
        return 0
    choices.sort(key=_score)
    most = choices[0][0] + settings.tie
    # With measured rates exact ties vanish, and one idle backend would win them all.
    if choices[1][0] > most:
        return 0
    tied = 2
    while tied < len(choices) and choices[tied][0] <= most:
        tied += 1
    # Shuffling the equals would cost more than all the rest.
    drawn = int(chance.random() * tied)
    choices[0], choices[drawn] = choices[drawn], choices[0]
    return tied


def seconds_of(choice: Choice) -> float:
    """Its score, whatever its weight."""
    return choice[0] - SPARE if choice[5].weight <= 0 else choice[0]


def why(choice: Choice, *, tied: bool) -> list[str]:
    """Short words, for `explain`."""
    _, _, wait, cached, tokens, condition = choice
    words = [f"wait {wait:.2f}s", f"cached {cached:.0f} of {tokens:.0f}"]
    if condition.loaded is False:
        words.append("to be loaded")
    if condition.faults > 0:
        words.append(f"faults {condition.faults:.1f}")
    if condition.weight != 1:
        words.append(f"weight {condition.weight:.2g}")
    if tied:
        words.append("tied")
    return words
