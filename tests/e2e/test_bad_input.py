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
    "nested deeply": lambda door: (
        json.dumps(sound(door)).encode()[:-1] + b',"x":' + b"[" * 20000 + b"]" * 20000 + b"}"
    ),
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
