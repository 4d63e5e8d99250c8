"""Which targets of a model may take a request now, before any policy orders them.

A plan is never empty while a target exists that could serve: when nothing is left, unknown and draining
backends are readmitted, and if breakers or failed probes took away the last ones, the one that is due first
is tried nevertheless ("forced").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ghostllm.routing import health
from ghostllm.routing.catalog import Target


@dataclass(slots=True, frozen=True, kw_only=True)
class Standing:
    """How a target stands. open_until: while its breaker lets nobody through, when the next probe is due.
    unfit: why it could not serve this very request, "" if it can. full: at its limit of requests.
    """

    health: health.State = health.State.UP
    open_until: float | None = None
    draining: bool = False
    unfit: str = ""
    full: bool = False


@dataclass(slots=True, frozen=True)
class Screened:
    """allowed: in the order given. refused: the others, with a short word each. forced: `allowed` is one
    target that its breaker or its probes speak against. waiting: targets that only lack a free slot.
    """

    allowed: tuple[Target, ...]
    refused: tuple[tuple[Target, str], ...]
    forced: bool = False
    waiting: tuple[Target, ...] = ()


def screen(
    targets: Sequence[Target], standing: Callable[[Target], Standing], *, pin: str | None = None
) -> Screened:
    """pin: name of a backend asked for; it alone is allowed if it passed, otherwise it counts for nothing."""
    stands = {target: standing(target) for target in targets}
    words = {target: refusal(stand) for target, stand in stands.items()}
    forced = False
    allowed = [target for target in targets if words[target] is None]
    waiting = [target for target in targets if words[target] == "full"]
    if not allowed:
        allowed = [target for target in targets if words[target] == "unknown"]
    if not allowed and not waiting:
        allowed = [target for target in targets if words[target] == "draining"]
    if not allowed and not waiting:
        # A word of absence may be stale; trying costs one failed attempt, not trying costs the answer.
        absent = [target for target in targets if words[target] in ("breaker open", "down")]
        forced = bool(absent)
        allowed = sorted(absent, key=lambda target: _due(stands[target]))[:1]
    waiting += [target for target in allowed if stands[target].full]
    allowed = [target for target in allowed if not stands[target].full]
    if pin is not None and (pinned := [target for target in allowed if target.backend == pin]):
        words |= {target: "not pinned" for target in allowed if target.backend != pin}
        allowed = pinned
    chosen = set(allowed)
    refused = tuple((target, words[target] or "") for target in targets if target not in chosen)
    return Screened(tuple(allowed), refused, forced and bool(allowed), tuple(waiting))


def refusal(stand: Standing) -> str | None:
    """Why nothing is sent there now, in a word; None: nothing speaks against it. What cannot change comes
    first: it is never readmitted.
    """
    if stand.unfit:
        return stand.unfit
    if stand.health is health.State.DOWN:
        return "down"
    if stand.open_until is not None:
        return "breaker open"
    if stand.draining:
        return "draining"
    if stand.full:
        return "full"
    if stand.health is health.State.UNKNOWN:
        return "unknown"
    return None


def _due(stand: Standing) -> tuple[bool, float]:
    return stand.health is health.State.DOWN, stand.open_until or 0.0
