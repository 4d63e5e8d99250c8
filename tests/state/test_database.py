"""The state file: what is written is there, what cannot be is counted, and no file of others is touched."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from ghostllm.errors import GhostError
from ghostllm.state import database as database_module
from ghostllm.state.database import BATCH_RECORDS, Database
from ghostllm.state.schema import Component, StateError

NOTES = Component("notes", ("CREATE TABLE note (id INTEGER PRIMARY KEY, words TEXT NOT NULL);",))
ADD = "INSERT INTO note VALUES (?, ?)"
ALL = "SELECT id, words FROM note ORDER BY id"


class Failures(list):
    def __call__(self, reason, records):
        self.append((reason, records))


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "state.db"


def rows_of(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(ALL).fetchall()
    finally:
        connection.close()


def test_a_read_sees_what_was_written_before(place):
    async def speak():
        database = Database(place, [NOTES])
        database.write(ADD, (1, "one"))
        database.write(ADD, (2, "Grüße 🙂"))
        assert await database.read(ALL) == [(1, "one"), (2, "Grüße 🙂")]
        assert await database.read("SELECT words FROM note WHERE id = :id", {"id": 1}) == [("one",)]
        assert await database.flush()
        assert database.waiting == database.lost == 0
        assert database.close()

    asyncio.run(speak())


def test_records_keep_their_order_whatever_their_statements(place):
    async def speak():
        database = Database(place, [NOTES])
        for number in range(3 * BATCH_RECORDS):
            database.write(ADD, (number, "first"))
            database.write("UPDATE note SET words = ? WHERE id = ?", ("second", number))
        assert set(await database.read("SELECT DISTINCT words FROM note")) == {("second",)}
        assert len(await database.read(ALL)) == 3 * BATCH_RECORDS
        database.close()

    asyncio.run(speak())


def test_nothing_is_lost_when_it_closes_at_once(tmp_path):
    path = tmp_path / "state.db"

    async def speak():
        database = Database(path, [NOTES])
        for number in range(1000):
            database.write(ADD, (number, "x"))
        assert database.close()

    asyncio.run(speak())
    assert len(rows_of(path)) == 1000


def test_a_record_is_written_without_anybody_asking(tmp_path):
    path = tmp_path / "state.db"

    async def speak():
        database = Database(path, [NOTES])
        database.write(ADD, (1, "x"))
        assert rows_of(path) == [] and database.waiting == 1  # it waits for others to share its transaction
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if not database.waiting:
                break
        assert rows_of(path) == [(1, "x")]
        database.close()

    asyncio.run(speak())


def test_without_a_loop_it_writes_too(tmp_path):
    path = tmp_path / "state.db"
    database = Database(path, [NOTES])
    database.write(ADD, (1, "x"))
    assert database.close() and rows_of(path) == [(1, "x")]


def test_the_next_start_finds_everything(tmp_path):
    path = tmp_path / "deep" / "down" / "state.db"

    async def speak(number):
        database = Database(path, [NOTES])
        assert database.persistent and str(path) in repr(database)
        database.write(ADD, (number, "x"))
        assert await database.flush()
        rows = await database.read(ALL)
        database.close()
        return rows

    assert [len(asyncio.run(speak(number))) for number in range(3)] == [1, 2, 3]


def test_without_a_file_it_says_so():
    database = Database(None, [NOTES])
    assert not database.persistent and "memory" in repr(database)
    assert database.close()


def test_the_file_and_those_beside_it_are_its_owners_alone(tmp_path):
    path = tmp_path / "state.db"
    path.touch(mode=0o644)

    async def speak():
        database = Database(path, [NOTES])
        database.write(ADD, (1, "x"))
        await database.flush()
        files = list(tmp_path.iterdir())
        assert len(files) == 3  # with the write-ahead log and its index
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        database.close()

    asyncio.run(speak())
    assert [file.name for file in tmp_path.iterdir()] == ["state.db"]


def test_side_files_that_a_killed_process_left_become_its_owners_alone(tmp_path):
    path, other = tmp_path / "state.db", tmp_path / "open" / "state.db"
    other.parent.mkdir()

    def copy(suffix):
        copied = Path(f"{other}{suffix}")
        copied.write_bytes(Path(f"{path}{suffix}").read_bytes())
        copied.chmod(0o644)

    async def speak():
        database = Database(path, [NOTES])
        database.write(ADD, (1, "x"))
        await database.flush()
        for suffix in ("", "-wal", "-shm"):  # what is there while it runs is what a kill leaves
            copy(suffix)
        database.close()
        reopened = Database(other, [NOTES])
        assert await reopened.read(ALL) == [(1, "x")]
        files = list(other.parent.iterdir())
        assert len(files) == 3 and {file.stat().st_mode & 0o777 for file in files} == {0o600}
        reopened.close()

    asyncio.run(speak())


# --- what goes wrong


def test_one_bad_record_costs_no_other(place):
    async def speak():
        failures = Failures()
        database = Database(place, [NOTES], failed=failures)
        for record in (
            (1, "a"),
            (1, "again"),
            (2, None),
            (2**70, "b"),
            (3, "\ud800"),
            (3, object()),
            (3,),
            (4, "c"),
        ):
            database.write(ADD, record)
        database.write("INSERT INTO nowhere VALUES (1)")
        database.write(ADD, (5, "d"))
        assert await database.read(ALL) == [(1, "a"), (4, "c"), (5, "d")]
        assert not await database.flush() and database.lost == 7
        assert [records for _, records in failures] == [1] * 7
        assert await database.flush()  # nothing more since
        assert not database.close()

    asyncio.run(speak())


def test_many_of_one_kind_are_inserted_together_and_a_bad_one_costs_no_other(place):
    async def speak():
        failures = Failures()
        database = Database(place, [NOTES], failed=failures)
        for number in range(BATCH_RECORDS - 1):  # some are left over
            database.write(ADD, (number, f"word {number}"))
        assert await database.read(ALL) == [(number, f"word {number}") for number in range(BATCH_RECORDS - 1)]
        more = [(number, "more") for number in range(1000, 1000 + BATCH_RECORDS)]
        for record in (*more[:100], (1000, "again"), (2**70, "large"), (3000,), *more[100:]):
            database.write(ADD, record)
        assert await database.read(f"{ALL} LIMIT -1 OFFSET {BATCH_RECORDS - 1}") == more
        assert not await database.flush() and database.lost == 3
        assert [records for _, records in failures] == [1] * 3
        database.close()

    asyncio.run(speak())


def test_a_full_disk_is_told_and_survived(tmp_path):
    async def speak():
        failures = Failures()
        database = Database(tmp_path / "state.db", [NOTES], failed=failures)
        [(pages,)] = await database.read("PRAGMA page_count")
        await database.read(f"PRAGMA max_page_count={pages + 2}")
        for number in range(10):
            database.write(ADD, (number, "x" * 10_000))
        assert not await database.flush()
        assert failures == [("database or disk is full", 10)] and database.lost == 10
        await database.read("PRAGMA max_page_count=1000000")
        database.write(ADD, (1, "there is room again"))
        assert await database.flush()
        assert await database.read(ALL) == [(1, "there is room again")]
        database.close()

    asyncio.run(speak())


def test_another_process_holding_the_file_makes_records_wait(tmp_path):
    path = tmp_path / "state.db"

    async def speak():
        database = Database(path, [NOTES])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        database.write(ADD, (1, "x"))
        flushed = asyncio.ensure_future(database.flush())
        await asyncio.sleep(0.1)
        assert not flushed.done() and database.waiting == 1
        other.execute("ROLLBACK")
        other.close()
        assert await flushed
        database.close()

    asyncio.run(speak())


def test_more_than_may_wait_is_refused_and_told(tmp_path):
    async def speak():
        failures = Failures()
        database = Database(tmp_path / "state.db", [NOTES], failed=failures, backlog=10)
        for number in range(14):
            database.write(ADD, (number, "x"))
        assert database.lost == 4 and len(failures) == 3
        assert len(await database.read(ALL)) == 10
        database.write(ADD, (20, "there is room again"))
        assert len(await database.read(ALL)) == 11
        database.close()

    asyncio.run(speak())


def test_a_query_that_fails_is_an_error_for_who_asked_and_nobody_else(place):
    async def speak():
        failures = Failures()
        database = Database(place, [NOTES], failed=failures)
        with pytest.raises(GhostError, match="cannot be read"):
            await database.read("SELECT * FROM nowhere")
        assert failures == [("no such table: nowhere", 0)]
        assert await database.read(ALL) == []
        database.close()
        with pytest.raises(GhostError, match="cannot be read"):
            await database.read(ALL)
        database.write(ADD, (1, "too late"))
        assert database.lost == 1

    asyncio.run(speak())


def test_who_leaves_while_it_reads_disturbs_nothing(place):
    async def speak():
        database = Database(place, [NOTES])
        asked = asyncio.ensure_future(database.read(ALL))
        await asyncio.sleep(0)
        asked.cancel()
        assert await database.read(ALL) == []
        database.close()

    asyncio.run(speak())


def refused(path, components=(NOTES,)):
    threads = threading.active_count()
    with pytest.raises(StateError) as caught:
        Database(path, components)
    assert threading.active_count() == threads
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "state.db"
    path.write_bytes(b"# my notes\n" * 200)
    assert "file is not a database" in refused(path)
    assert path.read_bytes() == b"# my notes\n" * 200


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "state.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    assert "of some other program" in refused(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    connection.close()


def test_a_place_where_no_file_can_be(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be opened" in refused(tmp_path / "file" / "state.db")
    assert "cannot be opened" in refused(tmp_path)


@pytest.mark.parametrize("left", ["nothing", "a log"])
def test_a_file_that_may_only_be_read(left):
    """File modes count for nobody, if not for root. It goes on in memory; the file stays as it is."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "state.db"
        Database(path, [NOTES]).close()
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("INSERT INTO note (words) VALUES ('kept')")
        if left == "nothing":
            other.close()
        files = {file: file.read_bytes() for file in path.parent.iterdir()}
        assert len(files) == (1 if left == "nothing" else 3)
        for file in files:
            file.chmod(0o444)
        path.parent.chmod(0o555)
        stack.callback(path.parent.chmod, 0o755)
        stack.callback(other.close)
        if os.geteuid() == 0:
            os.seteuid(65534)
            stack.callback(os.seteuid, 0)

        async def speak():
            database = Database(path, [NOTES])
            assert "Permission denied" in database.unkept and not database.persistent
            database.write("INSERT INTO note (words) VALUES ('gone')")
            rows = await database.read("SELECT words FROM note")
            assert database.close()
            return [text for (text,) in rows]

        assert asyncio.run(speak()) == asyncio.run(speak()) == ["kept", "gone"]
        assert all(file.read_bytes() == content for file, content in files.items() if file == path)


