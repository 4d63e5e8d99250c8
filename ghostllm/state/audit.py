"""What operators did: one row for each action, and for each attempt at one that was refused.

The oldest go when there are too many. What was refused is counted by itself: whoever has no right to change
anything must not be able to push out what those did who have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ghostllm import jsonx
from ghostllm.state.database import Database, Row
from ghostllm.state.schema import Component

COMPONENT = Component(
    "audit",
    (
        """
        CREATE TABLE audit (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            who TEXT NOT NULL,
            peer TEXT NOT NULL,
            action TEXT NOT NULL,
            target TEXT NOT NULL,
            outcome TEXT NOT NULL,
            status INTEGER,
            request TEXT NOT NULL,
            error TEXT NOT NULL,
            changed BLOB NOT NULL
        );
        CREATE INDEX audit_outcome ON audit (outcome = 'refused', number);
        """,
    ),
)

OUTCOMES = ("done", "refused", "failed")
PURGE_PUTS = 64  # between two looks at what is too much
REFUSED_SHARE = 10  # of what is remembered, the part that refusals may be

_COLUMNS = "number, time, who, peer, action, target, outcome, status, request, error, changed"
_PUT = """
    INSERT INTO audit (time, who, peer, action, target, outcome, status, request, error, changed)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_LATEST = f"""
    SELECT {_COLUMNS} FROM audit WHERE number < :before AND (:who IS NULL OR who = :who)
    AND (:action IS NULL OR action = :action) AND (:outcome IS NULL OR outcome = :outcome)
    ORDER BY number DESC LIMIT :limit
"""
_PURGE = """
    DELETE FROM audit WHERE (outcome = 'refused') = :refused AND number <= (
        SELECT number FROM audit WHERE (outcome = 'refused') = :refused
        ORDER BY number DESC LIMIT 1 OFFSET :kept
    )
"""


@dataclass(slots=True, frozen=True, kw_only=True)
class Action:
    """One action. time: seconds since 1970. who: the name of the key. peer: where from. action: the method
    and the name of the route, or how else it came. target: what it was done to. outcome: one of OUTCOMES.
    changed: what was asked for, as JSON without secrets.
    """

    time: float
    who: str
    peer: str
    action: str
    target: str
    outcome: str
    status: int | None = None
    request: str = ""
    error: str = ""
    changed: Any = None

    def told(self) -> dict[str, Any]:
        """JSON, the time aside."""
        return {
            "who": self.who,
            "peer": self.peer,
            "action": self.action,
            "target": self.target,
            "outcome": self.outcome,
            "status": self.status,
            "request": self.request,
            "error": self.error or None,
            "changed": self.changed,
        }


class AuditTrail:
    """keep: how many actions are remembered, and REFUSED_SHARE of that for refusals."""

    def __init__(self, database: Database, keep: int) -> None:
        self._database = database
        self.keep = keep
        self._puts = 0
        self._purge()

    def retain(self, keep: int) -> None:
        """Another number of actions to be remembered."""
        self.keep = keep

    def __repr__(self) -> str:
        return f"<AuditTrail of {self.keep} in {self._database!r}>"

    @property
    def persistent(self) -> bool:
        """Whether it outlives this process."""
        return self._database.persistent

    def put(self, action: Action) -> None:
        self._database.write(
            _PUT,
            (action.time, action.who, action.peer, action.action, action.target, action.outcome,
             action.status, action.request, action.error, jsonx.dumps(action.changed)),
        )  # fmt: skip
        self._puts += 1
        if self._puts % PURGE_PUTS == 0:
            self._purge()

    async def latest(
        self,
        limit: int,
        *,
        before: int | None = None,
        who: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
    ) -> list[tuple[int, Action]]:
        """The newest first, with their numbers. before: only those with a smaller one. Raises GhostError when
        the file cannot be read.
        """
        rows = await self._database.read(
            _LATEST,
            {
                "limit": limit,
                "before": 2**62 if before is None else before,
                "who": who,
                "action": action,
                "outcome": outcome,
            },
        )
        return [_read(row) for row in rows]

    def _purge(self) -> None:
        refusals = max(1, self.keep // REFUSED_SHARE)
        self._database.write(_PURGE, {"refused": 0, "kept": self.keep})
        self._database.write(_PURGE, {"refused": 1, "kept": refusals})


def _read(row: Row) -> tuple[int, Action]:
    number, time, who, peer, action, target, outcome, status, request, error, changed = row
    return number, Action(
        time=time,
        who=who,
        peer=peer,
        action=action,
        target=target,
        outcome=outcome,
        status=status,
        request=request,
        error=error,
        changed=jsonx.loads(changed),
    )
