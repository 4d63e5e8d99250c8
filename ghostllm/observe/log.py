"""The log: `log.info("words for the event", name=value…)`, and the ways in for what others say: the standard
library's `logging` (asyncio and dependencies) and the output of child processes.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from typing import Any

from ghostllm.config.mask import Mask
from ghostllm.observe.render import Record, Renderer, plain, timestamp
from ghostllm.observe.sink import LogSink

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""Severities, as `logging` numbers them."""


class Logger:
    """Records events at or above `level`. Any thread may call it; nothing here blocks or raises."""

    def __init__(self, sink: LogSink, render: Renderer, level: str) -> None:
        self._sink = sink
        self._render = render
        self.level = level
        self.mask = Mask()
        """Of every record's texts, its traceback included; replaced when other secrets are known."""
        self._least = LEVELS[level]

    def __repr__(self) -> str:
        return f"<Logger {self.level} to {self._sink!r}>"

    def retune(self, render: Renderer, level: str) -> None:
        self._render = render
        self.level = level
        self._least = LEVELS[level]

    def enabled(self, level: str) -> bool:
        """Whether such a record would be written: ask before computing costly fields."""
        return LEVELS[level] >= self._least

    def debug(self, event: str, /, **fields: Any) -> None:
        if self._least <= 10:
            self._write("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        if self._least <= 20:
            self._write("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        if self._least <= 30:
            self._write("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._write("error", event, fields)

    def notice(self, event: str, /, **fields: Any) -> None:
        """Information that is written whatever the level."""
        self._write("info", event, fields)

    def exception(self, event: str, error: BaseException, /, **fields: Any) -> None:
        """An error with the place it came from."""
        lines = traceback.format_exception(error)
        self._write("error", event, {**fields, "error": error, "traceback": "".join(lines).rstrip()})

    def child(self, level: str, source: str, line: str) -> None:
        """A line that the child process of backend `source` printed."""
        if self.enabled(level):
            self._write(level, "output", {"source": source, "line": line.rstrip()})

    def _write(self, level: str, event: str, fields: Record) -> None:
        mask = self.mask
        record = plain({"time": timestamp(time.time()), "level": level, "event": mask.text(event)})
        for name, value in fields.items():
            name = f"{name}_" if name in ("time", "level", "event") else name
            record[name] = plain(value, mask=mask.text)
        self._sink.post(self._render(record))


def gap_record(render: Renderer, dropped: int) -> bytes:
    """The record that stands where `dropped` others are missing."""
    return render(
        {
            "time": timestamp(time.time()),
            "level": "warning",
            "event": "log records dropped",
            "count": dropped,
            "reason": "the log's reader does not keep up",
        }
    )


class LoggingHandler(logging.Handler):
    """Gives the records of the standard library's loggers to ours, under the logger's name as source; so too
    the exceptions that the interpreter would print by itself, secrets and all.
    """

    def __init__(self, log: Logger) -> None:
        super().__init__(LEVELS[log.level])
        self._log = log
        self._level_before = logging.WARNING
        self._hooks_before = sys.excepthook, threading.excepthook, sys.unraisablehook

    def install(self) -> None:
        root = logging.getLogger()
        self._level_before = root.level
        root.addHandler(self)
        root.setLevel(self.level)
        self._hooks_before = sys.excepthook, threading.excepthook, sys.unraisablehook
        sys.excepthook = lambda kind, error, trace: self._log.exception("crashed", error)
        threading.excepthook = self._thread_ended
        sys.unraisablehook = self._unraisable

    def retune(self) -> None:
        """The log's level is another one."""
        self.setLevel(LEVELS[self._log.level])
        logging.getLogger().setLevel(self.level)

    def remove(self) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level_before)
        sys.excepthook, threading.excepthook, sys.unraisablehook = self._hooks_before

    def _thread_ended(self, args: threading.ExceptHookArgs) -> None:
        name = "" if args.thread is None else args.thread.name
        error = args.exc_value
        if error is not None and not isinstance(error, SystemExit):
            self._log.exception(f"thread {name} ended", error)

    def _unraisable(self, args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            self._log.exception(args.err_msg or "an exception that nobody could be told of", args.exc_value)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except (
            Exception
        ):  # arguments that do not fit the format: a mistake in somebody's code, still worth a line
            event = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._log.exception(event, error, source=record.name)
        elif record.levelno >= logging.ERROR:
            self._log.error(event, source=record.name)
        elif record.levelno >= logging.WARNING:
            self._log.warning(event, source=record.name)
        elif record.levelno >= logging.INFO:
            self._log.info(event, source=record.name)
        else:
            self._log.debug(event, source=record.name)
