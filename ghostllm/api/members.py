"""Reads the members of a request's JSON objects: right type or an error that names the place.

A member that is null counts as absent, as it does for OpenAI's own servers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ghostllm.errors import RequestError

LARGEST = 1 << 63
"""Beyond it, readers of JSON differ on what a number is."""

_KINDS = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}


class Members:
    """One JSON object at `path` ("" for the body itself, else like `messages[2].content[0]`)."""

    __slots__ = ("path", "values")

    def __init__(self, values: Any, path: str = "") -> None:
        if not isinstance(values, dict):
            raise RequestError(
                f"{path or 'the body'} must be an object, not {kind(values)}", param=path or None
            )
        self.values: Mapping[str, Any] = values
        self.path = path

    def param(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, expected: str) -> RequestError:
        param = self.param(key)
        return RequestError(f"{param} must be {expected}, not {kind(self.values[key])}", param=param)

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def raw(self, key: str) -> Any:
        """Whatever is there. Raises RequestError when it is absent."""
        value = self.values.get(key)
        if value is None:
            param = self.param(key)
            raise RequestError(f"{param} is required", param=param)
        return value

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(key, "a string")

    def required_text(self, key: str) -> str:
        self.raw(key)
        text = self.text(key)
        assert text is not None
        return text

    def boolean(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(key, "a boolean")

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise self.wrong(key, "a number")

    def integer(self, key: str) -> int | None:
        """Also of a number such as 3.0, which clients without an integer type send."""
        value = self.number(key)
        if isinstance(value, float):
            if not value.is_integer():
                raise self.wrong(key, "an integer")
            value = int(value)
        if value is not None and not -LARGEST <= value < LARGEST:
            param = self.param(key)
            raise RequestError(f"{param} must be an integer of 64 bits: it is larger", param=param)
        return value

    def object(self, key: str) -> Members | None:
        value = self.values.get(key)
        return None if value is None else Members(value, self.param(key))

    def array(self, key: str) -> list[Any]:
        """Empty when absent."""
        value = self.values.get(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise self.wrong(key, "an array")

    def objects(self, key: str) -> Iterator[Members]:
        for index, value in enumerate(self.array(key)):
            yield Members(value, f"{self.param(key)}[{index}]")

    def texts(self, key: str) -> tuple[str, ...]:
        """A string counts as an array of one."""
        value = self.values.get(key)
        if isinstance(value, str):
            return (value,)
        values = self.array(key)
        for index, item in enumerate(values):
            if not isinstance(item, str):
                param = f"{self.param(key)}[{index}]"
                raise RequestError(f"{param} must be a string, not {kind(item)}", param=param)
        return tuple(values)


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)
