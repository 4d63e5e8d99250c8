"""The log: records are made on the event loop and written by one side thread.
 The thread only joins and writes bytes: anything more in it would hold the interpreter lock against the loop
(serialising there cost 1.5 ms of added p99). The loop never waits: when nobody reads, records are dropped,
counted, and the loss is told.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from typing import Any

from ghostllm import jsonx

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
QUEUE_LIMIT = 50_000
BATCH_BYTES = 1 << 18
STOP_SECONDS = 3.0
LINE_LIMIT = 4096  # of what a child process writes
_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[36m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_stamp = (0, "")


def timestamp() -> str:
    """RFC 3339 in UTC with milliseconds; all but the milliseconds is made once a second."""
    global _stamp
    now = time.time()
    second = int(now)
    if _stamp[0] != second:
        _stamp = (second, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)))
    return f"{_stamp[1]}{int((now - second) * 1000):03d}Z"


class Writer:
    """Takes lines on the loop, writes them in a thread. dropped: lines given up because nobody reads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Event()
        self._scheduled = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """One whole line with its newline. Before start, it is written at once."""
        if self._loop is None:
            self._write(line)
        elif len(self._lines) >= QUEUE_LIMIT:
            self.dropped += 1
        else:
            self._lines.append(line)
            if not self._scheduled:  # one wake for all that a turn of the loop has to say
                self._scheduled = True
                self._loop.call_soon(self._signal)

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        self._loop = None

    def _signal(self) -> None:
        self._scheduled = False
        self._wake.set()

    def _run(self) -> None:
        told = 0
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                lines, self._lines = self._lines, []
                if self.dropped > told:
                    lines.append(
                        b'{"level":"warning","event":"log records dropped","count":%d}\n'
                        % (self.dropped - told)
                    )
                    told = self.dropped
                self._write(b"".join(lines))
            if self._stopping:
                return

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view[:BATCH_BYTES]) :]
            except BlockingIOError:  # somebody made the descriptor non-blocking: only this thread waits
                time.sleep(0.01)
            except OSError:  # the reader is gone; the gateway serves on
                self.dropped += data.count(b"\n")
                return


class Logger:
    """Events with fields. Text for people, or one JSON object a line."""

    def __init__(self, writer: Writer, level: str, *, text: bool = False, colour: bool = False) -> None:
        self._writer = writer
        self._least = LEVELS[level]
        self.text = text
        self._colour = colour

    def enabled(self, level: str) -> bool:
        return LEVELS[level] >= self._least

    def debug(self, event: str, **fields: Any) -> None:
        self.record("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self.record("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.record("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self.record("error", event, fields)

    def exception(self, event: str, error: BaseException) -> None:
        """An error that nobody expected, with the place it came from."""
        self.error(event, error=repr(error), trace="".join(traceback.format_exception(error)))

    def child(self, level: str, source: str, line: str) -> None:
        """A line that a child process wrote."""
        self.record(level, line[:LINE_LIMIT], {"source": source})

    def record(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if LEVELS.get(level, 20) < self._least:
            return
        if self.text:
            self._writer.put(self._as_text(level, event, fields))
        else:
            record = {"time": timestamp(), "level": level, "event": event, **fields}
            self._writer.put(_dumps(record) + b"\n")

    def _as_text(self, level: str, event: str, fields: dict[str, Any]) -> bytes:
        trace = fields.pop("trace", "")
        words = "  ".join(f"{name}={_word(value)}" for name, value in fields.items() if value is not None)
        mark = f"{_COLOURS[level]}{level:<7}\x1b[0m" if self._colour else f"{level:<7}"
        line = f"{timestamp()[11:23]} {mark} {_printable(event)}{'  ' if words else ''}{words}\n{trace}"
        return line.encode("utf-8", "replace")


def _dumps(record: dict[str, Any]) -> bytes:
    try:
        return jsonx.dumps(record)
    except (TypeError, ValueError):  # a value that JSON does not know, or half a surrogate pair
        return jsonx.dumps(
            {name: str(value).encode("utf-8", "replace").decode() for name, value in record.items()}
        )


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_word(item) for item in value)
    text = _printable(str(value))
    return f'"{text}"' if " " in text or not text else text


def _printable(text: str) -> str:
    """Without control characters: a request must not be able to write lines of its own into the log."""
    return text if text.isprintable() else text.encode("unicode_escape", "replace").decode()
