"""The schema's classes, looked at: what fields they have, of which type, with which meaning and default."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ghostllm.config.schema import Config

REQUIRED: Any = dataclasses.MISSING


@dataclass(slots=True, frozen=True)
class Field:
    """One key. default is REQUIRED where there is none; type keeps its constraints in Annotated."""

    name: str
    type: Any
    meaning: str
    default: Any


@cache
def fields_of(cls: type) -> dict[str, Field]:
    hints = get_type_hints(cls, include_extras=True)
    result: dict[str, Field] = {}
    for field in dataclasses.fields(cls):
        default = field.default
        if default is REQUIRED and field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        _, marks = unwrapped(hints[field.name])
        meaning = next((mark for mark in marks if isinstance(mark, str)), "")
        result[field.name] = Field(field.name, hints[field.name], meaning, default)
    return result


def unwrapped(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """`Annotated[T, marks…]` -> T, marks; anything else -> itself and none."""
    if get_origin(kind) is Annotated:
        inner, *marks = get_args(kind)
        return inner, tuple(marks)
    return kind, ()


def is_section(kind: Any) -> bool:
    """Whether a type is one of the schema's classes."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


@cache
def env_names() -> dict[str, tuple[str, ...]]:
    """Environment variable -> path of the key it sets: GHOSTLLM_SERVER_LISTEN -> ("server", "listen")."""
    return {"_".join(("GHOSTLLM", *path)).upper(): path for path in _leaves(Config, ())}


def _leaves(cls: type, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for field in fields_of(cls).values():
        inner, _ = unwrapped(field.type)
        here = (*path, field.name)
        found += _leaves(inner, here) if is_section(inner) else [here]
    return found
