"""What scenarios are told in: a request at some door, what its client got, and what the books say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.e2e.conftest import FORGIVING, KINDS, Fakes
from tests.e2e.matrix_doors import DOORS as DOORS
from tests.e2e.matrix_doors import Ask, Said, read, request
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer
from tests.fakes.raw import request as bytes_of

NAMES = ("primary", "second", *KINDS)
HASTY = {"head": 0.3, "first_token": 0.3, "idle": 0.3}
BRIEF = {"total": 0.4}

SETTINGS: Settings = {
    "server": {"limits": {"event_bytes": 20_000}},
    "routing": {"balance": "failover", "rescue": True, "attempts": 3, "backoff": 0.01, "backoff_max": 0.05,
                "retry_after_max": 3.0, **FORGIVING},
    "timeouts": {"connect": 2.0, "head": 15.0, "first_token": 15.0, "idle": 15.0, "total": 30.0},
}  # fmt: skip


def backend(fakes: Fakes, name: str, alias: str = "", **more: object) -> dict[str, Any]:
    """A backend's table. alias: a name of its own, for one with a state of its own."""
    kind = "openai" if name in ("primary", "second") else name
    return {"name": alias or name, "kind": kind, "url": getattr(fakes, name).url, **more}


def model(name: str, *backends: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "targets": [{"backend": each} for each in backends], **more}


def chained(*backends: str) -> list[dict[str, Any]]:
    """Models with these targets in their order: `a-b`, and `a-b-hasty` and `a-b-brief` with short limits."""
    name = "-".join(backends)
    return [model(name, *backends), model(f"{name}-hasty", *backends, timeouts=HASTY),
            model(f"{name}-brief", *backends, timeouts=BRIEF)]  # fmt: skip


def fake(fakes: Fakes, name: str) -> Fake:
    found: Fake = getattr(fakes, name)
    return found


# --- asking


def body(door: str, model: str, ask: Ask, **members: Any) -> tuple[str, bytes]:
    """Path and body. members: `temperature` and `seed` go where the dialect has them."""
    path, fields = request(door, model, ask)
    if door == "ollama":
        fields["options"] |= members
    else:
        fields |= members
    return path, json.dumps(fields).encode()


def asking(door: str, model: str, ask: Ask, request_id: str = "", **members: Any) -> bytes:
    """The whole request."""
    path, data = body(door, model, ask, **members)
    return bytes_of("POST", path, data, {"X-Request-Id": request_id or None})


def send(gateway: Gateway, door: str, model: str, ask: Ask, **members: Any) -> Answer:
    path, data = body(door, model, ask, **members)
    return gateway.ask("POST", path, data)


# --- what the client got


def whole(door: str, ask: Ask, answer: Answer, tokens: int | None = 6) -> Said:
    """A complete answer, by the rules of its dialect: one beginning, one end, a finish."""
    assert answer.status == 200, answer.body
    said = read(door, ask, answer)
    assert not said.error, said
    assert said.finish in ("stop", "end_turn", "completed"), said
    assert tokens is None or said.tokens == tokens, said
    if ask.stream:
        once(door, answer)
    return said


def once(door: str, answer: Answer) -> None:
    """The stream has one beginning, and one id throughout."""
    if door == "openai":
        assert [role for _, delta in deltas(answer) if (role := delta.get("role"))] == ["assistant"]
        assert len({chunk["id"] for chunk in answer.chunks}) == 1
        assert len({chunk["created"] for chunk in answer.chunks}) == 1
    elif door == "anthropic":
        kinds = [chunk["type"] for chunk in answer.chunks]
        assert kinds[0] == "message_start" and kinds.count("message_start") == 1
    elif door == "responses":
        kinds = [chunk["type"] for chunk in answer.chunks]
        assert kinds[0] == "response.created" and kinds.count("response.created") == 1
        assert len({chunk["response"]["id"] for chunk in answer.chunks if "response" in chunk}) == 1
        ends = {"response.completed", "response.failed", "response.incomplete"}
        assert len(ends.intersection(kinds)) == 1 and kinds[-1] in ends
    else:
        assert all("error" not in line for line in lines(answer))
        assert [line["done"] for line in lines(answer)].count(True) == 1


def deltas(answer: Answer) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Of a chat's stream: the choices, each with its delta."""
    choices = [choice for chunk in answer.chunks for choice in chunk.get("choices", [])]
    return [(choice, choice["delta"]) for choice in choices]


def lines(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in answer.body.decode().splitlines()]


def broken(door: str, answer: Answer) -> Said:
    """A stream that ends with an error: what it said so far and the error's words. It must not look whole: no
    finish, no terminator.
    """
    assert answer.status == 200, answer.body
    return {"openai": _chat, "anthropic": _message, "responses": _response, "ollama": _lines}[door](answer)


def _chat(answer: Answer) -> Said:
    error = answer.chunks[-1]["error"]
    assert set(error) >= {"message", "type", "code"}
    assert "[DONE]" not in answer.events
    assert not [choice for choice, _ in deltas(answer) if choice.get("finish_reason")]
    return Said(answer.text, error=error["message"])


def _message(answer: Answer) -> Said:
    kinds = [chunk["type"] for chunk in answer.chunks]
    assert kinds[-1] == "error" and kinds.count("error") == 1
    assert answer.body.decode().count("event: error\n") == 1
    assert not {"message_stop", "message_delta"}.intersection(kinds)
    found = [chunk["delta"].get("text", "") for chunk in answer.chunks if "delta" in chunk]
    return Said("".join(found), error=answer.chunks[-1]["error"]["message"])


def _response(answer: Answer) -> Said:
    kinds = [chunk["type"] for chunk in answer.chunks]
    assert kinds[-1] == "response.failed"
    assert not {"response.completed", "response.incomplete"}.intersection(kinds)
    assert [chunk["sequence_number"] for chunk in answer.chunks] == list(range(len(kinds)))
    response = answer.chunks[-1]["response"]
    assert response["status"] == "failed"
    found = [chunk["delta"] for chunk in answer.chunks if chunk["type"] == "response.output_text.delta"]
    return Said("".join(found), error=response["error"]["message"])


def _lines(answer: Answer) -> Said:
    *said, last = lines(answer)
    assert set(last) == {"error"} and last["error"]
    assert not [line for line in said if line["done"] or "error" in line]
    return Said("".join(line["message"]["content"] for line in said), error=last["error"])


# --- what the backends and the books say


def asked(fakes: Fakes) -> dict[str, int]:
    """Requests for answers, by fake; those that got none are left out."""
    return {name: count for name in NAMES if (count := len(fake(fakes, name).calls))}


def tried(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Backend and outcome of each attempt, as the access log has them."""
    if "tried" in record:
        assert record["attempts"] == len(record["tried"])
        return [(attempt["backend"], attempt["outcome"]) for attempt in record["tried"]]
    assert record["attempts"] == 1 and record["outcome"] == "ok"
    return [(record["backend"], "ok")]


def recorded(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return gateway.record(answer.headers["x-request-id"])


def explained(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The same in full: what `ghostctl explain` shows."""
    found = gateway.ask("GET", f"/admin/api/requests/{answer.headers['x-request-id']}")
    assert found.status == 200, found.body
    told: dict[str, Any] = found.json()
    return told
