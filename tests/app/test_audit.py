"""The auditor: everything that was done is a record and a row, and neither has a secret."""

from __future__ import annotations

import asyncio
import json

from ghostllm import observe
from ghostllm.app.audit import Auditor
from ghostllm.config.mask import Mask
from ghostllm.config.schema import Log
from ghostllm.message import Exchange, Request
from ghostllm.state.audit import COMPONENT, AuditTrail
from ghostllm.state.database import Database

CANARY = "canary-4711"


def told(do, path):
    """The records of the log and the rows of the state, after `do(auditor)`."""

    async def main(file):
        seen = observe.build(Log(level="error", format="json"), file.fileno())
        seen.log.mask = Mask([CANARY])
        database = Database(None, [COMPONENT])
        trail = AuditTrail(database, 10)
        do(Auditor(seen.log, trail))
        rows = [action for _, action in await trail.latest(10)]
        database.close()
        seen.stop()
        return rows

    with open(path, "wb") as file:
        rows = asyncio.run(main(file))
    return [json.loads(line) for line in path.read_text().splitlines()], rows


def test_what_no_request_asked_for(tmp_path):
    def do(auditor):
        auditor.note("reload", "gateway.toml", who="SIGHUP", changed={"keys": [{"name": "a", "key": "x"}]})
        auditor.note("reload", error=f"no such file: {CANARY}")

    records, rows = told(do, tmp_path / "log")
    assert [(row.who, row.action, row.outcome) for row in rows] == [
        ("this machine", "reload", "failed"), ("SIGHUP", "reload", "done"),
    ]  # fmt: skip
    assert rows[1].changed == {"keys": [{"name": "a", "key": "***"}]} and rows[0].error == "no such file: ***"
    assert [record["event"] for record in records] == ["audit", "audit"]
    assert records[0]["target"] == "gateway.toml" and records[1]["peer"] == "local"


def test_a_secret_that_stands_where_no_name_tells_it(tmp_path):
    def do(auditor):
        request = Request("POST", f"/admin/api/backends/{CANARY}/drain", {})
        request.body = json.dumps({"note": f"was {CANARY}", CANARY: [CANARY]}).encode()
        exchange = Exchange(request, "req_1", 0.0)
        exchange.route, exchange.status, exchange.outcome = "admin_backend", 200, "ok"
        auditor.exchange(exchange)
        auditor.exchange(Exchange(Request("GET", "/admin/api/backends", {}), "req_2", 0.0))

    records, rows = told(do, tmp_path / "log")
    assert len(rows) == len(records) == 1
    assert CANARY not in f"{rows} {records}" and rows[0].changed == {
        "body": {"note": "was ***", "***": ["***"]}
    }
