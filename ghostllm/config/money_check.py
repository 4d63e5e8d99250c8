"""What the types of `money` cannot say: unique names, teams that are there, budgets that are ever spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol
from zoneinfo import ZoneInfo

from ghostllm.config.money import Budget, LimitsConfig, Price, TeamConfig, UsageConfig
from ghostllm.config.sources import suggestion

Fault = tuple[object, str, str]
"""A section, one of its keys, and what is wrong with it."""


class Spender(Protocol):
    """A section that may have a budget."""

    @property
    def budget(self) -> Budget: ...


class Member(Protocol):
    """A section that may name a team."""

    @property
    def team(self) -> str: ...


def faults(
    teams: Sequence[TeamConfig],
    limits: Sequence[LimitsConfig],
    members: Iterable[Member],
    prices: Iterable[Price],
    spenders: Sequence[Spender],
) -> Iterator[Fault]:
    """members: whoever may name a team, spenders: whoever may have a budget, beside teams and limits."""
    for sections in (teams, limits):
        seen: set[str] = set()
        for section in sections:
            if section.name in seen:
                yield section, "name", f'"{section.name}" is the name of another one already'
            seen.add(section.name)
    names = [team.name for team in teams]
    for member in members:
        # Without any [[teams]] a team is a word that reports go by.
        if names and member.team and member.team not in names:
            yield member, "team", f'no team is called "{member.team}"{suggestion(member.team, names)}'
    if not any(price.any for price in prices):
        everybody: list[Spender] = [*teams, *limits, *spenders]
        for spender in everybody:
            if spender.budget.any:
                yield spender, "budget", "nothing is ever spent of it: no model has a price"


def zone_fault(usage: UsageConfig) -> str | None:
    """What is wrong with the time zone."""
    if usage.timezone == "UTC":
        return None
    try:
        ZoneInfo(usage.timezone)
    except (OSError, ValueError, LookupError):
        return f"{usage.timezone!r} is not known here; is the time zone database installed (tzdata)?"
    return None
