"""Same dialect on both sides: the bytes go through as they are, both ways (correctness.md E5, U1, U2)."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.conftest import Fakes
from tests.fakes.behaviour import TEXT
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Raw, request

pytestmark = pytest.mark.smoke

ODD = (
    b'{ "zzz_unknown" : {"a":[1,2.50,1e3]},\n\t"model":"m", "messages" : [ {"role":"user","content":"\\u00fc'
    b' \xc3\xbc \\ud83d\\ude42","name":"x" } ] , "temperature":0.10,"stream" :false,'
    b' "big":12345678901234567890 }'
)
"""Spaces, escapes, number forms, an unknown member, one beyond 64 bits: what a rebuilt body would lose."""


def test_the_request_body_is_byte_exact(gateway: Gateway, fakes: Fakes) -> None:
    assert gateway.ask("POST", "/v1/chat/completions", ODD).status == 200
    assert fakes.primary.call().body == ODD


def test_the_model_name_is_spliced_in_place(gateway: Gateway, fakes: Fakes) -> None:
    body = ODD.replace(b'"model":"m"', b'"model" :  "renamed"')
    assert gateway.ask("POST", "/v1/chat/completions", body).status == 200
    assert fakes.primary.call().body == ODD.replace(b'"model":"m"', b'"model" :  "upstream-name"')


def test_an_alias_reaches_the_backend_as_the_name(gateway: Gateway, fakes: Fakes) -> None:
    body = b'{"messages":[{"role":"user","content":"\\"model\\":\\"also-m\\""}],"model":"also-m"}'
    assert gateway.ask("POST", "/v1/chat/completions", body).status == 200
    assert fakes.primary.call().body == body[:-8] + b'm"}'


def test_defaults_and_forced_parameters(gateway: Gateway, fakes: Fakes) -> None:
    hello = [{"role": "user", "content": "Hi"}]
    gateway.ask("POST", "/v1/chat/completions", {"model": "tuned", "messages": hello})
    gateway.ask(
        "POST", "/v1/chat/completions", {"model": "tuned", "messages": hello, "temperature": 1, "seed": 1}
    )
    sent = [call.json() for call in fakes.primary.calls]
    assert [(body["temperature"], body["seed"]) for body in sent] == [(0.5, 7), (1, 7)]


@pytest.mark.parametrize("body", [
    '{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    '{"role":"assistant","content":"a","novel":{"b":[1.50]}},"finish_reason":"stop","extra":null}],'
    '"usage":{"prompt_tokens":1,"completion_tokens":0,"total_tokens":1},"kv_transfer_params":null}',
    '{\n  "choices" : [ {"message":{"content":"\\u00fc","role":"assistant"},"finish_reason":"stop"'
    ',"index":0} ] }\n',
])  # fmt: skip
def test_the_whole_answer_is_byte_exact(gateway: Gateway, fakes: Fakes, body: str) -> None:
    for framing in ({}, {"framing": "close"}, {"whole_chunked": True, "drip": 7}):
        fakes.primary.script({"body": body, **framing})
        answer = gateway.chat("m")
        assert (answer.status, answer.body.decode()) == (200, body)
        assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("form", [
    {}, {"newline": "\r\n"}, {"comment": True}, {"framing": "close"}, {"together": True}, {"drip": 1},
    {"drip": 3, "newline": "\r\n"}, {"extra_members": {"novel": {"a": 1.50}}}, {"reasoning": "hm, ü"},
])  # fmt: skip
def test_the_stream_is_byte_exact(gateway: Gateway, fakes: Fakes, form: dict[str, object]) -> None:
    """However the backend cuts its writes; the same request made directly is the measure."""
    body = (
        b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )
    fakes.primary.script({"usage": "always", **form}, {"usage": "always", **form})
    through = gateway.ask("POST", "/v1/chat/completions", body)
    assert fakes.primary.call().body == body
    sent = b"".join(_direct(fakes, body))
    renamed = sent.replace(b'"reasoning":', b'"reasoning_content":')  # the one name for it here
    assert _same_id(through.body) == _same_id(renamed)
    assert through.complete and through.text == "".join(TEXT)
    assert through.events[-1] == "[DONE]"


def _direct(fakes: Fakes, body: bytes) -> list[bytes]:
    with Raw(fakes.primary.address) as raw:
        return [raw.ask(request("POST", "/v1/chat/completions", body)).body]


def _same_id(body: bytes) -> bytes:
    """Ids count the requests that the fake has had, the gateway's own for the list of models among them."""
    return re.sub(rb"chatcmpl-[0-9]{8}", b"chatcmpl-00000000", body)


