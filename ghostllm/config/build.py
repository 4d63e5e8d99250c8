"""From a tree to the schema's dataclasses. Every mistake is collected; nothing stops at the first one.

Driven by the types in `schema`: a new key needs no code here. A value that is wrong is replaced by its
default, so that the checks after this one can go on, and its path is remembered in `failed`, so that they do
not blame it twice.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from ghostllm.config.constraints import Count, Form, Pattern, Range, SecretText
from ghostllm.config.fields import REQUIRED, Field, fields_of, is_section, unwrapped
from ghostllm.config.forms import FAULTS
from ghostllm.config.kinds import Secret
from ghostllm.config.secrets import field_fault, key_fault, read_secret
from ghostllm.config.sources import suggestion
from ghostllm.config.tree import DEEPEST, Path, Raw, Table, path_text
from ghostllm.config.words import items, meant, worded


class Rejected(Exception):
    """A value that cannot be used; the problem has been noted."""


@dataclasses.dataclass(slots=True, frozen=True)
class Spot:
    """Where a built section came from. section: held, so that its id stays its own."""

    path: Path
    table: Table
    section: Any


class Builder:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        self.failed: set[Path] = set()
        self.spots: dict[int, Spot] = {}

    def __repr__(self) -> str:
        return f"<Builder {len(self.spots)} sections, {len(self.problems)} problems>"

    def note(self, path: Path, place: str, fault: str) -> None:
        self.failed.add(path)
        where = path_text(path)
        self.problems.append(": ".join(part for part in (place, where, fault) if part))

    def note_at(self, section: object, key: str, fault: str) -> None:
        """A problem with `key` of a section that was built here; none if that key has been blamed already."""
        spot = self.spots[id(section)]  # what was not given is a default, and sound
        if (path := (*spot.path, key)) not in self.failed:
            self.note(path, spot.table.place_of(key), fault)

    def section(self, cls: type, value: Any, path: Path, place: str, default: Any = None) -> Any:
        """An instance of `cls`. default: an instance whose values hold for missing keys. Raises Rejected."""
        value = meant(value, place) if isinstance(value, Raw) else value
        if not isinstance(value, Table):
            self._reject(path, place, f"must be a table, not {_kind_of(value)}")
        fields = fields_of(cls)
        for key in value:
            if key not in fields:
                shown = key if isinstance(key, str) else repr(key)
                self.note(
                    (*path, shown), value.place_of(key), f"unknown key{suggestion(shown, list(fields))}"
                )
        given = {
            name: self._field(field, value, path)
            for name, field in fields.items()
            if name in value or (field.default is REQUIRED and default is None)
        }
        if any(item is REQUIRED for item in given.values()):
            raise Rejected
        result = dataclasses.replace(default, **given) if default is not None else cls(**given)
        self.spots[id(result)] = Spot(path, value, result)
        return result

    def _field(self, field: Field, table: Table, path: Path) -> Any:
        """The field's value; where it is wrong, its default, else () for a list and REQUIRED for all else."""
        here, place = (*path, field.name), table.place_of(field.name)
        if field.name not in table:
            self.note(here, place, "missing: this key is required")
        else:
            try:
                return self._value(field.type, table[field.name], here, place, field.default)
            except Rejected:
                pass
        listed = get_origin(unwrapped(field.type)[0]) is tuple
        return () if field.default is REQUIRED and listed else field.default

    def _value(self, kind: Any, value: Any, path: Path, place: str, default: Any = REQUIRED) -> Any:
        """`value` as `kind`, a type of the schema. Raises Rejected."""
        kind, marks = unwrapped(kind)
        result = self._bare(kind, value, path, place, default)
        for mark in marks:
            if isinstance(mark, Range | Pattern):
                fault = mark.fault(result)
            elif isinstance(mark, Count):
                whole = not any(failed[: len(path)] == path for failed in self.failed)
                fault = mark.fault(len(result)) if whole else None
            elif isinstance(mark, Form):
                result = os.path.expanduser(result) if mark.name == "file" else result
                fault = FAULTS[mark.name](result)
            elif isinstance(mark, SecretText):
                result, fault = self._secret(result, path, place, field_fault)[0], None
            else:
                continue
            if fault:
                self._reject(path, place, fault)
        return result

    def _bare(self, kind: Any, value: Any, path: Path, place: str, default: Any) -> Any:
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            return self._union(kind, value, path, place)
        if is_section(kind) and kind is not Secret:
            return self.section(kind, value, path, place, None if default is REQUIRED else default)
        if origin is tuple:
            return self._list(get_args(kind)[0], value, path, place)
        if kind is Any:
            return self._any(meant(value, place) if isinstance(value, Raw) else value, path, place)
        if origin is Mapping:
            return self._mapping(get_args(kind)[1], value, path, place)
        if origin is Literal:
            return self._choice(get_args(kind), value, path, place)
        if kind is Secret:
            secret = self._secret(self._scalar(str, value, path, place), path, place, key_fault)
            return Secret(*secret)
        return self._scalar(kind, value, path, place)

    def _union(self, kind: Any, value: Any, path: Path, place: str) -> Any:
        """`T | None` or `T | Literal[...]`: the exact values as they are, everything else as T."""
        rest, options = [], []
        for member in get_args(kind):
            if member is NoneType:
                exact: tuple[Any, ...] = (None,)
            elif get_origin(member) is Literal:
                exact = get_args(member)
            else:
                rest.append(member)
                continue
            if any(value is item or (isinstance(value, str) and value == item) for item in exact):
                return str(value) if isinstance(value, str) else value
            options += [item for item in exact if item is not None]
        if not rest:
            return self._choice(tuple(options), value, path, place)
        return self._value(rest[0], value, path, place)

    def _list(self, kind: Any, value: Any, path: Path, place: str) -> tuple[Any, ...]:
        if isinstance(value, Raw):
            value = items(value, place, tables=is_section(kind))
        if not isinstance(value, list):
            self._reject(path, place, f"must be a list, not {_kind_of(value)}")
        result = []
        for index, item in enumerate(value):
            inner = item.place if isinstance(item, Table) and item.place else place
            try:
                result.append(self._value(kind, item, (*path, index), inner))
            except Rejected:
                continue
        return tuple(result)

    def _mapping(self, kind: Any, value: Any, path: Path, place: str) -> dict[str, Any]:
        value = meant(value, place) if isinstance(value, Raw) else value
        if not isinstance(value, Table):
            self._reject(path, place, f"must be a table, not {_kind_of(value)}")
        result: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str) or not key or not _encodable(key):
                self.note((*path, repr(key)), value.place_of(key), "keys must be non-empty text")
                continue
            try:
                result[key] = self._value(kind, item, (*path, key), value.place_of(key))
            except Rejected:
                continue
        return result

    def _choice(self, choices: tuple[Any, ...], value: Any, path: Path, place: str) -> Any:
        value = worded(str, value) if isinstance(value, Raw) else value
        if isinstance(value, str) and value in choices:
            return value
        names = ", ".join(f'"{choice}"' for choice in choices)
        hint = suggestion(value, [str(choice) for choice in choices]) if isinstance(value, str) else ""
        self._reject(path, place, f"must be one of {names}{hint}")

    def _scalar(self, kind: Any, value: Any, path: Path, place: str) -> Any:
        fault: str | None = None
        if isinstance(value, Raw):
            value = worded(kind, value)
        if kind is float and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                fault = "is too large"
        if type(value) is not kind:
            fault = fault or f"must be {_NAMES[kind]}, not {_kind_of(value)}"
        elif kind is float and not math.isfinite(value):
            fault = "must be a finite number"
        elif kind is int and not -(2**63) <= value < 2**63:
            fault = "is beyond 64 bits"
        elif kind is str and not _encodable(value):
            fault = "is not valid Unicode text"
        if fault:
            self._reject(path, place, fault)
        return value

    def _any(self, value: Any, path: Path, place: str) -> Any:
        """A value that goes into a JSON body: plain dicts and lists of what JSON knows."""
        if len(path) > DEEPEST:
            self._reject(path[:4], place, "is nested too deeply")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Table):
            return self._mapping(Any, value, path, place)
        if isinstance(value, list):
            return [self._any(item, (*path, index), place) for index, item in enumerate(value)]
        for kind in (int, float, str):
            if isinstance(value, kind):
                return self._scalar(kind, kind(value), path, place)
        self._reject(path, place, f"must be something JSON knows, not {_kind_of(value)}")

    def _secret(
        self, text: str, path: Path, place: str, fault_of: Callable[[str], str | None]
    ) -> tuple[str, str]:
        try:
            value, origin = read_secret(text, self.environ)
        except ValueError as error:
            self._reject(path, place, str(error))
        if fault := fault_of(value):
            self._reject(path, place, f"the value from {origin} {fault}" if origin else fault)
        return value, origin

    def _reject(self, path: Path, place: str, fault: str) -> NoReturn:
        self.note(path, place, fault)
        raise Rejected


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _kind_of(value: Any) -> str:
    """What a value is, without the value: it may be a secret in the wrong place."""
    for kind, name in (
        (bool, "true or false"),
        (Mapping, "a table"),
        (list, "a list"),
        (NoneType, "nothing"),
    ):
        if isinstance(value, kind):
            return name
    return _NAMES.get(type(value), "text" if isinstance(value, str) else f"a {type(value).__name__}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
