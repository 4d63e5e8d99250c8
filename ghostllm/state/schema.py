"""The tables of the state file: each component brings its own, and the steps from one version to the next.

The version of each component stands in a table. `PRAGMA user_version`, of which a file has one, is the
version of that table, and `application_id` tells the file from any other database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

APPLICATION_ID = 0x67_68_6C_6D  # "ghlm"
FORMAT = 1


class StateError(Exception):
    """The state file cannot be used. Its message is one line for the operator, with the path."""


@dataclass(slots=True, frozen=True)
class Component:
    """steps: what was done for version 1, 2, …: statements, separated by semicolons. A step that has been
    released is never changed; a new one is added.
    """

    name: str
    steps: tuple[str, ...]


def prepare(connection: sqlite3.Connection, components: Sequence[Component], place: str) -> None:
    """Brings every component to its last version, in one transaction. place: how errors name the file.

    Raises StateError for a file that is somebody else's or of a newer GhostLLM, sqlite3.Error.
    """
    connection.execute("BEGIN IMMEDIATE")  # of two gateways that start at once, one waits here
    try:
        _claim(connection, place)
        for component in components:
            _migrate(connection, component, place)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _claim(connection: sqlite3.Connection, place: str) -> None:
    application, version, tables = (
        connection.execute(query).fetchone()[0]
        for query in (
            "PRAGMA application_id",
            "PRAGMA user_version",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if application == 0 and version == 0 and tables == 0:
        connection.execute("CREATE TABLE component (name TEXT PRIMARY KEY, version INTEGER NOT NULL)")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={FORMAT}")
    elif application != APPLICATION_ID:
        raise StateError(f"the state file {place} is a database of some other program")
    elif version > FORMAT:
        raise StateError(_too_new(place, "its format", version, FORMAT))


def _migrate(connection: sqlite3.Connection, component: Component, place: str) -> None:
    known = len(component.steps)
    row = connection.execute("SELECT version FROM component WHERE name = ?", (component.name,)).fetchone()
    version = row[0] if row else 0
    if version > known:
        raise StateError(_too_new(place, f"the version of {component.name!r}", version, known))
    for step in component.steps[version:]:
        for statement in _statements(step):
            connection.execute(statement)
    if version < known:
        connection.execute("INSERT OR REPLACE INTO component VALUES (?, ?)", (component.name, known))


def _statements(step: str) -> list[str]:
    """`executescript` would commit first."""
    statements, begun = [], ""
    for piece in step.split(";"):
        begun += piece + ";"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return [statement for statement in statements if statement.strip(" \t\r\n;")]


def _too_new(place: str, what: str, found: int, known: int) -> str:
    return (
        f"the state file {place} was written by a newer GhostLLM: {what} is {found}, "
        f"this one knows up to {known}"
    )
