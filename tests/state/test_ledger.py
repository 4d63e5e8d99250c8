"""Every request is one record, whatever its names and counts are and however the process ends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.policy.budgets import Budgets
from ghostllm.policy.subjects import Subject
from ghostllm.state import ledger as ledger_module
from ghostllm.state.calendar import Calendar
from ghostllm.state.database import Database
from ghostllm.state.ledger import COMPONENT, DAY_SECONDS, MOST_COST, MOST_TOKENS, Entry, Ledger
from ghostllm.state.usage import report
from tests.state.ledger_writer import FIRST, entry

ROOT = Path(__file__).parents[2]
NOON = 1_774_872_000.0  # 2026-03-30 12:00 UTC
DAY = 86_400.0


def run(speak, path=None, **options):
    async def inside():
        database = Database(path, [COMPONENT])
        try:
            return await speak(Ledger(database, Calendar(), **options))
        finally:
            database.close()

    return asyncio.run(inside())


async def rows(ledger, columns="*"):
    return await ledger.database.read(f"SELECT {columns} FROM usage_record ORDER BY number")


@pytest.fixture(params=["memory", "file"])
def place(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "state.db"


def test_a_record_is_kept_as_it_is(place):
    whole = Entry(
        NOON + 0.25, "req_1", "alice", "blue", "gpt-4", "big", "box", "chat", 200, "ok",
        100, 20, 80, 5, 7, True, True, 1234, 2.5, 0.25, 2,
    )  # fmt: skip
    bare = Entry(NOON, "req_2", "bob")

    async def speak(ledger):
        ledger.record(whole)
        ledger.record(bare)
        assert await ledger.database.flush()
        kept = await rows(ledger)
        assert kept[0] == (1, *whole, "2026-03-30", "EUR")
        assert kept[1] == (2, *bare, "2026-03-30", "EUR")

    run(speak, place, currency="EUR")


def test_an_id_that_is_used_again_counts_again():
    async def speak(ledger):
        ledger.record(Entry(NOON, "req_1", "alice", cost=5))
        ledger.record(Entry(NOON + 1, "req_1", "alice", cost=5))  # clients choose ids
        ledger.record(Entry(NOON, "req_1", "bob", cost=5))
        assert await ledger.database.flush()
        assert len(await rows(ledger)) == 3
        spent = {(row.kind, row.name): row.cost for row in await ledger.spent("2026-03")}
        assert spent == {("key", "alice"): 10, ("key", "bob"): 5}

    run(speak)


def test_sums_go_on_where_no_record_is_left():
    """Their numbers begin anew then."""

    async def speak(ledger):
        for number in range(3):
            ledger.record(Entry(NOON - 500 * DAY_SECONDS, f"old_{number}", "alice", cost=5))
        ledger.purge()
        assert await rows(ledger) == []
        ledger.record(Entry(NOON, "new", "alice", cost=7))
        assert [row.cost for row in await ledger.spent("2026-03")] == [7]
        assert [row.cost for row in await ledger.spent("2026-03")] == [7], "summed up once"

    run(speak, retention_days=30, clock=lambda: NOON)


TEXTS = st.text(st.characters(), max_size=300)
COUNTS = st.one_of(st.none(), st.integers(-(10**40), 10**40), st.integers(0, 5000))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.builds(
    Entry, st.floats(0, 4e9), st.just("req_1") | TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS,
    prompt=COUNTS, completion=COUNTS, cached=COUNTS, cache_write=COUNTS, reasoning=COUNTS, cost=COUNTS,
    estimated=st.integers(0, 1), partial=st.integers(0, 1), status=st.just(200), attempts=st.just(1),
    duration=st.none(), ttft=st.none(),
), max_size=10, unique_by=lambda entry: entry.time))  # fmt: skip
def test_no_name_and_no_count_loses_a_record_or_spoils_a_sum(entries):
    async def speak(ledger):
        for each in entries:
            ledger.record(each)
        assert await ledger.database.flush()
        told = await report(ledger)
        assert sum(row["requests"] for row in told.rows) == len(entries)
        for kept in await rows(ledger, "prompt, completion, cached, cache_write, reasoning, cost"):
            assert all(count is None or 0 <= count <= MOST_TOKENS for count in kept[:5])
            assert kept[5] is None or 0 <= kept[5] <= MOST_COST

    run(speak)


def test_what_was_spent_is_summed_by_day_for_keys_teams_and_the_models_that_answered():
    async def speak(ledger):
        ledger.record(Entry(NOON, "1", "alice", "blue", "asked", "big", cost=100))
        ledger.record(Entry(NOON + 1, "2", "alice", "", "asked", "big", cost=10))
        ledger.record(Entry(NOON + 2, "3", "bob", "blue", "asked", "", cost=1))
        ledger.record(Entry(NOON + 3, "4", "bob", "blue", "asked", "big", cost=None))
        ledger.record(Entry(NOON + DAY, "5", "alice", "blue", "asked", "small", cost=1000))
        ledger.record(Entry(NOON - 31 * DAY, "6", "alice", "blue", "asked", "small", cost=10**6))
        spent = {tuple(row) for row in await ledger.spent("2026-03")}
        assert spent == {
            ("key", "alice", "2026-03-30", 110), ("key", "bob", "2026-03-30", 1),
            ("team", "blue", "2026-03-30", 101), ("model", "big", "2026-03-30", 110),
            ("key", "alice", "2026-03-31", 1000), ("team", "blue", "2026-03-31", 1000),
            ("model", "small", "2026-03-31", 1000),
        }  # fmt: skip
        ledger.currency = "EUR"
        assert await ledger.spent("2026-03") == []

    run(speak)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 3 * DAY), st.sampled_from("ab"), st.sampled_from("mn"), st.integers(0, 10**6)),
        max_size=30,
    )
)
def test_budgets_stand_after_a_restart_where_they_stood_before(requests):
    calendar = Calendar()
    before, after = Budgets(calendar, lambda crossed: None), Budgets(calendar, lambda crossed: None)
    subjects = [Subject("key", "a"), Subject("key", "b"), Subject("team", "t"), Subject("model", "m")]

    async def speak(ledger):
        now = NOON
        for number, (step, key, model, cost) in enumerate(requests):
            now += step
            shares = (
                (Subject("key", key), None),
                (Subject("team", "t"), None),
                (Subject("model", model), None),
            )
            before.reserve(shares, cost, now).settle(cost, now)
            ledger.record(Entry(now, str(number), key, "t", model, model, cost=cost))
        after.load(await ledger.spent(calendar.at(now).month), now)
        assert [after.spent(each, now) for each in subjects] == [before.spent(each, now) for each in subjects]

    run(speak)


# --- retention


def test_old_records_go_in_steps_and_those_of_this_month_stay(monkeypatch):
    monkeypatch.setattr(ledger_module, "PURGE_ROWS", 10)

    async def speak(ledger):
        for number in range(25):
            ledger.record(Entry(NOON - 40 * DAY, str(number), "alice", cost=1))
        ledger.record(Entry(NOON - 20 * DAY, "this month", "alice", cost=1))
        ledger.record(Entry(NOON, "new", "alice", cost=1))
        left = []
        for _ in range(4):
            ledger.purge()
            left.append(len(await rows(ledger)))
        assert left == [17, 7, 2, 2]
        assert sum(row.cost for row in await ledger.spent("2000-01")) == 2

    run(speak, retention_days=7, clock=lambda: NOON)


def test_without_retention_everything_stays():
    async def speak(ledger):
        ledger.record(Entry(1.0, "old", "alice", cost=1))
        ledger.purge()
        assert len(await rows(ledger)) == 1

    run(speak, clock=lambda: NOON)


def test_records_make_old_ones_go_by_themselves(monkeypatch):
    monkeypatch.setattr(ledger_module, "PURGE_PUTS", 5)

    async def speak(ledger):
        for number in range(5):
            ledger.record(Entry(NOON - 400 * DAY, str(number), "alice"))
        assert await rows(ledger) == []

    run(speak, retention_days=30, clock=lambda: NOON)


# --- what goes wrong


def test_killed_while_it_writes_it_has_all_but_the_last_records(tmp_path):
    path = tmp_path / "state.db"
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.state.ledger_writer", "kill", str(path)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with writer, writer.stdout as output:
        lines = []
        for line in output:
            lines.append(line.strip())
            if len(lines) > 5000:
                break
        writer.kill()
        lines += [line.strip() for line in output if line.endswith("\n")]
    logged = sum(line.isdigit() for line in lines)
    flushed = [int(line.split()[1]) for line in lines if line.startswith("flushed")]
    assert flushed
    spent = Counter()

    async def speak(ledger):
        nonlocal spent
        kept = [row[0] for row in await rows(ledger, "request")]
        assert kept == [f"req_{number}" for number in range(len(kept))]  # the beginning of what was logged
        assert flushed[-1] <= len(kept)
        for row in await ledger.spent("2026-03"):
            spent[row.kind] += row.cost
        told = await report(ledger)
        total = sum(entry(number).cost for number in range(len(kept)))
        assert told.lost == 0 and told.rows[0]["requests"] == len(kept)
        assert told.rows[0]["cost"] == spent["key"] == spent["model"] == total
        ledger.record(Entry(FIRST, "after", "alice"))
        assert await ledger.database.flush()
        assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600] * 3
        return len(kept)

    kept = run(speak, path)
    assert kept <= logged + 37  # what was logged last may be cut in the pipe


def test_a_full_disk_costs_records_which_are_counted_and_nothing_else(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.state.ledger_writer", "full", str(tmp_path / "state.db")],
        cwd=ROOT, capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["sound"] and not result["full"] and result["again"] and not result["closed"]
    assert result["lost"] == result["told"] > 0 and result["readable"] == 1
    assert 3100 - result["lost"] <= result["requests"] < 3100, "what sums up may be lost as well"
    assert result["reasons"] and all("disk" in reason for reason in result["reasons"])


def test_a_file_that_can_only_be_read_costs_records_and_nothing_else(tmp_path):
    reasons = []

    async def speak():
        database = Database(tmp_path / "state.db", [COMPONENT], failed=lambda *told: reasons.append(told))
        ledger = Ledger(database, Calendar())
        ledger.record(entry(1))
        assert await database.flush()
        await database.read("PRAGMA query_only=ON")  # as SQLite behaves on a read-only file system
        for number in range(2, 12):
            ledger.record(entry(number))
        assert not await database.flush()
        told = await report(ledger)
        assert (told.lost, told.rows[0]["requests"]) == (10, 1)
        assert reasons == [("attempt to write a readonly database", 10)]
        await database.read("PRAGMA query_only=OFF")
        ledger.record(entry(12))
        assert await database.flush()
        assert (await report(ledger)).rows[0]["requests"] == 2
        database.close()

    asyncio.run(speak())


def test_nothing_is_lost_at_an_orderly_end(tmp_path):
    path = tmp_path / "state.db"

    async def speak():
        database = Database(path, [COMPONENT])
        ledger = Ledger(database, Calendar())
        for number in range(3000):
            ledger.record(entry(number))
        assert database.close()

    asyncio.run(speak())
    assert run(lambda ledger: report(ledger), path).rows[0]["requests"] == 3000
