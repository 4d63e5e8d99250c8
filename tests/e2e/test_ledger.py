"""The ledger of a running gateway: nothing lost at an orderly end, the last batch at most by a kill, and the
service goes on when the disk is full.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.traffic import backend, counted, model, serving
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")

COST = PROMPT_TOKENS + 10 * len(TEXT)
"""Of one request, in millionths."""
BATCH = 256
CLIENTS = 16
OPS = {"Authorization": "Bearer sk-ops-0123456789"}
ALICE = {"Authorization": "Bearer sk-alice-0123456789"}


def settings(fakes: Fakes, state: Path, **more: Any) -> Settings:
    return {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01},
        "state": {"file": str(state)},
        "keys": [
            {"name": "ops", "key": OPS["Authorization"][7:], "manage": True},
            {"name": "alice", "key": ALICE["Authorization"][7:], "budget": {"month": 1000},
             "limits": {"concurrent": 1000}},
        ],
        "backends": [backend("primary", fakes.primary)],
        "models": [model("m", "primary", price={"input": 1.0, "output": 10.0})],
        **more,
    }  # fmt: skip


def ask(gateway: Gateway, **members: Any) -> int:
    data = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 6, **members}
    try:
        return gateway.ask("POST", "/v1/chat/completions", data, ALICE).status
    except (OSError, AssertionError):  # the gateway has gone
        return 0


@contextmanager
def load(gateway: Gateway) -> Iterator[list[int]]:
    """Clients that ask until the end; the statuses they got so far."""
    over, statuses = threading.Event(), [0]
    statuses.clear()

    def run() -> None:
        while not over.is_set() and not gateway.over:
            statuses.append(ask(gateway))

    clients = [threading.Thread(target=run) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield statuses
    finally:
        over.set()
        for client in clients:
            client.join()


def rows(state: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(state)) as connection:
        return connection.execute(sql).fetchall()


def logged(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """The access log's records of calls, by request. The line that a kill cut is none."""
    found = {}
    for line in gateway.lines:
        if line.startswith("{") and line.endswith("}") and '"event":"request"' in line:
            record = json.loads(line)
            if "model" in record:
                found[record["request_id"]] = record
    return found


def tokens(record: dict[str, Any]) -> tuple[Any, Any]:
    return record["prompt_tokens"], record["completion_tokens"]


USAGE = "/admin/api/usage"


def spent(gateway: Gateway) -> float:
    told = gateway.ask("GET", "/admin/api/limits", None, OPS).json()
    [row] = [row for row in told["budgets"] if row["name"] == "alice"]
    return float(row["month"])


