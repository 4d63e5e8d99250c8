"""What the header fields of an answer say of its way here."""

import pytest

from ghostllm.gateway.hints import hints
from ghostllm.message import Attempt, Exchange, Request
from ghostllm.wire.h1_response import read_response


def exchange(*attempts, **more):
    made = Exchange(Request("POST", "/v1/chat/completions", {}), "r1", 100.0)
    made.attempts = list(attempts)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def read(lines):
    return read_response(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n" + lines + b"\r\n", "POST").headers


def attempt(backend="b", started=100.0, why="smart: wait 0.00s", **more):
    return Attempt(backend, "m", started, why, **more)


def test_before_any_attempt_there_is_nothing_to_say():
    assert hints(exchange()) == b""


def test_who_answered_and_why_and_what_the_gateway_took():
    told = read(hints(exchange(attempt(started=100.0015))))
    assert told == {
        b"content-length": b"0",
        b"x-ghostllm-backend": b"b",
        b"x-ghostllm-attempts": b"1",
        b"x-ghostllm-reason": b"smart: wait 0.00s",
        b"x-ghostllm-overhead-ms": b"1.50",
    }


def test_waits_and_failed_attempts_are_not_the_gateway_s_own():
    ways = attempt("a", 102.001, ended=107.001), attempt("c", 107.002)
    told = read(hints(exchange(*ways, queued=2.0, arm="new")))
    assert told[b"x-ghostllm-backend"] == b"c" and told[b"x-ghostllm-attempts"] == b"2"
    assert told[b"x-ghostllm-queue-ms"] == b"2000" and told[b"x-ghostllm-arm"] == b"new"
    assert told[b"x-ghostllm-overhead-ms"] == b"2.00"


def test_time_is_never_negative_and_an_attempt_without_an_end_took_none():
    told = read(hints(exchange(attempt(started=100.0), attempt(started=100.5), queued=9.0)))
    assert told[b"x-ghostllm-overhead-ms"] == b"0.00"


@pytest.mark.parametrize("name", ["größe", "模型", "m\ud800", 'a:b,c;d="e"', "\u0085"])
def test_any_name_of_a_model_makes_a_field_that_is_sound(name):
    told = read(hints(exchange(attempt(why=f"arm {name}"), arm=name)))
    assert told[b"x-ghostllm-arm"].decode("ascii").isprintable()
    assert told[b"x-ghostllm-reason"].startswith(b"arm ")
