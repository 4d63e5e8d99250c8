"""Records as they are read: by machines, by people; without secrets, each on a line of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import observe
from ghostllm.config.kinds import Secret
from ghostllm.config.mask import Mask
from ghostllm.config.schema import Log
from ghostllm.observe.log import LoggingHandler
from ghostllm.observe.render import LONGEST_TEXT, json_line, text_line, timestamp

HOSTILE = st.text(st.characters(), max_size=40)  # control characters and lone surrogates included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)


class Captured:
    """An Observability that writes into a file."""

    def __init__(self, path, **config):
        self._path = path
        with open(path, "wb") as file:
            self.seen = observe.build(Log(**config), file.fileno())
        self.log = self.seen.log

    def lines(self):
        self.seen.stop()
        return self._path.read_text("utf-8").split("\n")[:-1]

    def records(self):
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def captured(tmp_path):
    made = Captured(tmp_path / "log", level="debug")
    yield made
    made.seen.stop()


def test_one_json_object_a_line_fields_in_order(captured):
    captured.log.info("backend answers", backend="one", models=2, seconds=0.5, flag=True, nothing=None)
    (line,) = captured.lines()
    assert list(json.loads(line).items())[1:] == [
        ("level", "info"), ("event", "backend answers"), ("backend", "one"), ("models", 2), ("seconds", 0.5),
        ("flag", True), ("nothing", None),
    ]  # fmt: skip
    written = datetime.fromisoformat(json.loads(line)["time"])
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1700000000.0, "2023-11-14T22:13:20.000Z"),
        (1700000000.0625, "2023-11-14T22:13:20.062Z"),
        (1700000000.99999, "2023-11-14T22:13:20.999Z"),
        (1700000001.5, "2023-11-14T22:13:21.500Z"),
        (1700000000.0, "2023-11-14T22:13:20.000Z"),
    ],
)
def test_time_stamps(now, text):
    assert timestamp(now) == text


@given(st.floats(0, 4e9))
def test_time_stamps_agree_with_datetime(now):
    given = datetime.fromisoformat(timestamp(now)).timestamp()
    assert 0 <= now - given < 0.001001


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_levels(tmp_path, level, count):
    captured = Captured(tmp_path / "log", level=level)
    log = captured.log
    assert [log.enabled(name) for name in ("error", "warning", "info", "debug")] == [
        n < count for n in range(4)
    ]
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    for name in ("debug", "info", "warning", "error"):
        log.child(name, "runner", "said")
    records = captured.records()
    assert [record["level"] for record in records] == 2 * ["debug", "info", "warning", "error"][4 - count :]


class Unshowable:
    def __str__(self):
        raise RuntimeError("no")


def test_strange_values_are_shown_somehow(captured):
    loop = []
    loop.append(loop)
    captured.log.info(
        "odd", secret=Secret("hunter2"), inside={"key": [Secret("hunter2")]}, raw=b"\xff\x00a", huge=10**40,
        nan=float("nan"), half="\ud800", cyclic=loop, kinds={1: {2}}, error=ValueError("bad"),
        bad=Unshowable(), path=os, long="y" * 100_000, level="field", time="field", event="field",
    )  # fmt: skip
    (line,) = captured.lines()
    record = json.loads(line)
    assert "hunter2" not in line and len(line) < 20_000
    assert record["secret"] == "***" and record["inside"] == {"key": ["***"]}
    assert record["raw"] == "\\xff\x00a" and record["huge"] == str(10**40) and record["nan"] == "nan"
    assert (
        record["half"] == "\\ud800" and record["kinds"] == {"1": [2]} and record["error"] == "ValueError: bad"
    )
    assert record["bad"] == "<Unshowable that cannot be shown>"
    assert (record["level"], record["event"], record["level_"], record["event_"]) == (
        "info",
        "odd",
        "field",
        "field",
    )
    assert "100000 characters" in record["long"]


@settings(max_examples=200, deadline=None)
@given(HOSTILE, st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), VALUES, max_size=4))
def test_no_value_breaks_a_record(event, fields):
    record = {"time": "t", "level": "info", "event": event, **fields}
    line = json_line(dict(record))
    assert b"\n" not in line and isinstance(json.loads(line), dict)
    fields.pop("traceback", None)
    text = text_line(colour=False)({"time": "t", "level": "info", "event": event, **fields}).decode()
    assert text.isprintable(), "nothing that moves a terminal's cursor or starts a line"


def test_text_is_aligned_words(tmp_path):
    captured = Captured(tmp_path / "log", format="text")
    captured.log.warning(
        "short", url="http://127.0.0.1:1/v1", reason="not found", none=None, names=["a", "b"], n=3
    )
    captured.log.error("longer words for it", path='a"b\n\x1b[31m', empty="")
    first, second = captured.lines()
    assert re.sub(r"^\S{24} ", "", first) == (
        'warning short                url=http://127.0.0.1:1/v1 reason="not found" names=["a", "b"] n=3'
    )
    assert re.sub(r"^\S{24} ", "", second) == (
        r'error   longer words for it  path="a\"b\n\u001b[31m" empty=""'
    )


def test_colours_only_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = os.openpty()
    try:
        for colourful in (True, False):
            if not colourful:
                monkeypatch.setenv("NO_COLOR", "1")
            seen = observe.build(Log(), theirs)
            seen.log.error("seen by a person", count=1)
            seen.stop()
            line = os.read(ours, 1000)
            assert b"seen by a person" in line and b"count=" in line and not line.startswith(b"{")
            assert (b"\x1b[31m" in line) is colourful
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_exception_comes_with_its_place(tmp_path):
    def fail():
        raise RuntimeError("boom")

    for style in ("json", "text"):
        captured = Captured(tmp_path / style, format=style)
        try:
            fail()
        except RuntimeError as error:
            captured.log.exception("it failed", error, backend="one")
        lines = captured.lines()
        if style == "json":
            (record,) = map(json.loads, lines)
            assert record["level"] == "error" and record["error"] == "RuntimeError: boom"
            assert "in fail" in record["traceback"] and record["backend"] == "one"
        else:
            assert "it failed" in lines[0] and "traceback" not in lines[0]
            assert all(line.startswith("    | ") for line in lines[1:])
            assert any("in fail" in line for line in lines[1:])


def test_a_childs_line_has_its_source(captured):
    captured.log.child("warning", "smollm", 'load: "x"\x1b[0m\r\n')
    (record,) = captured.records()
    assert (record["level"], record["source"], record["line"]) == ("warning", "smollm", 'load: "x"\x1b[0m')


def test_the_standard_librarys_loggers_write_here_while_it_runs(captured):
    root = logging.getLogger()
    before = (root.level, list(root.handlers))

    async def main():
        loop = asyncio.get_running_loop()
        captured.seen.start(loop)
        logging.getLogger("dep").info("hello %s", "there")
        logging.getLogger("dep.sub").debug("deep")
        try:
            raise KeyError("k")
        except KeyError:
            logging.getLogger("dep").exception("failed")
        loop.call_exception_handler({"message": "asyncio says so", "exception": ValueError("v")})
        thread = threading.Thread(target=lambda: logging.getLogger("thread").error("from outside"))
        thread.start()
        await asyncio.to_thread(thread.join)
        captured.seen.stop()
        logging.getLogger("dep").error("too late")

    asyncio.run(main())
    assert (root.level, root.handlers) == before
    records = {record["event"]: record for record in captured.records()}
    assert records["hello there"]["source"] == "dep" and records["hello there"]["level"] == "info"
    assert records["deep"]["level"] == "debug" and records["deep"]["source"] == "dep.sub"
    assert "KeyError" in records["failed"]["traceback"]
    assert (
        records["asyncio says so"]["level"] == "error" and records["asyncio says so"]["source"] == "asyncio"
    )
    assert records["from outside"]["source"] == "thread"
    assert "too late" not in records


def test_a_message_that_does_not_fit_its_arguments_is_still_a_record(captured):
    handler = LoggingHandler(captured.log)
    handler.emit(logging.makeLogRecord({"msg": "wrong %d", "args": ("format",), "levelno": logging.CRITICAL}))
    (record,) = captured.records()
    assert (record["event"], record["level"]) == ("wrong %d", "error")


def test_another_configuration_while_it_runs(captured):
    log = captured.log
    log.debug("one")
    captured.seen.retune(Log(level="warning", format="text"), 3)
    assert captured.seen.recorder.keep == 3
    for level in ("debug", "info", "warning"):
        getattr(log, level)(f"two, {level}")
    captured.seen.retune(Log(level="info", format="json"), 0)
    log.info("three")
    lines = captured.lines()
    assert json.loads(lines[0])["event"] == "one" and json.loads(lines[2])["event"] == "three"
    assert "two, warning" in lines[1] and not lines[1].startswith("{") and len(lines) == 3


# --- secrets

CANARY, KEY = "canary-4711", "gk_canaryclient4711"


def test_no_record_holds_a_secret_wherever_it_stands(captured):
    captured.log.mask = Mask([CANARY])
    try:
        raise ValueError(f"refused {CANARY}") from KeyError(f"Authorization: Bearer {KEY}")
    except ValueError as error:
        captured.log.exception(f"crashed on {CANARY}", error, headers={CANARY: [CANARY.encode()]})
    captured.log.child("info", "gguf", f"loaded with {CANARY}")
    logging.getLogger("asyncio").error("no %s", CANARY)
    captured.log.error("long", text="x" * (LONGEST_TEXT - 4) + CANARY)
    text = "".join(captured.lines())
    assert "canary" not in text and text.count("***") >= 6 and "Traceback" in text


def test_a_notice_is_written_whatever_the_level(tmp_path):
    captured = Captured(tmp_path / "log", level="error")
    captured.log.info("not this")
    captured.log.notice("audit", who="ops")
    (record,) = captured.records()
    assert (record["event"], record["level"], record["who"]) == ("audit", "info", "ops")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_the_interpreter_would_print_is_a_record_without_secrets(captured, capfd):
    async def main():
        captured.seen.start(asyncio.get_running_loop())
        captured.log.mask = Mask([CANARY])

        def fail():
            raise RuntimeError(f"thread with {CANARY}")

        thread = threading.Thread(target=fail, name="side")
        thread.start()
        thread.join()
        sys.excepthook(ValueError, ValueError(f"main with {CANARY}"), None)
        sys.unraisablehook(Unraisable(OSError(f"gone with {CANARY}")))

    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    asyncio.run(main())
    records = captured.records()
    assert (sys.excepthook, threading.excepthook, sys.unraisablehook) == before
    assert [record["event"] for record in records] == [
        "thread side ended", "crashed", "an exception that nobody could be told of",
    ]  # fmt: skip
    assert CANARY not in str(records) and CANARY not in capfd.readouterr().err


class Unraisable:
    err_msg = None

    def __init__(self, error):
        self.exc_value = error
