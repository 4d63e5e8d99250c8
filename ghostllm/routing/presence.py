"""What a look at a backend showed, and what follows from it for its health and for what is known of its
load. Pure: `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ghostllm.ports import Observed
from ghostllm.routing.health import Health
from ghostllm.routing.ledger import Ledger

LARGEST_CACHE = 1 << 26
"""Tokens. A server that says its cache holds more is not believed: the index of it would have no bound."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Probe:
    """One look at one backend. at: time on the event loop's clock.

    passed: whether it is there and able to work; None: only its load was looked at. refused: nothing listens.
    silent: no answer came in time, which says little of a server that is busy. reason: why not passed, for
    people. observed: what it said just now. started: when its process began, as it last said.
    """

    backend: str
    at: float
    passed: bool | None
    reason: str = ""
    refused: bool = False
    silent: bool = False
    observed: Observed | None = None
    started: float | None = None


def note(probe: Probe, health: Health, ledger: Ledger, now: float, *, busy: bool) -> None:
    """Takes a look's result into `health` and `ledger`. busy: requests of ours are under way there.

    Silence of a backend that works for us is no failure: llama.cpp has a thread for each open connection,
    and when all of them stream nobody answers probes.
    """
    name = probe.backend
    if probe.refused:
        health.refused(now)
    elif probe.passed is not None and not (probe.silent and busy):
        if health.probed(probe.passed, now, started=probe.started):
            ledger.index.forget(name)
    if probe.observed is not None:
        _take(name, probe.observed, ledger, now)


def _take(name: str, observed: Observed, ledger: Ledger, now: float) -> None:
    backlog = ledger.backlog(name)
    if observed.waiting is not None:
        backlog.scraped(observed.waiting, now)
    if observed.cache_tokens is not None:
        ledger.hold(name, min(observed.cache_tokens, LARGEST_CACHE))
    # Without a model in memory there is no cache; a request under way may be having one loaded, though.
    empty = observed.loaded is not None and not observed.loaded
    if observed.sleeping or (empty and not backlog.in_flight):
        ledger.index.forget(name)


def merged(parts: Iterable[Observed]) -> Observed:
    """What several pages say together; the earlier counts where two say the same."""
    known: dict[str, Any] = {}
    for part in parts:
        for field in fields(Observed):
            value = getattr(part, field.name)
            if value is not None:
                known.setdefault(field.name, value)
    return Observed(**known)
