"""What is no sound request, at each door: an error in that door's shape, logged once, no backend asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.matrix_doors import DOORS, Ask, request
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer

MESSAGES = {"openai": "messages", "anthropic": "messages", "responses": "input", "ollama": "messages"}


def sound(door: str) -> dict[str, Any]:
    return request(door, "m", Ask())[1]


def without(door: str, member: str) -> dict[str, Any]:
    return {name: value for name, value in sound(door).items() if name != member}


def role(door: str, wanted: Any) -> dict[str, Any]:
    return {**sound(door), MESSAGES[door]: [{"role": wanted, "content": "Hi"}]}


def with_member(door: str, value: bytes) -> bytes:
    return json.dumps(sound(door)).encode()[:-1] + b',"x":' + value + b"}"


BAD = {
    "empty": lambda door: b"",
    "cut": lambda door: json.dumps(sound(door)).encode()[:-1],
    "not UTF-8": lambda door: json.dumps({**sound(door), "x": "~"}).encode().replace(b"~", b"\xff"),
    "an array": lambda door: b"[]",
    "NaN": lambda door: json.dumps(sound(door)).encode()[:-1] + b',"temperature":NaN}',
    "no model": lambda door: without(door, "model"),
    "a number as model": lambda door: {**sound(door), "model": 7},
    "two models": lambda door: json.dumps(sound(door)).encode()[:-1] + b',"model":"other"}',
    "no messages": lambda door: (
        without(door, MESSAGES[door]) if door != "ollama" else {**sound(door), "messages": 7}
    ),
    "messages as a number": lambda door: {**sound(door), MESSAGES[door]: 7},
    "a message as a number": lambda door: {**sound(door), MESSAGES[door]: [7]},
    "stream as text": lambda door: {**sound(door), "stream": "yes"},
    "nested deeply": lambda door: with_member(door, b"[" * 20000 + b"]" * 20000),
    "nested too deeply for what comes after": lambda door: with_member(door, b"[" * 128 + b"]" * 128),
    "nested objects": lambda door: with_member(door, b'{"x":' * 128 + b"1" + b"}" * 128),
    "nothing but brackets": lambda door: b"[" * 100_000,
    "brackets without end": lambda door: json.dumps(sound(door)).encode()[:-1] + b',"x":' + b"[{" * 50_000,
    "an endless number": lambda door: with_member(door, b"9" * 5000),
    "as good as infinite": lambda door: with_member(door, b"1e999"),
    "half of a surrogate pair": lambda door: with_member(door, b'"\\ud83d"'),
    "the other half": lambda door: with_member(door, b'["\\uDE42\\ud83d"]'),
    "a surrogate in UTF-8": lambda door: with_member(door, b'"\xed\xa0\xbd"'),
    "an overlong NUL": lambda door: with_member(door, b'"\xc0\x80"'),
    "a bare NUL": lambda door: with_member(door, b'"\x00"'),
    "NUL behind": lambda door: json.dumps(sound(door)).encode() + b"\x00",
    "two bodies": lambda door: json.dumps(sound(door)).encode() * 2,
    "a byte order mark": lambda door: b"\xef\xbb\xbf" + json.dumps(sound(door)).encode(),
    "UTF-16": lambda door: json.dumps(sound(door)).encode("utf-16"),
    "a comment": lambda door: b"/**/" + json.dumps(sound(door)).encode(),
}


def told(door: str, answer: Answer) -> str:
    """The words of the error, in a body of the door's shape."""
    value = answer.json()
    if door == "ollama":
        assert set(value) == {"error"} and isinstance(value["error"], str)
        return str(value["error"])
    if door == "anthropic":
        assert value["type"] == "error" and value["error"]["type"] == "invalid_request_error"
        assert answer.headers["request-id"]
    else:
        assert set(value["error"]) == {"message", "type", "param", "code"}
    return str(value["error"]["message"])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", BAD)
def test_it_is_told_in_the_doors_words_and_logged_once(
    gateway: Gateway, fakes: Fakes, door: str, name: str
) -> None:
    body = BAD[name](door)
    answer = gateway.ask("POST", request(door, "m", Ask())[0], body)
    assert answer.status == 400 and told(door, answer), answer.body
    assert gateway.record(answer.headers["x-request-id"])["status"] == 400
    assert not fakes.primary.calls


@pytest.mark.parametrize("door", ["anthropic", "responses", "ollama"])
def test_an_unknown_role_is_refused_by_the_doors_that_translate(gateway: Gateway, door: str) -> None:
    answer = gateway.ask("POST", request(door, "m", Ask())[0], role(door, "wizard"))
    assert answer.status == 400 and "wizard" in told(door, answer)
    assert gateway.record(answer.headers["x-request-id"])["outcome"] == "error"


ODD = {
    "a surrogate pair": b'"\\ud83d\\ude42"',
    "an escaped NUL": b'"\\u0000"',
    "a member twice": b'1,"x":2',
    "a large number": b"1" + b"0" * 30,
    "as deep as may be": b"[" * 127 + b"]" * 127,
    "brackets in text": b'"' + b"[{" * 500 + b'"',
    "many brackets": b"[" + b"[],{}," * 500 + b"[]]",
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_and_sound_goes_through_as_it_is(gateway: Gateway, fakes: Fakes, name: str) -> None:
    body = with_member("openai", ODD[name])
    assert gateway.ask("POST", "/v1/chat/completions", body).status == 200
    assert fakes.primary.call().body == body


@pytest.mark.parametrize("door", ["anthropic", "responses", "ollama"])
@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_and_sound_is_no_failure_where_it_is_translated(
    gateway: Gateway, door: str, name: str
) -> None:
    answer = gateway.ask("POST", request(door, "m", Ask())[0], with_member(door, ODD[name]))
    assert answer.status == 200 or (answer.status == 400 and told(door, answer)), answer.body


@pytest.mark.parametrize("model", ["anthropic", "ollama"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"x":' * 200 + "1" + "}" * 200, '{"x":1e999}', '"\\ud800"', "7"]
)
def test_arguments_of_a_tool_call_that_no_backend_should_get(gateway: Gateway, model: str, text: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": model, "messages": messages})
    assert answer.status == 400 and "arguments" in answer.error["param"], answer.body


@pytest.mark.parametrize("name", ["\0", "a\r\nx: y", "\ud83d\ude42", "x" * 513, "../../etc/passwd", "%0d%0a"])
def test_a_model_that_nobody_has_is_told_so_whatever_its_name(gateway: Gateway, name: str) -> None:
    for door in DOORS:
        answer = gateway.ask("POST", request(door, "m", Ask())[0], {**sound(door), "model": name})
        assert answer.status in (400, 404) and b"\r\nx: y" not in answer.head