def test_a_kill_costs_the_last_batch_at_most(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    with serving(settings(started, state), OPS) as gateway:
        with load(gateway) as statuses:
            until(lambda: len(statuses) > 600, "some have been served", 30)
            gateway.process.kill()
        gateway.wait()
        access = logged(gateway)
    assert len(access) > 300
    ledger = {
        request: (prompt, completion)
        for request, prompt, completion in rows(state, "SELECT request, prompt, completion FROM usage_record")
    }
    # Each writes in batches of its own: whichever was ahead, the other lacks no more than one.
    assert len(access.keys() - ledger.keys()) <= BATCH
    assert len(ledger.keys() - access.keys()) <= BATCH
    assert all(ledger[request] == tokens(access[request]) for request in ledger.keys() & access.keys())
    assert rows(state, "PRAGMA integrity_check") == [("ok",)]
    assert rows(state, "SELECT sum(cost) FROM usage_record") == [(COST * len(ledger),)]
    with serving(settings(started, state), OPS) as gateway:
        assert rows(state, "SELECT cost FROM usage_spent WHERE kind = 'key'") == [(COST * len(ledger),)]
        assert spent(gateway) == pytest.approx(COST * len(ledger) / 1e6), "budgets go on from there"
        assert ask(gateway) == 200
        usage = gateway.ask("GET", "/admin/api/usage?by=key", None, OPS).json()["usage"]
        assert usage[0]["requests"] == len(ledger) + 1


def test_an_orderly_end_loses_nothing(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    own = settings(started, state, server={"timeouts": {"drain": 0.3}})
    with serving(own, OPS) as gateway:
        fakes.primary.script({"tokens": 4000, "token_delay": 0.01, "times": 5})
        streams = [threading.Thread(target=ask, args=(gateway,), kwargs={"stream": True}) for _ in range(5)]
        for stream in streams:
            stream.start()
        until(lambda: len(fakes.primary.calls) == 5, "five streams are under way")
        with load(gateway) as statuses:
            until(lambda: len(statuses) > 300, "some have been served", 30)
            gateway.terminate()
            assert gateway.wait() == 0
        for stream in streams:
            stream.join()
        access = logged(gateway)
    ledger = {
        request: (prompt, completion)
        for request, prompt, completion in rows(state, "SELECT request, prompt, completion FROM usage_record")
    }
    assert ledger == {request: tokens(record) for request, record in access.items()}
    assert len([record for record in access.values() if record["outcome"] == "cancelled"]) == 5
    mode = stat.S_IMODE(state.stat().st_mode)
    assert mode == 0o600


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_where_nothing_can_be_written_the_service_goes_on(
    started: Fakes, fakes: Fakes, tmp_path: Path
) -> None:
    """No file of the process may grow any more, as on a full disk; later it may again."""
    with serving(settings(started, tmp_path / "state.db"), OPS) as gateway:
        with load(gateway) as statuses:
            until(lambda: len(statuses) > 200, "some have been served", 30)
        until(lambda: gateway.ask("GET", USAGE, None, OPS).json()["usage"], "some have been written")
        size = max(file.stat().st_size for file in tmp_path.iterdir())
        prlimit = resource.prlimit
        before = prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        goes_on(gateway, lambda: prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, before))


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a file system here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_on_a_full_disk_the_service_goes_on(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        with serving(settings(started, disk / "state.db"), OPS) as gateway:
            assert ask(gateway) == 200
            until(lambda: rows(disk / "state.db", "SELECT * FROM usage_record"), "it is written down")
            ballast = disk / "ballast"
            with ballast.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            goes_on(gateway, ballast.unlink)


def goes_on(gateway: Gateway, mend: Any) -> None:
    """While nothing can be written, and after `mend`."""

    def lost() -> float:
        return counted(gateway, "ghostllm_state_records_lost_total", OPS)

    with load(gateway) as statuses:
        until(lost, "records are lost", 30)
        have = len(statuses)
        until(lambda: len(statuses) > have + 50, "it goes on", 30)
    assert set(statuses) == {200}
    until(lambda: "state not written" in gateway.log, "the log tells of it")
    [told, *_] = [line for line in gateway.records if line["event"] == "state not written"]
    assert told["level"] == "error" and told["reason"] and told["records"] > 0
    assert gateway.ask("GET", USAGE, None, OPS).status in (200, 500)
    mend()
    until(lambda: counted(gateway, "ghostllm_state_records_waiting", OPS) == 0, "all have been tried", 30)
    before, missing = usage(gateway)["requests"], lost()
    assert [ask(gateway) for _ in range(3)] == [200] * 3
    until(lambda: usage(gateway)["requests"] == before + 3, "it is written again")
    assert lost() == missing
    assert gateway.ask("GET", USAGE, None, OPS).json()["lost"] == missing
    assert len([line for line in gateway.records if line["event"] == "state not written"]) < 10


def usage(gateway: Gateway) -> dict[str, Any]:
    [row] = gateway.ask("GET", USAGE, None, OPS).json()["usage"]
    return dict(row)


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_that_can_only_be_read(started: Fakes, fakes: Fakes, tmp_path: Path, killed: bool) -> None:
    """Service goes on with what it says; what is added is told of, and gone at the end."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        own = settings(started, disk / "state.db")
        with serving(own, OPS) as gateway:
            assert ask(gateway) == 200
            before = spent(gateway)
            assert gateway.ask("GET", USAGE, None, OPS).json()["usage"], "it has been written"
            if not killed:
                gateway.terminate()
                gateway.wait()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for _ in range(2):
            with serving(own, OPS) as gateway:
                [told] = until(lambda: read_only(gateway), "it is told")
                assert told["level"] == "error" and "Read-only file system" in told["reason"]
                assert spent(gateway) == pytest.approx(before)
                assert ask(gateway) == 200
                assert spent(gateway) == pytest.approx(2 * before)


def read_only(gateway: Gateway) -> list[dict[str, Any]]:
    return [line for line in gateway.records if line["event"].startswith("state only read")]


def test_a_place_that_is_none_ends_the_start(started: Fakes, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cannot_start(settings(started, tmp_path / "file" / "state.db"), "state.db cannot be opened", "")
    (tmp_path / "other.db").write_bytes(b"no database at all, but long enough to be looked at" * 50)
    cannot_start(settings(started, tmp_path / "other.db"), "other.db cannot be used", "not a database")


def cannot_start(own: Settings, *says: str) -> None:
    with Gateway(own, wait=False) as gateway:
        assert gateway.wait() == 1
        [told] = [line for line in gateway.records if line["event"] == "cannot start"]
        assert all(word in told["reason"] for word in says), told


def test_budgets_and_usage_without_a_state_file(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    own = settings(started, tmp_path / "x")
    del own["state"]
    with serving(own, OPS) as gateway:
        until(lambda: "budgets begin anew at each start" in gateway.log, "it is told")
        assert ask(gateway) == 200
        assert spent(gateway) == pytest.approx(COST / 1e6)


def test_old_records_are_deleted(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    own = settings(started, state, usage={"retention_days": 40})
    with serving(own, OPS) as gateway:
        assert ask(gateway) == 200
        gateway.terminate()
        gateway.wait()
    with closing(sqlite3.connect(state)) as connection, connection:
        connection.execute(
            "INSERT INTO usage_record SELECT NULL, time - 100 * 86400, 'old', key, team, asked, model, "
            "backend, route, status, outcome, prompt, completion, cached, cache_write, reasoning, estimated, "
            "partial, cost, duration, ttft, attempts, '2000-01-01', currency FROM usage_record"
        )
    with serving(own, OPS) as gateway:
        until(lambda: usage(gateway)["requests"] == 1, "the old one is gone")
