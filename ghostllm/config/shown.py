"""A configuration as JSON for people, and the difference between two. No secret is in either.

A secret is shown as where it was read (`env:NAME`, `file:PATH`), a literal one as stars.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from ghostllm.config.constraints import Hidden, SecretText
from ghostllm.config.fields import fields_of, is_section, unwrapped
from ghostllm.config.kinds import Secret
from ghostllm.config.tree import path_text

STARS = "***"


@dataclass(slots=True, frozen=True)
class Change:
    """path: of a key or of a whole section, members of a list by their names. before, after: JSON; of a
    section that is added or removed, what it has beside the defaults.
    """

    path: str
    change: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None

    def told(self) -> dict[str, Any]:
        return {"path": self.path, "change": self.change, "before": self.before, "after": self.after}


def shown(section: Any, *, defaults: bool = True) -> dict[str, Any]:
    """Every key of a section. defaults: also those that are as they would be without being set."""
    cls: type = type(section)
    return {
        name: _value(section, name, defaults)
        for name, field in fields_of(cls).items()
        if defaults or getattr(section, name) != field.default
    }


def changes(before: Any, after: Any) -> list[Change]:
    """What makes `after` another configuration than `before`."""
    return list(_section(before, after, ()))


def _section(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Change]:
    cls: type = type(after)
    for name in fields_of(cls):
        one, other = getattr(before, name), getattr(after, name)
        here = (*path, name)
        if one == other:
            continue
        if is_section(type(other)) and type(one) is type(other) and not isinstance(other, Secret):
            yield from _section(one, other, here)
        elif _named(one) and _named(other) and (one or other):
            yield from _list(one, other, here)
        else:
            old, new = _value(before, name, True), _value(after, name, True)
            if old == new:  # a secret whose value has changed and whose place has not
                new = f"{new if isinstance(new, str) else STARS} (another value)"
            yield Change(path_text(here), "changed", old, new)


def _list(before: Sequence[Any], after: Sequence[Any], path: tuple[str, ...]) -> Iterator[Change]:
    """Of sections with names."""
    old, new = ({section.name: section for section in sections} for sections in (before, after))
    for name, section in old.items():
        if name not in new:
            yield Change(path_text((*path, name)), "removed", before=shown(section, defaults=False))
    for name, section in new.items():
        if name not in old:
            yield Change(path_text((*path, name)), "added", after=shown(section, defaults=False))
        elif section != old[name]:
            yield from _section(old[name], section, (*path, name))
    stayed = [name for name in old if name in new]
    if stayed != [name for name in new if name in old]:
        yield Change(path_text(path), "changed", f"order: {', '.join(old)}", f"order: {', '.join(new)}")


def _named(value: Any) -> bool:
    return isinstance(value, tuple) and all(hasattr(item, "name") for item in value)


def _value(section: Any, name: str, defaults: bool) -> Any:
    value = getattr(section, name)
    cls: type = type(section)
    if name in _hidden(cls):
        if isinstance(value, Mapping):
            return dict.fromkeys(value, STARS)
        return STARS if value else value
    return _plain(value, defaults)


def _plain(value: Any, defaults: bool) -> Any:
    if isinstance(value, Secret):
        return value.origin or STARS
    if is_section(type(value)):
        return shown(value, defaults=defaults)
    if isinstance(value, Mapping):
        return {key: _plain(item, defaults) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, defaults) for item in value]
    return value


@cache
def _hidden(cls: type) -> frozenset[str]:
    """The fields whose text is not to be shown although it is no Secret."""
    return frozenset(name for name, field in fields_of(cls).items() if _hides(field.type))


def _hides(kind: Any) -> bool:
    inner, marks = unwrapped(kind)
    if any(isinstance(mark, SecretText | Hidden) for mark in marks):
        return True
    return get_origin(inner) is Mapping and _hides(get_args(inner)[1])
