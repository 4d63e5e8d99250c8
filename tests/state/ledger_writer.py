"""`python -m tests.state.ledger_writer`: it keeps a ledger, to be killed or to run out of disk."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

from ghostllm.errors import GhostError
from ghostllm.state import ledger as ledger_module
from ghostllm.state.calendar import Calendar
from ghostllm.state.database import Database
from ghostllm.state.ledger import Entry, Ledger
from ghostllm.state.usage import report

FIRST = 1_774_872_000.0


def entry(number: int) -> Entry:
    return Entry(
        FIRST + number / 100, f"req_{number}", f"key{number % 3}", model="m", prompt=number, cost=number + 1
    )


async def until_killed(path: str) -> None:
    """A line for each record, as an access log has it, and one for each flush."""
    ledger = Ledger(Database(path, [ledger_module.COMPONENT]), Calendar())
    number = 0
    while True:
        for _ in range(37):
            ledger.record(entry(number))
            sys.stdout.write(f"{number}\n")
            number += 1
        sys.stdout.flush()
        await asyncio.sleep(0.001)
        if number % (37 * 20) == 0:
            await ledger.database.flush()
            sys.stdout.write(f"flushed {number}\n")


async def on_a_full_disk(path: str) -> None:
    """No file may grow beyond what there is, and later may again. Prints what came of it."""
    reasons: list[str] = []

    def failed(reason: str, records: int) -> None:
        reasons.append(reason)

    database = Database(path, [ledger_module.COMPONENT], failed=failed)
    ledger = Ledger(database, Calendar())
    for number in range(100):
        ledger.record(entry(number))
    sound = await database.flush()
    size = max(file.stat().st_size for file in Path(path).parent.iterdir())
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    for number in range(100, 3000):
        ledger.record(entry(number))
    full = await database.flush()
    try:
        readable = len((await report(ledger)).rows)
    except GhostError:
        readable = -1
    lost = database.lost
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for number in range(3000, 3100):
        ledger.record(entry(number))
    again = await database.flush()
    told = await report(ledger)
    result = {
        "sound": sound, "full": full, "again": again, "lost": lost, "told": told.lost, "readable": readable,
        "requests": told.rows[0]["requests"], "reasons": sorted(set(reasons)), "closed": database.close(),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    asyncio.run({"kill": until_killed, "full": on_a_full_disk}[sys.argv[1]](sys.argv[2]))
