"""The log of a real process: its reader stops reading, goes away, or was never there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, json, sys
from ghostllm import observe
from ghostllm.config.schema import Log
from ghostllm.net import loop

records, turns = int(sys.argv[1]), int(sys.argv[2])

async def main():
    seen = observe.build(Log(format="json"))
    seen.start(asyncio.get_running_loop())
    for turn in range(turns):
        for number in range(records // turns):
            seen.log.info("filling", number=turn * (records // turns) + number, padding="x" * 200)
        await asyncio.sleep(0)
    # Had the log blocked the loop, we would never have come here.
    dropped = next(line for line in seen.metrics.render(b"")[1].decode().splitlines()
                   if line.startswith("ghostllm_log_records_dropped_total"))
    print(json.dumps({"alive": True, "dropped": int(dropped.split()[1])}), flush=True)
    sys.stdin.readline()
    seen.log.info("the end")
    print(json.dumps({"stopped": seen.stop()}), flush=True)

loop.run(main())
"""


@pytest.fixture
def start():
    started = []

    def launch(records, turns, *, pure=False, **descriptors):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        if pure:
            environment["GHOSTLLM_PURE"] = "1"
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(records), str(turns)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=environment, **descriptors,
        )  # fmt: skip
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def told(process):
    return json.loads(process.stdout.readline())


def go_on(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


@pytest.mark.parametrize("pure", [False, True])
def test_all_records_arrive_in_order_before_the_end(start, pure):
    process = start(5000, 50, pure=pure, stderr=subprocess.PIPE)
    go_on(process)
    records = [json.loads(line) for line in process.stderr]
    assert [record.get("number") for record in records] == [*range(5000), None]
    assert told(process) == {"alive": True, "dropped": 0} and told(process) == {"stopped": True}
    assert process.wait() == 0


def test_a_pipe_that_nobody_reads(start):
    process = start(60_000, 60, stderr=subprocess.PIPE)
    report = told(process)  # while its log is full and unread
    assert report["alive"] and report["dropped"] > 0
    go_on(process)
    records = [json.loads(line) for line in process.stderr]
    numbers = [record["number"] for record in records if "number" in record]
    dropped = sum(record["count"] for record in records if record["event"] == "log records dropped")
    ends = sum(record["event"] == "the end" for record in records)
    assert len(numbers) + ends + dropped == 60_001, "each is there or counted"
    assert numbers == sorted(numbers)
    assert process.wait() == 0


def test_a_pipe_that_nobody_ever_reads_does_not_keep_the_process(start):
    process = start(60_000, 60, stderr=subprocess.PIPE)
    assert told(process)["alive"]
    go_on(process)
    assert told(process) == {"stopped": False}
    assert process.wait() == 0


def test_the_reader_goes_away(start):
    """SIGPIPE and EPIPE: no end, no exception, only losses."""
    process = start(5000, 50, stderr=subprocess.PIPE)
    process.stderr.close()
    report = told(process)
    assert report["alive"]
    go_on(process)
    assert told(process) == {"stopped": False}
    assert process.wait() == 0, signal.strsignal(-min(0, process.returncode))


def test_standard_error_closed_from_the_beginning(start):
    """On asyncio's loop: libuv aborts a process whose descriptor 2 is one of its own."""
    process = start(500, 5, pure=True, preexec_fn=lambda: os.close(2))
    assert told(process)["alive"]
    go_on(process)
    assert told(process) == {"stopped": False}
    assert process.wait() == 0
