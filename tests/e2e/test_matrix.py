"""Every door with every backend: what works, and what is refused. The README's table is made from this."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import KINDS, Fakes
from tests.e2e.matrix_doors import DOORS, PIXEL, RESULT, Ask, Said, read, request
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import request as bytes_of

pytestmark = pytest.mark.wide

README = Path(__file__).parents[2] / "README.md"
WHOLE = "".join(TEXT)
BACKENDS = {"openai": "primary", **{kind: kind for kind in KINDS}}
"""Kind of backend -> its fake, and its model but for the first, which is called m."""

ONE = [{"name": "f", "arguments": '{"x": 1}'}]
TWO = [*ONE, {"name": "f", "arguments": '{"x": 2}'}]
CUT = {"openai": "length", "anthropic": "max_tokens", "responses": "incomplete", "ollama": "length"}


@dataclass(frozen=True)
class Scenario:
    """ask: what the client wants. behaviour: of the backend. holds: checks what was said and what it saw."""

    ask: Ask
    behaviour: dict[str, Any]
    holds: Callable[[str, Said, bytes], None]


def _plain(door: str, said: Said, seen: bytes) -> None:
    assert (said.text, said.tokens, said.error) == (WHOLE, 6, "")


def _called(*arguments: dict[str, Any]) -> Callable[[str, Said, bytes], None]:
    def holds(door: str, said: Said, seen: bytes) -> None:
        assert said.calls == [("f", each) for each in arguments]
        assert said.finish in ("tool_calls", "tool_use", "completed", "stop")
        assert b'"x"' in seen

    return holds


def _result(door: str, said: Said, seen: bytes) -> None:
    assert said.text == WHOLE and RESULT.encode() in seen


def _document(door: str, said: Said, seen: bytes) -> None:
    assert said.text == '{"a":1}' and b'"required"' in seen


def _image(door: str, said: Said, seen: bytes) -> None:
    assert said.text == WHOLE and PIXEL.encode() in seen


def _thought(door: str, said: Said, seen: bytes) -> None:
    assert (said.reasoning, said.text) == ("hm, ü", WHOLE)


def _stopped(door: str, said: Said, seen: bytes) -> None:
    assert said.text == WHOLE and b'"END"' in seen


def _cut(door: str, said: Said, seen: bytes) -> None:
    assert (said.text, said.finish) == (WHOLE, CUT[door]) and b"7" in seen


def _failed(door: str, said: Said, seen: bytes) -> None:
    assert said.error and not said.text


SCENARIOS = {
    "plain": Scenario(Ask(), {}, _plain),
    "stream": Scenario(Ask(stream=True), {"usage": "always"}, _plain),
    "tools": Scenario(
        Ask(tools=True), {"tool_calls": ONE, "tokens": [], "finish": "tool_calls"}, _called({"x": 1})
    ),
    "tools, streamed": Scenario(
        Ask(stream=True, tools=True),
        {"tool_calls": ONE, "tokens": [], "finish": "tool_calls"},
        _called({"x": 1}),
    ),
    "parallel tools": Scenario(
        Ask(stream=True, tools=True),
        {"tool_calls": TWO, "tokens": [], "finish": "tool_calls"},
        _called({"x": 1}, {"x": 2}),
    ),
    "tool result": Scenario(Ask(result=True), {}, _result),
    "structured output": Scenario(Ask(schema=True), {"tokens": ['{"a":', "1}"]}, _document),
    "image": Scenario(Ask(image=True), {}, _image),
    "reasoning": Scenario(Ask(), {"reasoning": "hm, ü"}, _thought),
    "reasoning, streamed": Scenario(Ask(stream=True), {"reasoning": "hm, ü"}, _thought),
    "stop": Scenario(Ask(stop=True), {}, _stopped),
    "cut by the limit": Scenario(Ask(stream=True, limit=7), {"finish": "length"}, _cut),
    "error before": Scenario(Ask(stream=True), {"status": 400, "message": "no good"}, _failed),
    "error inside": Scenario(Ask(stream=True), {"fault": "fin", "at": 3}, _failed),
}

NOT_ASKED = {("responses", "stop"): "the API has no stop sequences"}
"""What a dialect cannot even ask for."""

REFUSED = {("transformers", "structured output"): 400}
"""What a backend cannot do: the client is told so."""


def model_of(kind: str) -> str:
    return "m" if kind == "openai" else kind


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(gateway: Gateway, fakes: Fakes, door: str, kind: str, name: str) -> None:
    if (door, name) in NOT_ASKED:
        return
    scenario, fake = SCENARIOS[name], getattr(fakes, BACKENDS[kind])
    path, body = request(door, model_of(kind), scenario.ask)
    fake.script({**scenario.behaviour, "times": None})
    answer = gateway.ask("POST", path, body)
    if (status := REFUSED.get((kind, name))) is not None:
        assert answer.status == status and read(door, scenario.ask, answer).error
        return
    assert answer.status == (400 if name == "error before" else 200), answer.body
    scenario.holds(door, read(door, scenario.ask, answer), fake.calls[-1].body)


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_cancel(gateway: Gateway, fakes: Fakes, door: str, kind: str, stream: bool) -> None:
    """Whoever leaves takes his upstream along, before the first byte and after it."""
    fake = getattr(fakes, BACKENDS[kind])
    path, body = request(door, model_of(kind), Ask(stream=stream))
    fake.script({"token_delay": 0.2, "tokens": 100} if stream else {"hang": True})
    with gateway.open() as raw:
        raw.send(bytes_of("POST", path, json.dumps(body).encode()))
        until(lambda: fake.calls and (not stream or fake.calls[-1].tokens_sent > 1), "the answer to begin")
    until(lambda: fake.calls[-1].outcome == "gone", "the upstream to be closed")


def table() -> str:
    """The README's: a column for each backend, a row for each scenario; doors that pass, or the status."""
    lines = ["| | " + " | ".join(BACKENDS) + " |", "|---|" + "---|" * len(BACKENDS)]
    for name in [*SCENARIOS, "cancel"]:
        doors = [door for door in DOORS if (door, name) not in NOT_ASKED]
        shown = name if len(doors) == len(DOORS) else f"{name} (not Responses)"
        cells = [str(REFUSED.get((kind, name), f"{len(doors)}/{len(doors)}")) for kind in BACKENDS]
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_the_readme_has_the_table() -> None:
    """scripts/matrix writes it."""
    assert table() in README.read_text("utf-8")