def test_stream_headers(gateway: Gateway) -> None:
    answer = gateway.chat("m", stream=True)
    headers = answer.headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["transfer-encoding"] == "chunked" and "content-length" not in headers
    assert "no-cache" in headers["cache-control"]
    assert headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize("model", ["m", "vllm", "llamacpp", "transformers", "ollama"])
def test_usage_that_was_not_asked_for_is_withheld(gateway: Gateway, fakes: Fakes, model: str) -> None:
    answer = gateway.chat(model, stream=True)
    assert answer.text == "".join(TEXT) and answer.events[-1] == "[DONE]"
    assert not [chunk for chunk in answer.chunks if chunk.get("usage")]
    assert not [chunk for chunk in answer.chunks if not chunk["choices"]]
    record = gateway.record(answer.headers["x-request-id"])
    assert 11 in record.values() and len(TEXT) in record.values(), "yet the gateway knows it"


def test_usage_is_injected_without_losing_other_options(gateway: Gateway, fakes: Fakes) -> None:
    gateway.chat("m", stream=True, stream_options={"include_obfuscation": False})
    gateway.chat("m", stream=True, stream_options=None)
    gateway.chat("m", stream=True, stream_options={"include_usage": False})
    sent = [call.json()["stream_options"] for call in fakes.primary.calls]
    assert sent == [
        {"include_obfuscation": False, "include_usage": True},
        {"include_usage": True},
        {"include_usage": True},
    ]


@pytest.mark.parametrize("usage", ["always", "in_choices"])
def test_usage_in_any_place_is_counted(gateway: Gateway, fakes: Fakes, usage: str) -> None:
    fakes.primary.script({"usage": usage}, {"usage": usage})
    asked = gateway.chat("m", stream=True, stream_options={"include_usage": True})
    counts = [chunk["usage"] for chunk in asked.chunks if chunk.get("usage")]
    assert [(c["prompt_tokens"], c["completion_tokens"]) for c in counts] == [(11, len(TEXT))]
    unasked = gateway.chat("m", stream=True)
    assert [c["choices"][0]["finish_reason"] for c in unasked.chunks][-1] == "stop"
    assert unasked.text == "".join(TEXT)


def test_zero_stays_zero(gateway: Gateway, fakes: Fakes) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3}
    body = {"choices": [choice], "usage": usage}
    fakes.primary.script({"body": json.dumps(body)})
    assert gateway.chat("m").json()["usage"]["completion_tokens"] == 0


def test_bytes_after_done_are_dropped(gateway: Gateway, fakes: Fakes) -> None:
    tail = 'data: {"choices":[{"index":0,"delta":{"content":"more"}}]}\n\n'
    first = 'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    fakes.primary.script({"body": first + "data: [DONE]\n\n" + tail, "content_type": "text/event-stream"})
    answer = gateway.chat("m", stream=True)
    assert answer.text == "a"
    assert answer.events[-1] == "[DONE]" and answer.events.count("[DONE]") == 1


def test_a_character_split_between_reads_arrives_whole(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"drip": 2, "drip_delay": 0.0001, "tokens": ["ü🙂", "é"]})
    assert gateway.chat("m", stream=True).text == "ü🙂é"


def test_an_event_above_64_kib_passes_whole(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "oversized", "size": 300_000, "at": 1})
    answer = gateway.chat("m", stream=True)
    assert answer.text == TEXT[0] + "x" * 300_000 + "".join(TEXT[1:])
