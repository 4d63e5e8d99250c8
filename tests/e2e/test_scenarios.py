"""When backends fail before anything has been delivered: every row of the table, at every door, streaming or
not (correctness.md §2). Each row says what the client gets, whom it cost how many requests, and what the
access log says.

What happens after the first token is in test_scenarios_rescue.py, to a breaker in test_scenarios_breaker.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.matrix_doors import Ask, read
from tests.e2e.scenario_doors import (
    DOORS,
    NAMES,
    SETTINGS,
    asked,
    backend,
    chained,
    fake,
    recorded,
    send,
    tried,
    whole,
)
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.gateway import Gateway

pytestmark = pytest.mark.wide

WHOLE = "".join(TEXT)

CHAINS = {
    "own": {"openai": ("primary", "second"), "responses": ("vllm", "llamacpp"),
            "anthropic": ("anthropic", "vllm"), "ollama": ("ollama", "anthropic")},
    "other": {"openai": ("ollama", "anthropic"), "responses": ("anthropic", "ollama"),
              "anthropic": ("primary", "llamacpp"), "ollama": ("vllm", "primary")},
}  # fmt: skip
"""The backends behind each door: first those that speak its dialect, or nearly; then others."""


@pytest.fixture(scope="module")
def running(started: Fakes) -> Iterator[Gateway]:
    pairs = sorted({pair for chain in CHAINS.values() for pair in chain.values()})
    models = [each for pair in pairs for each in chained(*pair)]
    models += [each for name in sorted({pair[0] for pair in pairs}) for each in chained(name)]
    settings = {**SETTINGS, "backends": [backend(started, name) for name in NAMES], "models": models}
    with Gateway(settings) as gateway:
        yield gateway


@dataclass(frozen=True, kw_only=True)
class Row:
    """does: what the first backend does, each time. limits: "hasty", "brief" or none. code: the outcome of
    its attempt, where all kinds of servers agree on it. stale: a used connection that dies without a byte
    does not count, so the fake may see a request more.
    """

    does: dict[str, Any]
    limits: str = ""
    streams: tuple[bool, ...] = (False, True)
    code: str = ""
    stale: bool = False


ONLY_STREAMS = (True,)
ONLY_WHOLE = (False,)
INVALID, CUT = "upstream_invalid_response", "upstream_incomplete"
LATE, DIED = "upstream_timeout", "upstream_error"

MOVES_ON = {
    "429, told to wait": Row(does={"status": 429, "headers": {"Retry-After": "30"}}),
    "429": Row(does={"status": 429}),
    "500": Row(does={"status": 500}),
    "503": Row(does={"status": 503}),
    "529": Row(does={"status": 529}),
    "401": Row(does={"status": 401}),
    "403": Row(does={"status": 403}),
    "404": Row(does={"status": 404}),
    "413": Row(does={"status": 413}),
    "reset": Row(does={"reset": True}, code=DIED, stale=True),
    "closed": Row(does={"close": True}, code=DIED, stale=True),
    "no head": Row(does={"hang": True}, limits="hasty", streams=ONLY_STREAMS, code=LATE),
    "no answer": Row(does={"hang": True}, limits="brief", streams=ONLY_WHOLE, code=LATE),
    "no first token": Row(does={"fault": "stall"}, limits="hasty", streams=ONLY_STREAMS, code=LATE),
    "stalled in its body": Row(
        does={"cut_after_bytes": 9, "fault": "stall"}, limits="hasty", streams=ONLY_WHOLE, code=LATE
    ),
    "cut before the first token": Row(does={"fault": "fin"}, streams=ONLY_STREAMS, code=CUT),
    "reset before the first token": Row(does={"fault": "rst"}, streams=ONLY_STREAMS, code=CUT),
    "ends before the first token": Row(does={"fault": "end"}, streams=ONLY_STREAMS, code=CUT),
    "cut in its body": Row(does={"cut_after_bytes": 5}, code=CUT),
    "reset in its body": Row(does={"cut_after_bytes": 5, "fault": "rst"}, code=CUT),
    "bad chunk": Row(does={"fault": "bad_chunk"}, streams=ONLY_STREAMS, code=INVALID),
    "bad JSON in an event": Row(does={"fault": "bad_json"}, streams=ONLY_STREAMS, code=INVALID),
    "no event": Row(does={"fault": "bad_event"}, streams=ONLY_STREAMS, code=INVALID),
    "an event too large": Row(
        does={"fault": "oversized", "size": 600_000}, streams=ONLY_STREAMS, code=INVALID
    ),
    "an error as first event": Row(does={"fault": "error"}, streams=ONLY_STREAMS),
    "a 429 as first event": Row(does={"fault": "error", "code": 429}, streams=ONLY_STREAMS),
    "HTML": Row(does={"body": "<html>Welcome</html>", "content_type": "text/html"}, code=INVALID),
    "nothing": Row(does={"body": ""}, code=INVALID),
    "no JSON": Row(does={"body": "{oops"}, code=INVALID),
    "compressed unasked": Row(
        does={"headers": {"Content-Encoding": "br"}}, streams=ONLY_STREAMS, code=INVALID
    ),
}


@dataclass
class Case:
    """A row at a door. first, second: its backends."""

    row: Row
    door: str
    first: str
    second: str
    ask: Ask = field(default_factory=Ask)

    def model(self, *backends: str) -> str:
        return "-".join((*backends, *filter(None, [self.row.limits])))


def cases(rows: Mapping[str, Row]) -> list[Any]:
    found = []
    for name, row in rows.items():
        for way, chain in CHAINS.items():
            for door in DOORS:
                for stream in row.streams:
                    # A whole answer is translated in one piece: one chain will do.
                    if way == "own" or stream or row.streams == ONLY_WHOLE:
                        case = Case(row, door, *chain[door], Ask(stream=stream))
                        how = "stream" if stream else "whole"
                        found.append(pytest.param(case, id=f"{name}-{door}-{way}-{how}"))
    return found


@pytest.mark.parametrize("case", cases(MOVES_ON))
def test_the_next_backend_answers(running: Gateway, fakes: Fakes, case: Case) -> None:
    fake(fakes, case.first).script({**case.row.does, "times": None})
    answer = send(running, case.door, case.model(case.first, case.second), case.ask)
    assert whole(case.door, case.ask, answer).text == WHOLE
    requests = asked(fakes)
    assert requests.pop(case.first) in ((1, 2) if case.row.stale else (1,))
    assert requests == {case.second: 1}
    record = recorded(running, answer)
    [(first, outcome), last] = tried(record)
    assert (first, last) == (case.first, (case.second, "ok"))
    assert outcome not in ("ok", "open", "cancelled")
    assert case.row.code in ("", outcome)
    assert (record["backend"], record["outcome"], record["status"]) == (case.second, "ok", 200)
    assert (record["prompt_tokens"], record["completion_tokens"]) == (PROMPT_TOKENS, 6)
    assert "partial" not in record and "rescued" not in record


AGAIN = {
    "500 once": Row(does={"status": 500}),
    "503 once": Row(does={"status": 503}),
    "429 once": Row(does={"status": 429, "headers": {"Retry-After-Ms": "30"}}),
    "reset once": Row(does={"reset": True}, stale=True),
    "cut once": Row(does={"cut_after_bytes": 5}),
    "nothing once": Row(does={"body": ""}),
    "cut before the first token once": Row(does={"fault": "fin"}, streams=ONLY_STREAMS),
}


@pytest.mark.parametrize("case", cases(AGAIN))
def test_an_only_backend_is_asked_again(running: Gateway, fakes: Fakes, case: Case) -> None:
    fake(fakes, case.first).script(case.row.does)
    answer = send(running, case.door, case.model(case.first), case.ask)
    assert whole(case.door, case.ask, answer).text == WHOLE
    assert asked(fakes) == {case.first: 2}
    attempts = tried(recorded(running, answer))
    assert attempts[-1] == (case.first, "ok")
    assert len(attempts) in ((1, 2) if case.row.stale else (2,))


@dataclass(frozen=True, kw_only=True)
class Ending(Row):
    """The client's error. requests: to the first backend, and to the second."""

    status: int
    requests: tuple[int, int]


