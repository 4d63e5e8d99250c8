"""Takes secrets out of text that leaves the process: log records, traces, errors that a backend has written.

Two kinds are known. Those of the configuration are looked for as they are. Those of clients nobody has a list
of (of most, only a hash is kept): they are told by their form, and by what stands before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from ghostllm.config.constraints import SecretText
from ghostllm.config.fields import fields_of
from ghostllm.config.kinds import Secret
from ghostllm.errors import GhostError

STARS = "***"
SHORTEST = 8
"""Characters of a secret that is looked for. Shorter ones are words like `ollama`, put where a client insists
on a key; they would take those words out of every record.
"""

PUBLIC_FIELDS = frozenset(("accept", "content-type", "http-referer", "referer", "user-agent", "x-title"))
"""Header fields for a backend that anybody may know."""

_FORMS = re.compile(
    r"""
    (?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}
    | (?P<field>\b(?:authorization|(?:x-)?api-key)\b['"]?\s*[:=]\s*(?:b?['"])?)
      (?!\s*(?:bearer|basic)\s)[^\s'",;}\]]{4,}
    | (?P<query>[?&](?:key|api_key|token|access_token|password)=)[^\s&\#'"]+
    | (?P<prefix>\b(?:gk_|sk-))[A-Za-z0-9_-]{12,}
    | \beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Mask:
    """secrets: those of the configuration, in clear."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None
        self._count = len(known)

    def __repr__(self) -> str:
        return f"<Mask of {self._count} secrets>"

    def text(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(STARS, text)
        return _FORMS.sub(_starred, text)

    def error(self, error: GhostError) -> None:
        """Masks what it says, to clients, logs and traces."""
        text = self.text(error.message)
        if text != error.message:
            error.message = text
            error.args = (text,)
        if error.code:
            error.code = self.text(error.code)
        if error.param:
            error.param = self.text(error.param)

    def value(self, value: Any) -> Any:
        """JSON, its texts masked, the names of members too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def secrets_of(section: Any) -> Iterator[str]:
    """Every secret in a configuration, in clear."""
    if isinstance(section, Secret):
        yield section.reveal()
    elif isinstance(section, (list, tuple)):
        for item in section:
            yield from secrets_of(item)
    elif isinstance(section, Mapping):
        for item in section.values():
            yield from secrets_of(item)
    elif is_dataclass(section) and not isinstance(section, type):
        for field in fields(section):
            value = getattr(section, field.name)
            if isinstance(value, Mapping) and value and field.name in _secret_tables(type(section)):
                yield from (text for name, text in value.items() if name.lower() not in PUBLIC_FIELDS)
            else:
                yield from secrets_of(value)


@cache
def _secret_tables(section: type) -> frozenset[str]:
    """The fields of a section that are tables of secret text."""
    return frozenset(name for name, field in fields_of(section).items() if _holds_secret_text(field.type))


def _holds_secret_text(kind: Any) -> bool:
    """Whether it is a table whose values are not to be shown, such as a backend's header fields."""
    if get_origin(kind) is Annotated:
        return any(isinstance(mark, SecretText) for mark in kind.__metadata__) or _holds_secret_text(
            get_args(kind)[0]
        )
    return any(_holds_secret_text(inner) for inner in get_args(kind) if inner is not Ellipsis)


def _starred(found: re.Match[str]) -> str:
    kept = next((group for group in found.groups() if group), "")
    return f"{kept}{STARS}"
