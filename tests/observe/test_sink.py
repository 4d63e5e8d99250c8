"""The way of a record into a file descriptor: whole, in order, and never in anybody's way."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.observe.sink import BATCH_RECORDS, LogSink


def gap(dropped):
    return b"gap %d" % dropped


@contextmanager
def pipe():
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for fd in (reader, writer):
            try:
                os.close(fd)
            except OSError:
                continue


def read_all(reader):
    """Until every writing end is closed."""
    return b"".join(iter(lambda: os.read(reader, 65536), b""))


def caught_up(sink):
    """Waits until what was handed over is written."""
    while sink.backlog:
        time.sleep(0.01)


def running(sink, scenario):
    """Runs `await scenario()` with the sink started, and closes it; what close said."""

    async def main():
        sink.start(asyncio.get_running_loop())
        try:
            await scenario()
        finally:
            result.append(sink.close(5))

    result = []
    asyncio.run(main())
    return result[0]


def test_all_records_before_close_arrive_in_order(tmp_path):
    records = [b"record %d" % number for number in range(3 * BATCH_RECORDS)]
    with open(tmp_path / "log", "wb") as file:
        sink = LogSink(file.fileno(), gap)

        async def scenario():
            for number, record in enumerate(records):
                sink.write(record)
                if number % 1000 == 0:
                    await asyncio.sleep(0.06)

        assert running(sink, scenario) is True
    assert (tmp_path / "log").read_bytes().splitlines() == records
    assert sink.dropped == 0 and sink.backlog == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.binary(max_size=50).filter(lambda b: b"\n" not in b), max_size=5), max_size=5))
def test_records_arrive_as_they_are(turns):
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap)
        os.close(writer)

        async def scenario():
            for turn in turns:
                for record in turn:
                    sink.write(record)
                await asyncio.sleep(0)

        running(sink, scenario)
        assert read_all(reader) == b"".join(record + b"\n" for turn in turns for record in turn)


def test_a_record_alone_is_written_soon_not_at_the_end():
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap)

        async def scenario():
            sink.write(b"alone")
            assert await asyncio.to_thread(os.read, reader, 100) == b"alone\n"

        assert running(sink, scenario)


def test_before_start_records_are_written_at_once_and_after_close_dropped():
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap)
        os.close(writer)
        sink.write(b"early")
        sink.post(b"early too")
        assert os.read(reader, 100) == b"early\nearly too\n"

        async def scenario():
            sink.write(b"in time")

        assert running(sink, scenario)
        sink.write(b"late")
        sink.post(b"late")
        assert read_all(reader) == b"in time\n"
        assert sink.dropped == 2
        assert sink.close() is True


def test_close_without_start_gives_the_descriptor_back():
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap)
        os.close(writer)
        sink.write(b"only")
        assert sink.close() is True
        assert read_all(reader) == b"only\n"


def test_nobody_reads_then_somebody_does():
    """The loop goes on; what did not fit is counted, and the log says where it is missing."""
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap, backlog_bytes=100_000)
        os.close(writer)
        sent = 0
        seen = []
        thread = threading.Thread(target=lambda: seen.append(read_all(reader)))

        async def scenario():
            nonlocal sent
            while sink.dropped < 2000:
                for _ in range(BATCH_RECORDS):
                    sink.write(b"record %06d %s" % (sent, b"x" * 20))
                    sent += 1
                await asyncio.sleep(0)
            thread.start()
            await asyncio.to_thread(caught_up, sink)
            sink.write(b"last")

        assert running(sink, scenario)
        thread.join()
        lines = seen[0].splitlines()
        gaps = [int(line[4:]) for line in lines if line.startswith(b"gap ")]
        numbers = [int(line[7:13]) for line in lines if line.startswith(b"record ")]
        assert lines[-1] == b"last" and lines[-2].startswith(b"gap ")
        assert sum(gaps) == sink.dropped >= 2000, "each is told once"
        assert numbers and len(numbers) + sink.dropped == sent
        assert numbers == sorted(numbers)
        assert len(lines) == len(numbers) + len(gaps) + 1, "every record is whole"


def test_a_gap_at_the_very_end_is_told_too():
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap, backlog_bytes=10)
        os.close(writer)

        async def scenario():
            sink.write(b"far too long for this backlog")
            await asyncio.sleep(0.1)

        running(sink, scenario)
        assert read_all(reader) == b"gap 1\n"


def test_closing_does_not_wait_for_a_reader_that_never_reads():
    with pipe() as (reader, writer):
        sink = LogSink(writer, gap)

        async def main():
            sink.start(asyncio.get_running_loop())
            sink.write(b"x" * 1_000_000)
            assert sink.close(0.05) is False
            assert sink.backlog

        asyncio.run(main())
        os.close(writer)
        os.close(reader)  # frees the thread, which is stuck in write()


@pytest.mark.parametrize("place", ["a pipe without reader", "a full disk", "a closed descriptor"])
def test_what_cannot_be_written_is_counted_and_harms_nobody(place):
    with pipe() as (reader, writer):
        if place == "a pipe without reader":
            os.close(reader)
            sink = LogSink(writer, gap)
        elif place == "a full disk":
            full = os.open("/dev/full", os.O_WRONLY)
            sink = LogSink(full, gap)
            os.close(full)
        else:
            os.close(writer)
            sink = LogSink(writer, gap)

        async def scenario():
            for _ in range(10):
                sink.write(b"record")
                sink.post(b"record")
                await asyncio.sleep(0.06)

        assert running(sink, scenario) is False
        assert sink.dropped == 20


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing():
    record = b"x" * 999
    with pipe() as (reader, writer):
        os.set_blocking(writer, False)
        sink = LogSink(writer, gap)
        os.close(writer)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(read_all(reader)))

        async def scenario():
            for _ in range(1000):
                sink.write(record)
            await asyncio.sleep(0.2)  # the pipe is full by now
            thread.start()

        assert running(sink, scenario)
        thread.join()
        assert seen[0] == (record + b"\n") * 1000


def test_a_non_blocking_descriptor_without_reader_does_not_hold_up_the_end():
    with pipe() as (_, writer):
        os.set_blocking(writer, False)
        sink = LogSink(writer, gap)

        async def main():
            sink.start(asyncio.get_running_loop())
            sink.write(b"x" * 1_000_000)
            await asyncio.sleep(0.1)
            assert sink.close(0.3) is False

        asyncio.run(main())
        while sink._writer.is_alive():
            sink._writer.join(5)
        assert sink.dropped == 1


def test_records_of_other_threads_come_through_whole(tmp_path):
    with open(tmp_path / "log", "wb") as file:
        sink = LogSink(file.fileno(), gap)

        def speak(name):
            for number in range(200):
                sink.post(b"%d %d" % (name, number))

        async def scenario():
            speak(0)
            await asyncio.gather(*(asyncio.to_thread(speak, name) for name in range(1, 5)))

        assert running(sink, scenario)
    lines = (tmp_path / "log").read_text().splitlines()
    for name in range(5):
        own = [line for line in lines if line.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(200)]
    assert len(lines) == 1000


def test_a_descriptor_reused_by_somebody_else_gets_no_log(tmp_path):
    with open(tmp_path / "log", "wb") as file:
        number = os.dup(file.fileno())
    sink = LogSink(number, gap)
    os.close(number)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    assert other == number, "the number is in use again"

    async def scenario():
        sink.write(b"record")

    try:
        assert running(sink, scenario)
    finally:
        os.close(other)
    assert (tmp_path / "other").read_bytes() == b""
    assert (tmp_path / "log").read_bytes() == b"record\n"


def test_repr_shows_its_state():
    with pipe() as (_, writer):
        sink = LogSink(writer, gap)
        assert re.fullmatch(r"<LogSink fd=\d+ waiting=0 backlog=0 dropped=0>", repr(sink))
        sink.close()
