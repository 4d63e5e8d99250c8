"""A source's settings before they are checked: nested tables that remember where each key was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Path = tuple[str | int, ...]

DEEPEST = 64
"""Levels of nesting; real configurations have five. Keeps every recursive walk far from the stack limit."""


class Table(dict[Any, Any]):
    """A table that knows where it (place) and its keys (places) were written: `file:line`, variable, flag."""

    __slots__ = ("place", "places")

    def __init__(self, place: str = "") -> None:
        super().__init__()
        self.place = place
        self.places: dict[Any, str] = {}

    def put(self, key: Any, value: Any, place: str) -> None:
        self[key] = value
        self.places[key] = place

    def place_of(self, key: Any) -> str:
        return self.places.get(key) or self.place


class Raw(str):
    """Text from a variable or a flag: whether it is a number, a list or a word depends on its key."""


class TooDeep(ValueError):
    """Nested beyond DEEPEST."""


def located(data: Any, places: Mapping[Path, str], place: str = "", path: Path = ()) -> Any:
    """A copy of nested dicts and lists with Tables for dicts. places: by path; the others inherit."""
    if len(path) > DEEPEST:
        raise TooDeep(f"nested more than {DEEPEST} levels deep")
    place = places.get(path, place)
    if isinstance(data, Mapping):
        table = Table(data.place if isinstance(data, Table) and data.place else place)
        known = data.places if isinstance(data, Table) else {}
        for key, value in data.items():
            here = known.get(key) or places.get((*path, key), place)
            table.put(key, located(value, places, here, (*path, key)), here)
        return table
    if isinstance(data, (list, tuple)):
        return [located(value, places, place, (*path, index)) for index, value in enumerate(data)]
    return data


def place_at(tree: Table, path: Sequence[str], value: Any, place: str) -> None:
    """Put `value` at `path`, making the tables on the way. ValueError where something else is on it."""
    table = tree
    for key in path[:-1]:
        inner = table.setdefault(key, Table(place))
        if not isinstance(inner, Table):
            raise ValueError(f"{path_text(path)}: {key} has been set to a single value before")
        table.places.setdefault(key, place)
        table = inner
    table.put(path[-1], value, place)


def merged(base: Any, over: Any) -> Any:
    """`over` laid upon `base`; neither is changed.

    Tables merge key by key. Of a list of tables (such as backends), those with a `name` that is already there
    take that one's place, others are added; any other list replaces. Where a table meets something else in
    the base, the base stays: it is a mistake that must be told, not covered.
    """
    if isinstance(base, Table) and isinstance(over, Table):
        result = Table(over.place or base.place)
        result.update(base)
        result.places.update(base.places)
        for key, value in over.items():
            if key in base and isinstance(value, Table):
                result.put(key, merged(base[key], value), base.place_of(key))
            else:
                result.put(key, merged(base[key], value) if key in base else value, over.place_of(key))
        return result
    if isinstance(over, Table):
        return base
    if isinstance(base, list) and isinstance(over, list) and over and all(isinstance(x, Table) for x in over):
        return _by_name(base, over)
    return over


def _by_name(base: list[Any], over: list[Table]) -> list[Any]:
    result = list(base)
    known: dict[Any, int] = {}
    for index, entry in enumerate(base):
        if isinstance(entry, Table) and isinstance(entry.get("name"), str):
            known.setdefault(entry["name"], index)
    for entry in over:
        name = entry.get("name")
        index_of = known.pop(name, None) if isinstance(name, str) else None
        if index_of is None:
            result.append(entry)
        else:
            result[index_of] = entry
    return result


def path_text(path: Sequence[str | int]) -> str:
    """`backends[1].headers."a b"`: as TOML writes keys, with indices in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        plain = part.replace("-", "_").isidentifier() and part.isascii() or part.isdigit()
        shown = part if len(part) <= 60 else part[:57] + "..."
        text += ("." if text else "") + (shown if plain else f'"{ascii(shown)[1:-1]}"')
    return text
