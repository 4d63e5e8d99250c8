"""The usage ledger: one durable record of each request, and what was spent by day.

Records are written as all state is, in batches by the state file's thread: nothing is lost at an orderly end,
at most the last batch by a kill. What cannot be written is counted by the database, and reports say how much
that was.

What keys, teams and models spend is summed up every few hundred records, so that budgets know at once where
they stand after a start, however many records there are. Doing it for each would cost more than the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ghostllm.state.calendar import Calendar
from ghostllm.state.database import Database
from ghostllm.state.schema import Component

COMPONENT = Component(
    "ledger",
    (
        """
        CREATE TABLE usage_record (
            number INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            request TEXT NOT NULL,
            key TEXT NOT NULL,
            team TEXT NOT NULL,
            asked TEXT NOT NULL,
            model TEXT NOT NULL,
            backend TEXT NOT NULL,
            route TEXT NOT NULL,
            status INTEGER NOT NULL,
            outcome TEXT NOT NULL,
            prompt INTEGER,
            completion INTEGER,
            cached INTEGER,
            cache_write INTEGER,
            reasoning INTEGER,
            estimated INTEGER NOT NULL,
            partial INTEGER NOT NULL,
            cost INTEGER,
            duration REAL,
            ttft REAL,
            attempts INTEGER NOT NULL,
            day TEXT NOT NULL,
            currency TEXT NOT NULL
        );
        CREATE INDEX usage_by_time ON usage_record (time);
        CREATE TABLE usage_spent (
            day TEXT NOT NULL,
            currency TEXT NOT NULL,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            cost INTEGER NOT NULL,
            PRIMARY KEY (day, currency, kind, name)
        ) WITHOUT ROWID;
        CREATE TABLE usage_summed (number INTEGER NOT NULL);
        INSERT INTO usage_summed VALUES (0);
        CREATE TRIGGER usage_is_summed AFTER UPDATE ON usage_summed BEGIN
            INSERT INTO usage_spent
            SELECT day, currency, 'key', key, sum(cost) FROM usage_record
            WHERE number > OLD.number AND cost > 0 GROUP BY day, currency, key
            ON CONFLICT DO UPDATE SET cost = cost + excluded.cost;
            INSERT INTO usage_spent
            SELECT day, currency, 'team', team, sum(cost) FROM usage_record
            WHERE number > OLD.number AND cost > 0 AND team <> '' GROUP BY day, currency, team
            ON CONFLICT DO UPDATE SET cost = cost + excluded.cost;
            INSERT INTO usage_spent
            SELECT day, currency, 'model', model, sum(cost) FROM usage_record
            WHERE number > OLD.number AND cost > 0 AND model <> '' GROUP BY day, currency, model
            ON CONFLICT DO UPDATE SET cost = cost + excluded.cost;
        END;
        """,
    ),
)

PURGE_PUTS = 512  # records between two looks at what is too old
PURGE_ROWS = 1000  # deleted at a time, so that no other write waits long
DAY_SECONDS = 86_400
LONGEST_TEXT = 256
MOST_TOKENS = 1 << 40  # backends may report nonsense, and one such record must not make sums overflow
MOST_COST = 10**13

_PUT = """
    INSERT INTO usage_record (
        time, request, key, team, asked, model, backend, route, status, outcome, prompt, completion, cached,
        cache_write, reasoning, estimated, partial, cost, duration, ttft, attempts, day, currency
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
# Numbers begin anew where no record is left, and so does the summing.
_BEGIN = "UPDATE usage_summed SET number = 0 WHERE NOT EXISTS (SELECT 1 FROM usage_record)"
_SUM = "UPDATE usage_summed SET number = (SELECT coalesce(max(number), 0) FROM usage_record)"
_SPENT = "SELECT kind, name, day, cost FROM usage_spent WHERE day >= ? AND currency = ?"
_PURGE = """
    DELETE FROM usage_record WHERE number IN (
        SELECT number FROM usage_record
        WHERE time < ? AND number <= (SELECT number FROM usage_summed) ORDER BY time LIMIT ?
    )
"""
_PURGE_SPENT = "DELETE FROM usage_spent WHERE day < ?"


class Entry(NamedTuple):
    """One request, when it was over.

    time: seconds since 1970, of its end. request: its id, which clients may choose. team: "" for none. asked:
    the model as the client wrote it. model, backend: which answered; "" for none. status: 0 where the client
    left before it saw one. outcome: as an exchange has it. prompt to reasoning: tokens, as of message.Usage;
    None: nobody said. cost: in millionths of the currency; None: no price, or nobody said how many tokens.
    estimated, partial: 1 or 0, since SQLite's module takes long to find out what a bool is.
    duration, ttft: seconds since the request's head was there, to the end and to the first content.
    """

    time: float
    request: str
    key: str
    team: str = ""
    asked: str = ""
    model: str = ""
    backend: str = ""
    route: str = ""
    status: int = 0
    outcome: str = "ok"
    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    estimated: int = 0
    partial: int = 0
    cost: int | None = None
    duration: float | None = None
    ttft: float | None = None
    attempts: int = 0


class Spent(NamedTuple):
    """kind: "key", "team" or "model". day: "2026-03-01". cost: in millionths of the currency."""

    kind: str
    name: str
    day: str
    cost: int


class Ledger:
    """retention_days: 0 keeps everything. clock: seconds since 1970."""

    def __init__(
        self,
        database: Database,
        calendar: Calendar,
        *,
        currency: str = "USD",
        retention_days: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.calendar = calendar
        self.currency = currency
        self._retention_days = retention_days
        self._clock = clock
        self._puts = 0  # since the last purge

    def __repr__(self) -> str:
        return f"<Ledger in {self.currency} {self.calendar!r}, {self.database!r}>"

    def record(self, entry: Entry) -> None:
        if not _is_sound(entry):
            entry = _sound(entry)
        self.database.write(_PUT, entry + (self.calendar.at(entry[0]).day, self.currency))
        self._puts += 1
        if self._puts >= PURGE_PUTS:
            self.purge()

    async def spent(self, month: str) -> list[Spent]:
        """What was spent from the first day of a month ("2026-03") on, for `Budgets.load`. Raises GhostError
        when the file cannot be read.
        """
        self.database.write(_SUM)
        rows = await self.database.read(_SPENT, (month, self.currency))
        return [Spent(*row) for row in rows]

    def purge(self) -> None:
        """Sums up what has been spent, and deletes some of what is too old. For a timer, too: records alone
        do not age. Those of this month stay, which budgets go by.
        """
        self._puts = 0
        self.database.write(_SUM)
        if not self._retention_days:
            return
        now = self._clock()
        today = self.calendar.at(now)
        oldest = self.calendar.at(now - self._retention_days * DAY_SECONDS)
        first = min(oldest.day, f"{today.month}-01")
        self.database.write(_PURGE, (self.calendar.begins(first), PURGE_ROWS))
        self.database.write(_BEGIN)
        self.database.write(_PURGE_SPENT, (first,))


def _is_sound(entry: Entry) -> bool:
    """Whether SQLite can take it as it is: the ordinary case, told at little cost."""
    together = "".join(entry[1:8])
    if len(together) > LONGEST_TEXT or not together.isascii():
        return False
    prompt, completion, cached, written, reasoning = entry[10:15]
    # All bits of them in one number: it is negative where one is, and large where one is.
    bits = (prompt or 0) | (completion or 0) | (cached or 0) | (written or 0) | (reasoning or 0)
    return 0 <= bits < MOST_TOKENS and 0 <= (entry[17] or 0) <= MOST_COST


def _sound(entry: Entry) -> Entry:
    """The entry as SQLite can take it: names and counts come from clients and backends."""
    names = dict(zip(Entry._fields[1:8], [_text(text) for text in entry[1:8]], strict=True))
    counts = [_count(count, MOST_TOKENS) for count in entry[10:15]]
    tokens = dict(zip(Entry._fields[10:15], counts, strict=True))
    return Entry(**{**entry._asdict(), **names, **tokens, "cost": _count(entry.cost, MOST_COST)})


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT] + "…"
    return text.encode("utf-8", "replace").decode()


def _count(count: int | None, most: int) -> int | None:
    return None if count is None else min(most, max(0, count))
