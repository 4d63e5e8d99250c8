"""The configurations that were applied, so that one can go back to them.

A configuration is kept as the text of its file. Secrets that it refers to (`env:NAME`, `file:PATH`) are not
in it; literal ones are, since without them it could not be applied again: the state file is its owner's
alone, and the text is shown to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ghostllm import jsonx
from ghostllm.state.database import Database
from ghostllm.state.schema import Component

COMPONENT = Component(
    "configurations",
    (
        """
        CREATE TABLE configuration (
            number INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            text TEXT NOT NULL,
            time REAL NOT NULL,
            how TEXT NOT NULL,
            previous INTEGER,
            changes BLOB NOT NULL
        );
        """,
    ),
)

KEPT = 10

_PUT = "INSERT OR REPLACE INTO configuration VALUES (?, ?, ?, ?, ?, ?, ?)"
_PRUNE = f"""
    DELETE FROM configuration WHERE number NOT IN (
        SELECT number FROM configuration ORDER BY number DESC LIMIT {KEPT}
    )
"""
_ALL = f"SELECT * FROM configuration ORDER BY number DESC LIMIT {KEPT}"


@dataclass(slots=True, frozen=True)
class Applied:
    """name: path of the file, "" where there was none. time: seconds since 1970. how: what had it applied.
    previous: the number of the one that a rollback goes to, None: there is none. changes: from the one that
    held before, JSON without secrets.
    """

    number: int
    name: str
    text: str
    time: float
    how: str
    previous: int | None
    changes: Sequence[dict[str, Any]]


class ConfigurationStore:
    """The last `KEPT` of them, in memory and in the state file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._applied: dict[int, Applied] = {}  # the oldest first

    def __repr__(self) -> str:
        return f"<ConfigurationStore of {len(self._applied)}>"

    async def load(self) -> None:
        """Raises GhostError where the state file cannot be read."""
        for number, name, text, time, how, previous, changes in reversed(await self._database.read(_ALL)):
            self._applied[number] = Applied(number, name, text, time, how, previous, jsonx.loads(changes))

    @property
    def newest(self) -> Applied | None:
        return next(reversed(self._applied.values()), None)

    def all(self) -> list[Applied]:
        """The newest first."""
        return list(reversed(self._applied.values()))

    def find(self, number: int | None) -> Applied | None:
        return None if number is None else self._applied.get(number)

    def put(
        self,
        *,
        name: str,
        text: str,
        time: float,
        how: str,
        previous: int | None,
        changes: Sequence[dict[str, Any]],
    ) -> Applied:
        newest = self.newest
        number = 1 if newest is None else newest.number + 1
        one = self._applied[number] = Applied(number, name, text, time, how, previous, changes)
        while len(self._applied) > KEPT:
            del self._applied[next(iter(self._applied))]
        self._database.write(_PUT, (number, name, text, time, how, previous, jsonx.dumps(list(changes))))
        self._database.write(_PRUNE)
        return one