def test_a_file_that_may_not_even_be_read():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.db"
        Database(path, [NOTES]).close()
        path.chmod(0o000)
        path.parent.chmod(0o555)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            assert "cannot be opened: [Errno 13] Permission denied" in refused(path)
        finally:
            if root:
                os.seteuid(0)
            path.parent.chmod(0o755)


# --- versions

SECOND = Component("notes", (*NOTES.steps, "ALTER TABLE note ADD COLUMN at REAL; CREATE TABLE b (x);"))


def test_an_older_file_is_brought_up_to_date(tmp_path):
    path = tmp_path / "state.db"

    async def first():
        database = Database(path, [NOTES])
        database.write(ADD, (1, "kept"))
        database.close()

    async def second():
        database = Database(path, [SECOND, Component("other", ("CREATE TABLE other (x);",))])
        rows = await database.read("SELECT id, words, at FROM note")
        others = await database.read("SELECT * FROM other")
        database.close()
        return rows, others

    asyncio.run(first())
    assert asyncio.run(second()) == asyncio.run(second()) == ([(1, "kept", None)], [])


def test_a_newer_file_is_refused_with_its_component(tmp_path):
    path = tmp_path / "state.db"
    Database(path, [SECOND]).close()
    assert "newer GhostLLM: the version of 'notes' is 2, this one knows up to 1" in refused(path)
    Database(path, [SECOND]).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=7")
    connection.close()
    assert "newer GhostLLM: its format is 7" in refused(path)


def test_a_step_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "state.db"
    Database(path, [NOTES]).close()
    broken = Component("notes", (*NOTES.steps, "CREATE TABLE c (x); CREATE TABLE note (y);"))
    assert "table note already exists" in refused(path, [broken])
    connection = sqlite3.connect(path)
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert "c" not in tables
    Database(path, [NOTES]).close()


def test_two_gateways_may_begin_at_once(tmp_path):
    path, databases, errors = tmp_path / "state.db", [], []

    def begin():
        try:
            databases.append(Database(path, [NOTES]))
        except StateError as error:
            errors.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and all([database.close() for database in databases])


def test_a_file_that_another_program_never_lets_go(tmp_path, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.1)
    path = tmp_path / "state.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "database is locked" in refused(path)
    other.close()


def test_a_trigger_is_one_statement():
    body = "CREATE TRIGGER t AFTER DELETE ON note BEGIN DELETE FROM note; DELETE FROM note; END;"
    Database(None, [Component("notes", (NOTES.steps[0] + body,))]).close()
