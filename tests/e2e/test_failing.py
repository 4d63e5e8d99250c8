"""Backends that fail, before and after the first content has gone to the client (correctness.md §2).

The rule: a complete answer whenever some target can give one, else an honest error; a truncated answer is
never presented as whole.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.e2e.conftest import KINDS, Fakes
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer, request

WHOLE = "".join(TEXT)
EVERY = ["m", *KINDS]

EITHER_WAY: dict[str, dict[str, Any]] = {
    "reset": {"reset": True},
    "closed": {"close": True},
    "500": {"status": 500},
    "503": {"status": 503},
    "429": {"status": 429, "headers": {"Retry-After": "30"}},
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "plain text 500": {"status": 500, "body": "Internal Server Error", "content_type": "text/plain"},
    "redirect": {"status": 302, "body": "", "headers": {"Location": "http://127.0.0.1:1/"}},
    "html": {"body": "<html>Welcome</html>", "content_type": "text/html"},
    "empty": {"body": ""},
    "not json": {"body": "{oops"},
    "cut in the body": {"cut_after_bytes": 5},
    "reset in the body": {"cut_after_bytes": 5, "fault": "rst"},
}
STREAMED: dict[str, dict[str, Any]] = {
    "cut before the first token": {"fault": "fin"},
    "reset before the first token": {"fault": "rst"},
    "bad chunk": {"fault": "bad_chunk"},
    "bad event": {"fault": "bad_event"},
    "bad json": {"fault": "bad_json"},
    "error as first event": {"fault": "error"},
    "ends after the role": {"fault": "end"},
    "json instead of a stream": {"body": '{"choices":[]}'},
}
SLOW = {"no head": {"hang": True}, "late head": {"gate": "never"}, "no token": {"fault": "stall"}}


def content(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.events[-1] == "[DONE]" and answer.complete
        return answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", EITHER_WAY)
def test_before_the_first_byte_the_next_target_answers(
    gateway: Gateway, fakes: Fakes, fault: str, stream: bool
) -> None:
    fakes.primary.script({**EITHER_WAY[fault], "times": None})
    assert content(gateway.chat("pair", stream=stream)) == WHOLE
    # A used connection that dies without a byte was stale: that does not count as an attempt.
    stale = fault in ("reset", "closed")
    assert len(fakes.primary.calls) in ((1, 2) if stale else (1,))
    assert len(fakes.second.calls) == 1


@pytest.mark.parametrize("fault", STREAMED)
def test_a_stream_that_fails_before_its_first_token_moves_on(
    gateway: Gateway, fakes: Fakes, fault: str
) -> None:
    fakes.primary.script(STREAMED[fault])
    answer = gateway.chat("pair", stream=True)
    assert content(answer) == WHOLE
    assert [chunk["choices"][0]["delta"].get("role") for chunk in answer.chunks].count("assistant") == 1
    assert (len(fakes.primary.calls), len(fakes.second.calls)) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_refused_connections_move_on(gateway: Gateway, fakes: Fakes, stream: bool) -> None:
    fakes.primary.listen(False)
    assert content(gateway.chat("pair", stream=stream)) == WHOLE
    assert len(fakes.second.calls) == 1


@pytest.mark.parametrize("fault", SLOW)
def test_a_stream_over_its_time_limit_moves_on(gateway: Gateway, fakes: Fakes, fault: str) -> None:
    fakes.primary.script(SLOW[fault])
    assert content(gateway.chat("hasty-pair", stream=True)) == WHOLE
    assert fakes.primary.ended().outcome == "gone", "the late one was let go"


def test_a_whole_answer_over_its_time_limit_moves_on(gateway: Gateway, fakes: Fakes) -> None:
    """Its head comes when all of it is computed, so before the head only the total limit counts."""
    fakes.primary.script({"hang": True}, {"cut_after_bytes": 9, "fault": "stall"})
    assert content(gateway.chat("brief-pair")) == WHOLE
    assert content(gateway.chat("hasty-pair")) == WHOLE
    assert [fakes.primary.ended(number).outcome for number in (0, 1)] == ["gone", "gone"]


def test_a_failed_attempt_is_closed_upstream(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "bad_chunk"})
    assert content(gateway.chat("pair", stream=True)) == WHOLE
    assert fakes.primary.ended().outcome == "gone"


# --- after the first content

AFTER: dict[str, dict[str, Any]] = {
    "fin": {"fault": "fin"},
    "rst": {"fault": "rst"},
    "ends without a finish": {"fault": "end"},
    "bad chunk": {"fault": "bad_chunk"},
    "bad json": {"fault": "bad_json"},
    "bad event": {"fault": "bad_event"},
    "error object": {"fault": "error", "message": "the GPU fell off"},
}


def assert_broken(answer: Answer, text: str) -> dict[str, Any]:
    """The text so far, an error event, the end: no finish reason, no terminator. Returns the error object."""
    assert answer.status == 200
    assert answer.text == text
    assert "[DONE]" not in answer.events
    assert not [c for chunk in answer.chunks for c in chunk.get("choices", []) if c.get("finish_reason")]
    error = answer.chunks[-1]["error"]
    assert set(error) >= {"message", "type", "code"} and error["message"]
    return dict(error)


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize("fault", AFTER)
def test_after_the_first_token_an_error_event_ends_the_stream(
    gateway: Gateway, fakes: Fakes, fault: str, model: str
) -> None:
    fake: Fake = fakes.primary if model == "m" else getattr(fakes, model)
    if model == "transformers" and fault == "error object":
        pytest.skip("transformers serve has no error form inside a stream")
    fake.script({**AFTER[fault], "at": 3, "fault_gate": "seen"})
    with gateway.open() as raw:
        raw.send(_chat(model))
        raw.read_until(TEXT[2].encode())
        fake.release("seen")
        error = assert_broken(raw.answer(), "".join(TEXT[:3]))
        assert raw.at_end(), "the connection is closed after it"
    if fault == "error object":
        assert "the GPU fell off" in error["message"]
    assert len(fake.calls) == 1, "what was delivered is not asked for again"


def test_after_the_first_token_no_other_target_is_asked(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "fin", "at": 1, "fault_gate": "seen"})
    with gateway.open() as raw:
        raw.send(_chat("pair"))
        raw.read_until(TEXT[0].encode())
        fakes.primary.release("seen")
        assert_broken(raw.answer(), TEXT[0])
    assert not fakes.second.calls


def test_a_fault_in_the_same_read_as_the_first_token_is_still_before_it(
    gateway: Gateway, fakes: Fakes
) -> None:
    """Nothing has gone to the client yet, so it gets a whole answer after all."""
    body = 'data: {"id":"x","choices":[{"index":0,"delta":{"content":"half"}}]}\n\ndata: <p>oops</p>\n\n'
    fakes.primary.script({"body": body, "content_type": "text/event-stream", "together": True})
    assert content(gateway.chat("pair", stream=True)) == WHOLE


def test_a_stall_after_tokens_is_broken_at_the_idle_limit(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "stall", "at": 2})
    error = assert_broken(gateway.chat("hasty", stream=True), "".join(TEXT[:2]))
    assert error["code"] == "upstream_timeout"
    assert fakes.primary.ended().outcome == "gone"


def test_a_slow_stream_outlives_the_limits_meant_for_its_start(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        {"tokens": 5, "token_delay": 0.15}
    )  # longer than head, first_token and idle together
    assert content(gateway.chat("hasty", stream=True)) == " tok0 tok1 tok2 tok3 tok4"


def test_a_broken_tool_call_is_never_finished(gateway: Gateway, fakes: Fakes) -> None:
    calls = [{"name": "f", "arguments": '{"a": "0123456789"}'}]
    fakes.primary.script({"tool_calls": calls, "fault": "fin", "at": 2, "fault_gate": "seen"})
    with gateway.open() as raw:
        raw.send(_chat("m"))
        raw.read_until(b'"name":"f"')
        fakes.primary.release("seen")
        assert_broken(raw.answer(), "")


@pytest.mark.parametrize("model", ["m", "vllm", "llamacpp", "lmstudio"])
def test_a_missing_terminator_after_the_finish_is_supplied(
    gateway: Gateway, fakes: Fakes, model: str
) -> None:
    fake: Fake = fakes.primary if model == "m" else getattr(fakes, model)
    fake.script({"done": False})
    assert content(gateway.chat(model, stream=True)) == WHOLE


def test_transformers_never_sends_a_terminator_and_its_clients_get_one(gateway: Gateway) -> None:
    assert content(gateway.chat("transformers", stream=True)) == WHOLE


def test_ollama_without_its_last_line_is_a_cut(gateway: Gateway, fakes: Fakes) -> None:
    fakes.ollama.script({"done": False})
    assert_broken(gateway.chat("ollama", stream=True), WHOLE)


def test_a_stream_without_done_and_finish_is_a_cut(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"done": False, "finish": None})
    assert_broken(gateway.chat("m", stream=True), WHOLE)


# --- the same target again


@pytest.mark.parametrize("fault", ["reset", "closed", "500", "503", "cut in the body"])
def test_an_only_target_is_tried_again(gateway: Gateway, fakes: Fakes, fault: str) -> None:
    fakes.primary.script(EITHER_WAY[fault])
    assert content(gateway.chat("m")) == WHOLE
    assert len(fakes.primary.calls) == 2


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_is_honoured(gateway: Gateway, fakes: Fakes, date: bool) -> None:
    when = formatdate(time.time() + 2, usegmt=True) if date else "1"
    fakes.primary.script({"status": 429, "headers": {"Retry-After": when}})
    assert content(gateway.chat("m")) == WHOLE
    first, second = fakes.primary.calls
    # A date has whole seconds, so two from now may be little more than one.
    assert second.received - first.received >= 0.95


def test_a_long_retry_after_is_told_and_not_waited_for(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 429, "headers": {"Retry-After": "90"}})
    answer = gateway.chat("m")
    assert answer.status == 429
    assert answer.error["code"] == "rate_limit_exceeded"
    assert 85 <= float(answer.headers["retry-after"]) <= 90
    assert len(fakes.primary.calls) == 1


def test_attempts_are_bounded_and_the_client_told_not_to_multiply_them(
    gateway: Gateway, fakes: Fakes
) -> None:
    fakes.primary.script({"status": 500, "times": None, "message": "out of memory"})
    fakes.second.script({"status": 500, "times": None})
    answer = gateway.chat("pair")
    assert answer.status == 502
    assert answer.headers["x-should-retry"] == "false"
    assert answer.error["type"]
    assert len(fakes.primary.calls) + len(fakes.second.calls) == 3


def test_when_all_refuse_the_shortest_wait_is_told(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 429, "headers": {"Retry-After": "50"}, "times": None})
    fakes.second.script({"status": 429, "headers": {"Retry-After": "20"}, "times": None})
    answer = gateway.chat("pair")
    assert answer.status == 429
    assert 15 <= float(answer.headers["retry-after"]) <= 20


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", EVERY)
def test_a_fault_of_the_request_is_passed_on_and_not_retried(
    gateway: Gateway, fakes: Fakes, model: str, stream: bool
) -> None:
    fake: Fake = fakes.primary if model == "m" else getattr(fakes, model)
    fake.script({"status": 400, "message": "temperature must be below 3"})
    answer = gateway.chat(model, stream=stream)
    assert answer.status == 400
    assert "temperature must be below 3" in answer.error["message"]
    assert len(fake.calls) == 1


def test_no_other_target_is_asked_after_a_400(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 400})
    assert gateway.chat("pair").status == 400
    assert not fakes.second.calls


TOO_LONG: dict[str, dict[str, Any]] = {
    "m": {"code": "context_length_exceeded", "message": "This model's maximum context length is 10 tokens."},
    "vllm": {"message": "This model's maximum context length is 2048 tokens. However, you requested 9000"},
    "llamacpp": {
        "body": '{"error":{"code":400,"message":"the request exceeds the available context size, try'
                ' increasing it","type":"exceed_context_size_error","n_prompt_tokens":90,"n_ctx":64}}'
    },
}  # fmt: skip


@pytest.mark.parametrize("model", TOO_LONG)
def test_a_prompt_too_long_has_openais_code(gateway: Gateway, fakes: Fakes, model: str) -> None:
    fake: Fake = fakes.primary if model == "m" else getattr(fakes, model)
    fake.script({"status": 400, **TOO_LONG[model]})
    answer = gateway.chat(model)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert len(fake.calls) == 1


def test_the_limit_that_fired_is_named(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"hang": True}, {"fault": "stall"})
    answer = gateway.chat("hasty", stream=True)
    assert (answer.status, answer.error["code"]) == (504, "upstream_timeout")
    assert "head" in answer.error["message"]
    answer = gateway.chat("hasty-pair", stream=True)
    assert content(answer) == WHOLE
    [first, second] = gateway.record(answer.headers["x-request-id"])["tried"]
    assert first["outcome"] == "upstream_timeout" and "first token" in first["error"]
    assert second["outcome"] == "ok"


def test_the_last_target_may_take_its_time(gateway: Gateway, fakes: Fakes) -> None:
    """A late answer beats an error: the limit is for those that have somewhere else to go."""
    fakes.primary.script({"gate": None, "fault": "wait", "fault_gate": "go", "at": 0})
    with gateway.open() as raw:
        raw.send(_chat("hasty", stream=True))
        fakes.primary.call()
        time.sleep(0.8)  # twice the limit
        fakes.primary.release("go")
        answer = raw.answer()
    assert content(answer) == WHOLE


def test_a_backend_that_is_down_is_a_clear_error(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.listen(False)
    answer = gateway.chat("m")
    assert answer.status in (502, 503)
    assert "primary" in answer.error["message"]
    fakes.primary.listen(True)
    assert content(gateway.chat("m")) == WHOLE


def test_a_refusal_by_content_filter_reaches_the_client(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script(
        {"finish": "content_filter", "tokens": ["No"]}, {"finish": "content_filter", "tokens": ["No"]}
    )
    assert gateway.chat("m").json()["choices"][0]["finish_reason"] == "content_filter"
    assert gateway.chat("m", stream=True).chunks[-1]["choices"][0]["finish_reason"] == "content_filter"


# --- odd and hostile answers


def test_interim_answers_are_skipped(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"interim": [100, 102, 103]})
    with gateway.open() as raw:
        raw.send(_chat("m", stream=False))
        answer = raw.answer()
    assert (answer.status, answer.interim) == (200, [])


def test_bytes_after_an_answer_do_not_reach_the_next_client(gateway: Gateway, fakes: Fakes) -> None:
    smuggled = 'HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: application/json\r\n\r\n{"a":1}'
    fakes.primary.script({"extra": smuggled}, {"extra": smuggled, "together": True})
    for _ in range(4):
        assert content(gateway.chat("m")) == WHOLE


def test_a_drip_is_put_together(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"drip": 1}, {"drip": 1})
    assert content(gateway.chat("m")) == WHOLE
    assert content(gateway.chat("m", stream=True)) == WHOLE


def _chat(model: str, *, stream: bool = True) -> bytes:
    body = b'{"model":"%b","messages":[{"role":"user","content":"Hi"}],"stream":%b}'
    return request("POST", "/v1/chat/completions", body % (model.encode(), b"true" if stream else b"false"))