TOO_LONG = {"status": 400, "message": "prompt is too long: maximum context length is 10 tokens",
            "code": "context_length_exceeded"}  # fmt: skip
FILTERED = {"status": 400, "message": "The response was filtered", "code": "content_filter"}

REFUSES = {
    "400": Ending(does={"status": 400}, status=400, requests=(1, 0)),
    "422": Ending(does={"status": 422}, status=422, requests=(1, 0)),
    "prompt too long": Ending(does=TOO_LONG, status=400, requests=(1, 0)),
    "content filter": Ending(does=FILTERED, status=400, requests=(1, 0)),
}


@pytest.mark.parametrize("case", cases(REFUSES))
def test_a_fault_of_the_request_is_told_at_once(running: Gateway, fakes: Fakes, case: Case) -> None:
    row = case.row
    assert isinstance(row, Ending)
    fake(fakes, case.first).script({**row.does, "times": None})
    answer = send(running, case.door, case.model(case.first, case.second), case.ask)
    assert answer.status == row.status
    assert row.does.get("message", "told to fail") in read(case.door, case.ask, answer).error
    assert asked(fakes) == {case.first: 1}
    record = recorded(running, answer)
    assert [name for name, _ in tried(record)] == [case.first]
    assert record["status"] == row.status and record["completion_tokens"] is None
    if row.does is TOO_LONG:
        assert record["code"] == "context_length_exceeded"


