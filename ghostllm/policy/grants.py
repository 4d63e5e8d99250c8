"""What a set of roles permits: groups of routes, each for some models or all. Made once, asked often."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from ghostllm.config.identity import GROUPS, Role


class Grants:
    """groups: what may be done at all. confines: some of it with some models only. models: patterns to which
    all of it is confined; none: every model.
    """

    __slots__ = ("_confined", "_models", "_own", "_patterns", "confines", "groups")

    def __init__(self, roles: Iterable[Role], models: Sequence[str] = ()) -> None:
        allowed: dict[str, frozenset[str] | None] = {}
        for role in roles:
            for group in _groups(role.allow):
                before = allowed.get(group, frozenset())
                allowed[group] = before | set(role.models) if role.models and before is not None else None
        self.groups = frozenset(allowed)
        self._patterns = allowed
        self._own = frozenset(models)
        self._models = _compiled(self._own) if models else None
        self._confined = {
            group: _compiled(patterns) for group, patterns in allowed.items() if patterns is not None
        }
        self.confines = bool(self._own or self._confined)

    def __repr__(self) -> str:
        return f"<Grants {' '.join(sorted(self.groups)) or 'nothing'}>"

    def allow(self, group: str, model: str | None = None) -> bool:
        """model: None asks whether it may be done with any."""
        if group not in self.groups:
            return False
        if model is None:
            return True
        confined = self._confined.get(group)
        if confined is not None and confined.match(model) is None:
            return False
        return self._models is None or self._models.match(model) is not None

    def covers(self, other: Grants) -> bool:
        """Whether `other` permits nothing beyond this: nobody gives away more than they have. Patterns are
        compared as they are written.
        """
        for group in other.groups:
            if group not in self.groups:
                return False
            own, theirs = self._patterns[group], other._patterns[group]
            if own is not None and not _within(theirs, own) and not _within(other._own or None, own):
                return False
        if not self._own:
            return True
        return _within(other._own or None, self._own) or all(
            _within(other._patterns[group], self._own) for group in other.groups
        )


def _within(patterns: frozenset[str] | None, bounds: frozenset[str]) -> bool:
    """patterns: None for every model."""
    return patterns is not None and patterns <= bounds


def _groups(allow: Iterable[str]) -> Iterable[str]:
    for entry in allow:
        if entry == "*":
            yield from GROUPS
        elif entry.endswith(":*"):
            yield from (group for group in GROUPS if group.startswith(entry[:-1]))
        else:
            yield entry


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in sorted(patterns)))


NOTHING = Grants(())
