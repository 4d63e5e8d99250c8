"""One SQLite file for all run-time state, or memory where no file is wanted.

Nothing here makes the event loop wait. `write` appends to a list; one timer, set when the list stops being
empty, hands all of it to the thread that owns the connection, which makes one transaction of it. Writes and
reads go through one queue, so that a read sees what was written before it. SQLite lets go of the interpreter
lock while it works. Many records in a row are inserted by a statement that has rows for dozens of them: each
execution takes the lock back from whoever runs, which costs both of them more than the record does.

What cannot be written is counted and told, and the gateway goes on: an answer is not held back because a disk
is full. For the same reason a file that can only be read at the start is copied to memory: keys open, budgets
go on from what was spent, and what is added is gone at the end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import quote

from ghostllm.errors import GhostError
from ghostllm.state.schema import Component, StateError, prepare

FLUSH_SECONDS = 0.05  # a record waits at most this long for the ones that share its transaction
ROWS = (64, 8)  # of one insertion, the most first
BATCH_RECORDS = 256  # of one transaction: some 0.5 ms, nearly all of it without the interpreter lock
BACKLOG_RECORDS = 65_536  # what may wait for a disk that does not keep up
BUSY_SECONDS = 5.0  # how long another process may hold the file
CLOSE_SECONDS = 10.0
LARGEST_COPY = 256 * 1024 * 1024  # bytes of a file that can only be read

Values = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]
Record = tuple[str, Values]
"""A statement and its parameters."""

DISK = frozenset((
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB,
))  # fmt: skip
"""Errors of the file, which every record would meet. Any other is of one record."""


_INSERTION = re.compile(r"\s*INSERT\s.*\sVALUES\s*(\([?,\s]+\))\s*", re.DOTALL)


class _Ask(NamedTuple):
    """A read, or without `sql` the question of how many records were lost so far."""

    sql: str
    values: Values
    future: asyncio.Future[Any]


class Database:
    """path: of the file, None for memory. components: the tables of each. failed: told why records were lost
    and how many (0: a read failed), on whatever thread; it must be quick and must not raise.

    Opened by its constructor, which raises StateError. `write`, `read`, `flush` and `close` are for one
    thread. lost: records that could not be written. unkept: why the file stays as it is, "" if it does not.
    """

    def __init__(
        self,
        path: str | Path | None,
        components: Sequence[Component],
        *,
        failed: Callable[[str, int], None] = lambda reason, records: None,
        backlog: int = BACKLOG_RECORDS,
    ) -> None:
        self.path = None if path is None else Path(path)
        self._failed = failed
        self._backlog = backlog
        self._timer: asyncio.TimerHandle | None = None
        self._pending: list[Record] = []
        self._queue: SimpleQueue[list[Record] | _Ask | None] = SimpleQueue()
        self._accepted = 0  # records, ever
        self._refused = 0  # records for which there was no room
        self._done = 0  # records that the thread is through with; this and the next only it changes
        self._unwritten = 0
        self._told = 0  # of `lost`, by the last flush
        self._closed = False
        self.unkept = ""
        opened: SimpleQueue[BaseException | str] = SimpleQueue()
        self._thread = threading.Thread(
            target=self._serve, args=(components, opened), name="ghostllm-state", daemon=True
        )
        self._thread.start()
        outcome = opened.get()
        if not isinstance(outcome, str):
            self._thread.join()
            self._closed = True
            raise outcome
        self.unkept = outcome

    def __repr__(self) -> str:
        place = self.path or "memory"
        return f"<Database {place} waiting={self.waiting} lost={self.lost}>"

    @property
    def persistent(self) -> bool:
        """Whether the state is there after a restart."""
        return self.path is not None and not self.unkept

    @property
    def waiting(self) -> int:
        """Records that are not written yet."""
        return self._accepted - self._done

    @property
    def lost(self) -> int:
        return self._refused + self._unwritten

    def write(self, sql: str, values: Values = ()) -> None:
        """Has one statement executed, soon. Whether it could be is told by `lost` and by `flush`."""
        if self._closed or self._accepted - self._done >= self._backlog:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # the first, and then ever more rarely
                self._failed("too many records are waiting to be written", 1)
            return
        self._accepted += 1
        pending = self._pending
        if not pending:
            try:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._hand_over)
            except RuntimeError:  # no loop: nobody is being served
                self._queue.put([(sql, values)])
                return
        pending.append((sql, values))
        if len(pending) >= BATCH_RECORDS:
            self._hand_over()

    async def read(self, sql: str, values: Values = ()) -> list[Row]:
        """The rows of a query, which sees everything written before; also of a statement with RETURNING.
        Raises GhostError when the file cannot be read.
        """
        rows: list[Row] = await self._ask(sql, values)
        return rows

    async def flush(self) -> bool:
        """Waits until everything written before is in the file. False if a record was lost since the last
        flush.
        """
        lost: int = await self._ask("", ())
        sound, self._told = lost == self._told, lost
        return sound

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Writes what waits, for at most `seconds`; False if not everything could be written, ever."""
        if not self._closed:
            self._hand_over()
            self._closed = True
            self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive() and not self.lost

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, []
        if batch:
            self._queue.put(batch)

    def _ask(self, sql: str, values: Values) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(_unreadable())
            return future
        self._hand_over()
        self._queue.put(_Ask(sql, values, future))
        return future

    # --- the thread

    def _serve(self, components: Sequence[Component], opened: SimpleQueue[BaseException | str]) -> None:
        try:
            connection, unkept = _open(self.path, components)
        except Exception as error:  # whatever it is, the constructor must not wait for ever
            opened.put(error)
            return
        opened.put(unkept)
        while (item := self._queue.get()) is not None:
            if isinstance(item, _Ask):
                self._answer(connection, item)
                continue
            for start in range(0, len(item), BATCH_RECORDS):
                batch = item[start : start + BATCH_RECORDS]
                self._write(connection, batch)
                self._done += len(batch)
        connection.close()

    def _write(self, connection: sqlite3.Connection, batch: list[Record]) -> None:
        """One transaction. If it fails because of a record in it, each record gets its own."""
        try:
            _transact(connection, batch)
        except Exception as error:  # no record may end the thread on which all others rely
            if len(batch) == 1 or _code(error) in DISK:
                self._unwritten += len(batch)
                self._failed(str(error), len(batch))
            else:
                for record in batch:
                    self._write(connection, [record])

    def _answer(self, connection: sqlite3.Connection, ask: _Ask) -> None:
        result: Any = None
        error: GhostError | None = None
        if not ask.sql:
            result = self.lost
        else:
            try:
                result = connection.execute(ask.sql, ask.values).fetchall()
            except Exception as reason:
                self._failed(str(reason), 0)
                error = _unreadable()
        try:
            ask.future.get_loop().call_soon_threadsafe(_settle, ask.future, result, error)
        except RuntimeError:  # the loop has gone, and who asked with it
            return


