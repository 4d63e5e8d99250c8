"""The mock speaks its dialects as the gateway reads them, however its clients cut their requests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import mock, speech
from ghostllm import backends
from ghostllm.api.openai import door
from ghostllm.config.schema import BackendConfig
from tests.fakes import raw
from tests.fakes.fake import ROOT

STAMPS = range(10**12, 10**12 + speech.TOKENS)


def unchunked(data: bytes) -> Iterator[bytes]:
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if length:
            yield data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]


def events(name: str) -> list[bytes]:
    """A whole stream, event by event."""
    one = speech.SPEECH[name]
    _, _, first = one.begin.partition(b"\r\n\r\n")
    return [*unchunked(first), *(one.token % stamp for stamp in STAMPS), *unchunked(one.end)]


@pytest.mark.parametrize("name", speech.SPEECH)
def test_a_token_is_its_stamp(name: str) -> None:
    found = speech.STAMP.findall(b"".join(events(name)))
    assert [int(stamp) for stamp in found] == list(STAMPS)


@pytest.mark.parametrize("name", speech.SPEECH)
def test_a_stream_says_that_it_is_over_once_at_its_end(name: str) -> None:
    over = [any(ending in event for ending in speech.ENDINGS) for event in events(name)]
    assert over[-1] and not any(over[:-1])


@pytest.mark.parametrize("name", speech.SPEECH)
def test_answers_and_requests_are_json(name: str) -> None:
    one = speech.SPEECH[name]
    for response in (one.answer, one.listing):
        head, _, body = response.partition(b"\r\n\r\n")
        assert b"Content-Length: %d" % len(body) in head
        assert isinstance(json.loads(body), dict)
    assert json.loads(speech.body(name, "m", stream=True))["stream"] is True
    assert 800 < len(speech.body(name)) < 1200


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_the_gateway_understands_what_the_mock_says(kind: Any) -> None:
    backend = backends.translator(BackendConfig(name="mock", kind=kind, url="http://127.0.0.1:1"), 1 << 20)
    call = door.read_call("chat", speech.body(stream=True))
    _, answer = backend.prepare(call, speech.BACKEND_MODEL[kind], {})
    out = b"".join(answer.feed(event) for event in events(kind)) + answer.finish()
    assert [int(stamp) for stamp in speech.STAMP.findall(out)] == list(STAMPS)
    assert answer.usage.completion == speech.TOKENS


class Written:
    """A transport that keeps what is written, for a protocol without a socket."""

    def __init__(self) -> None:
        self.data = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.data += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Unpaced:
    """Where streams would be queued; none is asked for here."""

    def start(self, connection: mock.Mock, speech: speech.Speech, pace: float) -> None:
        raise AssertionError("nobody asked for a stream")


CHAT = speech.body()
REQUESTS = b"".join([
    raw.request("POST", "/v1/chat/completions", CHAT),
    raw.request("GET", "/v1/models"),
    raw.request("POST", "/api/chat", None, {"Transfer-Encoding": "chunked"})
    + raw.chunked(CHAT[:500], CHAT[500:]),
    raw.request("POST", "/v1/messages", speech.body("anthropic")),
    raw.request("POST", "/elsewhere", b"{}"),
    raw.request("GET", "/api/tags", headers={"Connection": "close"}),
])  # fmt: skip
ANSWERS = b"".join([
    speech.SPEECH["openai"].answer,
    speech.SPEECH["openai"].listing,
    speech.SPEECH["ollama"].answer,
    speech.SPEECH["anthropic"].answer,
    mock.NOT_FOUND,
    speech.SPEECH["ollama"].listing,
])  # fmt: skip


@given(st.lists(st.integers(0, len(REQUESTS))))
def test_the_mock_reads_requests_however_they_are_cut(cuts: list[int]) -> None:
    written: Any = Written()
    pacer: Any = Unpaced()
    connection = mock.Mock(pacer)
    connection.connection_made(written)
    for start, end in pairwise([0, *sorted(cuts), len(REQUESTS)]):
        connection.data_received(REQUESTS[start:end])
    assert written.data == ANSWERS
    assert written.closed


def test_the_mock_streams() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench.mock"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        address = process.stdout.readline().strip()
        answer = raw.ask(address, "POST", "/v1/chat/completions", json.loads(speech.body(stream=True)))
        process.stdin.close()
    assert answer.complete and answer.events[-1] == "[DONE]"
    stamps = [int(stamp) for stamp in speech.STAMP.findall(answer.body)]
    assert len(stamps) == speech.TOKENS and stamps == sorted(stamps)
