"""Every limit, hit: a clear error, and a gateway that still serves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Fakes
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer, Raw, chunked, request

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'

LIMITS = {"head_bytes": 4096, "header_count": 20, "target_bytes": 256, "body_bytes": 20_000,
          "connections": 8, "event_bytes": 4000, "answer_bytes": 300_000, "pipeline_bytes": 4096}  # fmt: skip
TIMEOUTS = {"header": 0.4, "idle": 0.8, "body": 0.4, "write": 0.6}


@pytest.fixture(scope="module")
def started_tight(started: Fakes) -> Iterator[Gateway]:
    backend = {"name": "primary", "kind": "openai", "url": started.primary.url}
    settings = {
        "server": {"limits": LIMITS, "timeouts": TIMEOUTS},
        "routing": {"attempts": 1},
        "backends": [backend, {"name": "ollama", "kind": "ollama", "url": started.ollama.url}],
        "models": [
            {"name": "m", "targets": [{"backend": "primary"}]},
            {"name": "ollama", "targets": [{"backend": "ollama"}]},
        ],
    }
    with Gateway(settings) as gateway:
        yield gateway


@pytest.fixture
def tight(started_tight: Gateway, fakes: Fakes) -> Iterator[Gateway]:
    yield started_tight
    until(lambda: started_tight.chat("m").status == 200, "the gateway still serves")


def refused(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.complete
    return answer.error


def test_a_head_too_large(tight: Gateway) -> None:
    for field in ("x" * 5000, "x" * 100_000):
        with tight.open() as raw:
            answer = raw.ask(request("GET", "/health", headers={"X-Large": field}), "GET")
            assert "4096" in refused(answer, 431)["message"]
            assert answer.headers["connection"] == "close"
            assert not raw.rest()


def test_a_head_without_end(tight: Gateway) -> None:
    with tight.open() as raw:
        raw.send(b"GET /health HTTP/1.1\r\nX: " + b"x" * 8192)
        refused(raw.answer("GET"), 431)


def test_too_many_header_fields(tight: Gateway) -> None:
    many = {f"X-{number}": "1" for number in range(25)}
    assert "20" in refused(tight.ask("GET", "/health", None, many), 431)["message"]


def test_a_target_too_long(tight: Gateway) -> None:
    assert "256" in refused(tight.ask("GET", "/v1/models/" + "x" * 300), 414)["message"]


def test_a_body_too_large_by_its_length(tight: Gateway, fakes: Fakes) -> None:
    with tight.open() as raw:
        raw.send(
            request("POST", CHAT, headers={"Content-Length": "20001", "Content-Type": "application/json"})
        )
        assert "20000" in refused(raw.answer(), 413)["message"]
    assert not fakes.primary.calls


def test_the_whole_error_arrives_although_the_client_is_still_sending(tight: Gateway) -> None:
    """Closing with unread bytes in the socket resets the connection, and takes the error with it."""
    with tight.open() as raw:
        answer = raw.ask(request("POST", CHAT, b"x" * 300_000))
        refused(answer, 413)


def test_a_chunked_body_too_large(tight: Gateway) -> None:
    head = request("POST", CHAT, headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
    with tight.open() as raw:
        raw.send(head + chunked(*[b"x" * 5000] * 5)[:-5])
        refused(raw.answer(), 413)


def test_a_body_of_exactly_the_limit(tight: Gateway) -> None:
    padded = BODY[:-1] + b" " * (20_000 - len(BODY)) + b"}"
    assert len(padded) == 20_000
    assert tight.ask("POST", CHAT, padded).status == 200


def test_a_head_that_does_not_arrive(tight: Gateway) -> None:
    with tight.open() as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHos")
        answer = raw.answer("GET")
        refused(answer, 408)
        assert not raw.rest()


def test_a_head_that_drips_is_cut_all_the_same(tight: Gateway) -> None:
    """A byte now and then does not renew the limit (slowloris)."""
    data = request("GET", "/health", headers={"X-Slow": "x" * 500})
    with tight.open() as raw:
        raw.socket.settimeout(0.05)
        answered = b""
        for byte in data:
            try:
                raw.send(bytes([byte]))
                answered = raw.socket.recv(100)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        assert byte != data[-1] or answered, "it was cut before its end"
        assert b"408" in answered


def test_an_idle_connection_is_closed_without_a_word(tight: Gateway) -> None:
    with tight.open() as raw:
        assert raw.ask(request("GET", "/health"), "GET").status == 200
        assert raw.at_end()
    with tight.open() as raw:
        assert raw.at_end(), "also if it never asked"


def test_a_body_that_stalls(tight: Gateway, fakes: Fakes) -> None:
    with tight.open() as raw:
        raw.send(request("POST", CHAT, BODY)[:-10])
        refused(raw.answer(), 408)
    head = request("POST", CHAT, headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
    with tight.open() as raw:
        raw.send(head + b"5\r\nhe")
        refused(raw.answer(), 408)
    assert not fakes.primary.calls


def test_a_client_that_reads_nothing_is_cut_and_its_upstream_closed(tight: Gateway, fakes: Fakes) -> None:
    """Its backend is paused first: it cannot send more than what the sockets between them hold."""
    fakes.primary.script({"tokens": ["x" * 3000] * 5_000})
    with tight.open(receive_buffer=4096) as raw:
        raw.send(request("POST", CHAT, STREAM))
        seen = fakes.primary.ended()
        assert seen.outcome == "gone"
        assert seen.bytes_sent < 20_000_000
        assert seen.blocked


def test_a_slow_reader_pauses_its_own_upstream_and_nobody_elses(gateway: Gateway, fakes: Fakes) -> None:
    """With the default limits a client may take its time; then it gets everything."""
    fakes.primary.script({"tokens": ["x" * 3000] * 4000})
    with gateway.open(receive_buffer=4096) as raw:
        raw.send(request("POST", CHAT, STREAM))
        until(lambda: fakes.primary.call().blocked, "the backend is told to wait")
        assert gateway.chat("m", stream=True).text == "".join(TEXT)
        answer = raw.answer()
    assert answer.complete and answer.text == "x" * 12_000_000
    assert fakes.primary.ended().outcome == "answered"


def test_too_many_connections(tight: Gateway) -> None:
    opened = [tight.open() for _ in range(8)]
    try:
        for raw in opened:
            assert raw.ask(request("GET", "/health"), "GET").status == 200
        with tight.open() as late:
            answer = late.answer()
            assert "8" in refused(answer, 503)["message"]
            assert answer.headers["retry-after"]
        assert opened[0].ask(request("GET", "/health"), "GET").status == 200, "those inside are served"
    finally:
        for raw in opened:
            raw.close()


def test_pipelining_without_end_is_held_back(tight: Gateway, fakes: Fakes) -> None:
    """While the first is answered, no more than pipeline_bytes is read ahead; then all get their answers."""
    fakes.primary.script({"gate": "go"})
    count = 400
    with tight.open() as raw:
        raw.send(request("POST", CHAT, BODY))
        fakes.primary.call()
        raw.send(request("GET", "/health", headers={"X-Pad": "x" * 200}) * count)
        fakes.primary.release("go")
        assert raw.answer().status == 200
        for _ in range(count):
            assert raw.answer("GET").status == 200


# --- what backends may send


@pytest.mark.parametrize("model", ["m", "ollama"])
def test_an_event_too_large_ends_the_stream(tight: Gateway, fakes: Fakes, model: str) -> None:
    """Far too large, as the limit bounds memory: one that comes whole in a single read costs none."""
    fake = fakes.primary if model == "m" else fakes.ollama
    fake.script({"fault": "oversized", "size": 2_000_000})
    refused(tight.chat(model, stream=True), 502)
    fake.script({"fault": "oversized", "size": 2_000_000, "at": 2, "fault_gate": "seen"})
    with tight.open() as raw:
        raw.send(request("POST", CHAT, STREAM.replace(b'"m"', b'"%b"' % model.encode())))
        raw.read_until(b'"' + TEXT[1].encode() + b'"}')  # not the comma between two members
        fake.release("seen")
        answer = raw.answer()
    assert answer.text == "".join(TEXT[:2])
    assert "error" in answer.chunks[-1] and "[DONE]" not in answer.events


@pytest.mark.parametrize("form", [{}, {"framing": "close"}, {"whole_chunked": True}])
def test_an_answer_too_large(tight: Gateway, fakes: Fakes, form: dict[str, Any]) -> None:
    fakes.primary.script({"tokens": ["x" * 1_000_000], **form})
    assert "300000" in refused(tight.chat("m"), 502)["message"]


def test_an_endless_head_from_the_backend(tight: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"headers": {"X-Endless": "x" * 200_000}})
    refused(tight.chat("m"), 502)


def test_an_endless_error_body(tight: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "body": "x" * 1_000_000})
    answer = tight.chat("m")
    refused(answer, 502)
    assert len(answer.body) < 5000


def test_time_passes_only_where_it_should(tight: Gateway, fakes: Fakes) -> None:
    """Waiting for a backend is not idling: a client may wait longer than all the client-side limits."""
    fakes.primary.script({"delay": 1.2}, {"tokens": 4, "token_delay": 0.4})
    with Raw(tight.address) as raw:
        began = time.monotonic()
        assert raw.ask(request("POST", CHAT, BODY)).status == 200
        assert raw.ask(request("POST", CHAT, STREAM)).text == " tok0 tok1 tok2 tok3"
        assert time.monotonic() - began > max(TIMEOUTS.values())