def _settle(future: asyncio.Future[Any], result: Any, error: GhostError | None) -> None:
    if future.done():
        return  # who asked has left
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _unreadable() -> GhostError:
    return GhostError("the gateway's own state cannot be read just now")


def _transact(connection: sqlite3.Connection, batch: list[Record]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, records in groupby(batch, itemgetter(0)):
            _execute(connection, sql, [values for _, values in records])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


def _execute(connection: sqlite3.Connection, sql: str, rows: list[Values]) -> None:
    done = 0
    for count in ROWS if len(rows) >= ROWS[-1] and _fit(connection, rows) else ():
        whole = _of_many(sql, count)
        while whole is not None and len(rows) - done >= count:
            connection.execute(whole, list(chain.from_iterable(rows[done : done + count])))
            done += count
    connection.executemany(sql, rows[done:])


def _fit(connection: sqlite3.Connection, rows: list[Values]) -> bool:
    """Whether they may be put into one statement: all of them have as many values, and not too many."""
    widths = set(map(len, rows))
    most = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
    return len(widths) == 1 and widths.pop() * ROWS[0] <= most


@lru_cache
def _of_many(sql: str, count: int) -> str | None:
    """The insertion of a row as one of so many; None: it is something else."""
    found = _INSERTION.fullmatch(sql)
    if found is None:
        return None
    return f"{sql[: found.start(1)]}{', '.join([found[1]] * count)}"


def _open(path: Path | None, components: Sequence[Component]) -> tuple[sqlite3.Connection, str]:
    """The connection, and why what is written there is not kept. Raises StateError."""
    place = ":memory:" if path is None else str(path)
    try:
        if path is not None:
            _make_private(path)
        connection = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None)
        return _prepared(connection, components, place), ""
    except OSError as error:
        reason = str(error)
        if path is None or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StateError(f"the state file {place} cannot be opened: {reason}") from None
    except sqlite3.Error as error:
        reason = str(error)
        if path is None or _code(error) != sqlite3.SQLITE_READONLY:
            raise StateError(f"the state file {place} cannot be used: {reason}") from None
    return _copied(path, components, reason), reason


def _copied(path: Path, components: Sequence[Component], reason: str) -> sqlite3.Connection:
    """In memory, of a file that cannot be written. Raises StateError."""
    try:
        size = path.stat().st_size
        if size > LARGEST_COPY:
            raise StateError(f"the state file {path} cannot be opened: {reason}")
        connection = sqlite3.connect(":memory:", isolation_level=None)
        # Without a log that somebody has left there is none to be read, and SQLite would have to make one.
        how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)) as source:
                source.backup(connection)
        except sqlite3.Error:
            connection.close()
            raise
        return _prepared(connection, components, str(path))
    except OSError:
        raise StateError(f"the state file {path} cannot be opened: {reason}") from None
    except sqlite3.Error as error:
        raise StateError(f"the state file {path} cannot be opened: {reason}, nor read: {error}") from None


def _prepared(
    connection: sqlite3.Connection, components: Sequence[Component], place: str
) -> sqlite3.Connection:
    """Raises StateError, sqlite3.Error; the connection is closed then."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "PRAGMA synchronous=NORMAL"
            )  # a crash of the machine may cost the last records
            prepare(connection, components, place)
            return connection
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_BUSY and time.monotonic() < deadline:
                time.sleep(0.01)  # SQLite itself does not wait for a change of the journal's mode
                continue
            connection.close()
            raise
        except StateError:
            connection.close()
            raise


def _code(error: Exception) -> int:
    """SQLite's primary code; 0 where it is none of its errors."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _make_private(path: Path) -> None:
    """Its owner's alone, before SQLite writes a byte: SQLite gives its side files the same mode when it makes
    them. Those that a killed process has left are as it had them.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    for suffix in ("-wal", "-shm", "-journal"):
        with suppress(FileNotFoundError):
            os.chmod(f"{path}{suffix}", 0o600)
