"""The audit trail: what was done stays, in order, up to a number; refusals push nobody out."""

from __future__ import annotations

import asyncio

import pytest

from ghostllm.state.audit import COMPONENT, PURGE_PUTS, Action, AuditTrail
from ghostllm.state.database import Database


def action(number, **members):
    given = {"time": float(number), "who": "ops", "peer": "192.0.2.1", "action": "POST admin_backend",
             "target": f"/admin/api/backends/b{number}/drain", "outcome": "done", "status": 200,
             "request": f"req_{number}", "changed": {"body": {"n": number}}}  # fmt: skip
    return Action(**{**given, **members})


def run(speak, keep=1000, path=None):
    async def inside():
        database = Database(path, [COMPONENT])
        try:
            return await speak(AuditTrail(database, keep))
        finally:
            assert database.close()

    return asyncio.run(inside())


def test_the_newest_come_first_and_as_they_were(tmp_path):
    async def put(trail):
        for number in range(3):
            trail.put(action(number))
        trail.put(action(3, status=None, error="it broke", outcome="failed", changed=None))

    async def get(trail):
        return await trail.latest(10)

    run(put, path=tmp_path / "state")
    rows = run(get, path=tmp_path / "state")
    assert [number for number, _ in rows] == [4, 3, 2, 1]
    assert rows[1][1] == action(2)
    assert rows[0][1].told()["error"] == "it broke" and rows[0][1].status is None


def test_pages_and_filters():
    async def speak(trail):
        for number in range(6):
            trail.put(
                action(number, who="a" if number % 2 else "b", outcome="refused" if number > 3 else "done")
            )
        pages = [number for number, _ in await trail.latest(2)]
        pages += [number for number, _ in await trail.latest(2, before=pages[-1])]
        by = [len(await trail.latest(9, **wanted)) for wanted in (
            {"who": "a"}, {"who": "' OR 1=1 --"}, {"outcome": "refused"}, {"who": "b", "outcome": "done"},
            {"action": "POST admin_backend"}, {"action": "x"})]  # fmt: skip
        return pages, by

    pages, by = run(speak)
    assert pages == [6, 5, 4, 3] and by == [3, 0, 2, 2, 6, 0]


def test_so_many_are_kept_and_no_more():
    async def speak(trail):
        for number in range(3 * PURGE_PUTS):
            trail.put(action(number))
        return [number for number, _ in await trail.latest(1000)]

    assert run(speak, keep=10) == list(range(3 * PURGE_PUTS, 3 * PURGE_PUTS - 10, -1))


def test_refusals_push_nothing_out():
    async def speak(trail):
        for number in range(5):
            trail.put(action(number))
        for number in range(4 * PURGE_PUTS - 5):
            trail.put(action(number, outcome="refused", who="anonymous"))
        rows = await trail.latest(1000)
        return [each.outcome for _, each in rows]

    outcomes = run(speak, keep=20)
    assert outcomes.count("done") == 5 and outcomes.count("refused") == 2


def test_a_smaller_number_counts_from_the_start(tmp_path):
    async def put(trail):
        for number in range(20):
            trail.put(action(number))

    async def count(trail):
        return len(await trail.latest(1000)), trail.persistent

    run(put, path=tmp_path / "state")
    assert run(count, keep=5, path=tmp_path / "state") == (5, True)


@pytest.mark.parametrize("text", ["'; DROP TABLE audit; --", "\x00\ud800", "💥" * 500])
def test_whatever_a_client_calls_itself(text):
    async def speak(trail):
        trail.put(action(1, who=text.encode("utf-8", "replace").decode(), target="x"))
        return len(await trail.latest(5))

    assert run(speak) == 1
