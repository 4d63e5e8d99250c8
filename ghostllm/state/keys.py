"""API keys made at run time: what is known of each, never the key itself. Whom a key lets in is decided in
`policy`; here they are written down and read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ghostllm import jsonx
from ghostllm.state.database import Database, Row
from ghostllm.state.schema import Component

COMPONENT = Component(
    "keys",
    (
        """
        CREATE TABLE api_key (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            digest BLOB NOT NULL UNIQUE,
            mark TEXT NOT NULL,
            terms BLOB NOT NULL,
            made REAL NOT NULL,
            expires REAL,
            revoked REAL,
            used REAL
        );
        CREATE INDEX api_key_name ON api_key (name);
        CREATE TABLE key_secret (
            number INTEGER PRIMARY KEY CHECK (number = 1),
            value BLOB NOT NULL
        );
        """,
    ),
)

_COLUMNS = "id, name, digest, mark, terms, made, expires, revoked, used"
_PUT = f"""
    INSERT INTO api_key ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        expires = excluded.expires, revoked = excluded.revoked,
        used = nullif(max(ifnull(used, 0), ifnull(excluded.used, 0)), 0)
"""
_ALL = f"SELECT {_COLUMNS} FROM api_key ORDER BY made, rowid"
_USED = "UPDATE api_key SET used = ? WHERE id = ? AND ifnull(used, 0) < ?"
_PURGE = """
    DELETE FROM api_key WHERE min(ifnull(revoked, 9e99), ifnull(expires, 9e99)) < ?
    AND rowid != (SELECT max(rowid) FROM api_key)
"""


@dataclass(slots=True, frozen=True, kw_only=True)
class KeyTerms:
    """What a key may do. roles, models: as in [[keys]]. team, limits: names, "" for none. weight, priority:
    its claim in a queue.
    """

    roles: tuple[str, ...] = ("user",)
    team: str = ""
    models: tuple[str, ...] = ()
    limits: str = ""
    weight: float = 1.0
    priority: int = 0

    def told(self) -> dict[str, Any]:
        """JSON, from which `terms_of` makes them again."""
        return {
            "roles": list(self.roles),
            "team": self.team,
            "models": list(self.models),
            "limits": self.limits,
            "weight": self.weight,
            "priority": self.priority,
        }


@dataclass(slots=True, frozen=True, kw_only=True)
class KeyRecord:
    """One key. A name may have several, of which the newest replaces the others (rotation).

    digest: its keyed hash. mark: of the secret under which it was hashed. Times are seconds since 1970; None:
    never. used: to the minute or so.
    """

    id: str
    name: str
    digest: bytes
    mark: str
    terms: KeyTerms
    made: float
    expires: float | None = None
    revoked: float | None = None
    used: float | None = None

    def __repr__(self) -> str:
        return f"<KeyRecord {self.id} {self.name!r}>"

    def alive(self, now: float) -> bool:
        """Whether it opens the door, or is to be trusted with doing so under another secret."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def ended(self, before: float) -> bool:
        return any(end is not None and end < before for end in (self.expires, self.revoked))

    def shown(self, now: float) -> dict[str, Any]:
        """JSON for those who run the gateway, without the hash."""
        terms = self.terms
        return {
            "id": self.id,
            "name": self.name,
            "state": "revoked" if self.revoked is not None else "active" if self.alive(now) else "expired",
            "roles": list(terms.roles),
            "team": terms.team,
            "models": list(terms.models),
            "limits": terms.limits,
            "created": self.made,
            "expires": self.expires,
            "revoked": self.revoked,
            "last_used": self.used,
        }


class KeyTable:
    """The keys in the state file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __repr__(self) -> str:
        return f"<KeyTable in {self._database!r}>"

    async def secret(self, proposed: bytes) -> bytes:
        """The secret under which keys are hashed; `proposed` where there was none. Raises GhostError when the
        file cannot be read.
        """
        self._database.write("INSERT OR IGNORE INTO key_secret VALUES (1, ?)", (proposed,))
        rows = await self._database.read("SELECT value FROM key_secret")
        return bytes(rows[0][0]) if rows else proposed

    async def records(self) -> list[KeyRecord]:
        """All of them, the oldest first. Raises GhostError."""
        return [_record(row) for row in await self._database.read(_ALL)]

    def put(self, record: KeyRecord) -> None:
        """A new one, or what has changed of its expiry, its revocation and its use."""
        told = record.terms.told()
        self._database.write(
            _PUT,
            (record.id, record.name, record.digest, record.mark, jsonx.dumps(told), record.made,
             record.expires, record.revoked, record.used),
        )  # fmt: skip

    def note_used(self, uses: Iterable[tuple[str, float]]) -> None:
        """uses: ids, and when."""
        for identity, when in uses:
            self._database.write(_USED, (when, identity, when))

    def purge(self, before: float) -> None:
        """Forgets keys that have opened nothing since `before`; all but the last one, which says that keys
        are asked for here.
        """
        self._database.write(_PURGE, (before,))

    async def saved(self) -> bool:
        """Waits until all that was put is in the file; False if something could not be written."""
        return await self._database.flush()


def terms_of(told: Mapping[str, Any]) -> KeyTerms:
    return KeyTerms(**{**told, "roles": tuple(told["roles"]), "models": tuple(told["models"])})


def _record(row: Row) -> KeyRecord:
    identity, name, digest, mark, told, made, expires, revoked, used = row
    return KeyRecord(
        id=identity,
        name=name,
        digest=bytes(digest),
        mark=mark,
        terms=terms_of(jsonx.loads(told)),
        made=made,
        expires=expires,
        revoked=revoked,
        used=used,
    )
