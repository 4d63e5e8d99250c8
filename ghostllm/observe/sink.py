"""Where log records go: a list on the event loop, a queue to one side thread, a file descriptor.

Built so that logging costs the event loop next to nothing and can never stop it. The loop appends finished
bytes to a list; one timer, set when the list stops being empty, hands the whole list over. The thread joins
and writes, nothing else: whatever Python it runs, it runs while holding the interpreter lock. When the reader
of the log does not keep up, records are dropped, counted, and the gap is reported in the log itself.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

FLUSH_SECONDS = 0.05  # a record waits at most this long for the ones that share its write
BATCH_RECORDS = 1024  # joining this many takes about 50 µs
BACKLOG_BYTES = 8 * 1024 * 1024  # what may wait for a reader that does not keep up
CLOSE_SECONDS = 2.0


class Batch(NamedTuple):
    """size: bytes when written. told: how many dropped records its first record, a gap record, tells of."""

    records: list[bytes]
    size: int
    told: int


class LogSink:
    """Writes records, each as one line, to a duplicate of descriptor `fd`. A record comes without its line
    break.

    A duplicate, so that closing the original cannot turn our log into writes on somebody else's socket.
    Without a usable descriptor every record is dropped. gap: makes the record that tells of dropped ones,
    given their number. dropped: how many records were lost so far.

    Before `start` a record is written at once, by the caller: nobody is being served yet. After `close` it is
    dropped.
    """

    def __init__(self, fd: int, gap: Callable[[int], bytes], backlog_bytes: int = BACKLOG_BYTES) -> None:
        try:
            self._fd = os.dup(fd)
        except OSError:  # closed before we began
            self._fd = -1
        self._gap = gap
        self._backlog_bytes = backlog_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pending: list[bytes] = []
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._lock = threading.Lock()  # for the three counters that any thread may change
        self._queued = 0  # bytes handed to the writer, ever
        self._refused = 0  # records
        self._told = 0  # dropped records that a gap record was made for
        self._written = (
            0  # bytes the writer is done with, ever; this and the next two only its thread changes
        )
        self._lost = 0  # records that could not be written
        self._told_in_vain = 0  # dropped records whose gap record could not be written either
        self._closing = False
        self._deadline = float("inf")
        self._writer: threading.Thread | None = None

    def __repr__(self) -> str:
        waiting = len(self._pending)
        return f"<LogSink fd={self._fd} waiting={waiting} backlog={self.backlog} dropped={self.dropped}>"

    @property
    def backlog(self) -> int:
        """Bytes handed over and not yet written."""
        return self._queued - self._written

    @property
    def dropped(self) -> int:
        return self._refused + self._lost

    @property
    def _untold(self) -> int:
        return self.dropped - (self._told - self._told_in_vain)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called on the thread of `loop`, which from now on may call `write`."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._writer = threading.Thread(target=self._write_all, name="ghostllm-log", daemon=True)
        self._writer.start()

    def write(self, record: bytes) -> None:
        """On the loop's thread only: the cheap way in."""
        pending = self._pending
        if not pending:
            if self._loop is None:
                self._write_unserved(record)
                return
            self._timer = self._loop.call_later(FLUSH_SECONDS, self._flush)
        pending.append(record)
        if len(pending) >= BATCH_RECORDS:
            self._flush()

    def post(self, record: bytes) -> None:
        """From any thread."""
        if self._loop is None or threading.get_ident() == self._loop_thread:
            self.write(record)
        else:
            self._hand_over([record])

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Writes what is left, for at most `seconds`; False if not all of it could be written. On the loop's
        thread.
        """
        if self._closing:
            return not self.backlog
        self._flush()
        self._loop = None
        self._deadline = time.monotonic() + seconds
        with self._lock:
            self._closing = True
            self._queue.put(None)
        if self._writer is None:
            self._write_all()
            return True
        # A thread that is stuck in write() keeps its descriptor; being a daemon it does not keep the process.
        self._writer.join(seconds)
        return not self._writer.is_alive() and not self._lost

    # --- on the loop

    def _write_unserved(self, record: bytes) -> None:
        if self._closing or not self._write(record + b"\n"):
            self._refused += 1

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, []
        if batch:
            self._hand_over(batch)

    def _hand_over(self, records: list[bytes]) -> None:
        size = sum(map(len, records)) + len(records)
        with self._lock:
            if self._closing or self.backlog + size > self._backlog_bytes:
                self._refused += len(records)
                return
            untold = self._untold
            if untold:
                self._told += untold
                gap = self._gap(untold)
                records = [gap, *records]
                size += len(gap) + 1
            self._queued += size
            self._queue.put(Batch(records, size, untold))

    # --- the writer

    def _write_all(self) -> None:
        while (batch := self._queue.get()) is not None:
            records, size, told = batch
            records.append(b"")
            if not self._write(b"\n".join(records)):
                self._lost += len(records) - 1 - bool(told)
                self._told_in_vain += told
            self._written += size
        if self._untold:
            self._write(self._gap(self._untold) + b"\n")
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> bool:
        """False when it could not be written: no reader (EPIPE), no space, no descriptor."""
        rest = memoryview(data)
        while rest:
            try:
                written = os.write(self._fd, rest)
                rest = rest[written:]
            except BlockingIOError:  # whoever shares this descriptor has made it non-blocking
                if not self._wait_writable():
                    return False
            except OSError:
                return False
        return True

    def _wait_writable(self) -> bool:
        """False once there is no time left."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while time.monotonic() < self._deadline:
            if poll.poll(100):
                return True
        return False