ANTHROPIC = {502: 500, 503: 529}
"""Statuses that the dialect does not have, and those it has instead."""

LOADED = {
    "429, told to wait for long": Ending(
        does={"status": 429, "headers": {"Retry-After": "90"}}, status=429, requests=(1, 1)
    ),
    "429 every time": Ending(does={"status": 429}, status=429, requests=(2, 1)),
    "503 every time": Ending(does={"status": 503}, status=503, requests=(2, 1)),
    "500 every time": Ending(does={"status": 500}, status=502, requests=(2, 1)),
    "reset every time": Ending(does={"reset": True}, status=502, requests=(2, 1), stale=True),
    "nothing every time": Ending(does={"body": ""}, status=502, requests=(2, 1)),
}


@pytest.mark.parametrize("case", cases(LOADED))
def test_when_all_fail_one_error_says_so(running: Gateway, fakes: Fakes, case: Case) -> None:
    """Bounded attempts, and client libraries are told not to multiply them."""
    row = case.row
    assert isinstance(row, Ending)
    for name in (case.first, case.second):
        fake(fakes, name).script({**row.does, "times": None})
    answer = send(running, case.door, case.model(case.first, case.second), case.ask)
    status = ANTHROPIC.get(row.status, row.status) if case.door == "anthropic" else row.status
    assert answer.status == status
    assert read(case.door, case.ask, answer).error
    assert answer.headers["x-should-retry"] == "false"
    record = recorded(running, answer)
    attempts = tried(record)
    if not row.stale:
        assert asked(fakes) == dict(zip((case.first, case.second), row.requests, strict=True))
    assert [name for name, _ in attempts] == [case.first, case.second, case.first][: sum(row.requests)]
    assert "ok" not in [outcome for _, outcome in attempts]
    assert (record["outcome"], record["status"]) == ("error", status)
    if "headers" in row.does:
        assert 85 <= int(answer.headers["retry-after"]) <= 90
