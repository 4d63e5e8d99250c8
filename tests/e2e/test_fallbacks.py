"""Models that stand in for others, names with a wildcard, and targets that cannot serve every request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.matrix_doors import PIXEL
from tests.e2e.test_explain import events, explained
from tests.e2e.traffic import CHAT, Crowd, backend, body, by, model, serving, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import Fake
from tests.fakes.gateway import Gateway

WHOLE = "".join(TEXT)
TOO_LONG = {"status": 400, "code": "context_length_exceeded", "message": "maximum context length is 10"}
FILTERED = {"status": 400, "code": "content_filter", "message": "the prompt was filtered"}
AWAY = {"status": 500, "message": "out of memory"}
NARROW_KEY = {"Authorization": "Bearer sk-narrow-0123456789"}
WIDE_KEY = {"Authorization": "Bearer sk-wide-0123456789"}


def fallback(**models: str) -> dict[str, Any]:
    return {"fallback": models}


@pytest.fixture(scope="module")
def falling(started: Fakes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    found = tmp_path_factory.mktemp("found") / "backends.toml"
    found.write_text("backends = []\n")
    settings = {
        "discovery": {"local": False, "file": str(found)},
        "routing": {
            **FORGIVING, "balance": "failover", "backoff": 0.01, "backoff_max": 0.01, "queue": {"waiting": 0},
        },
        "backends": [backend("primary", started.primary), backend("second", started.second)],
        "models": [
            model("first", "primary", **fallback(context="large", content="lax", unavailable="other")),
            model("plain", "primary"),
            model("large", "second"),
            model("lax", "second"),
            model("other", "second"),
            model("loop-1", "primary", **fallback(unavailable="loop-2")),
            model("loop-2", "second", **fallback(unavailable="loop-1")),
            model("chain-1", "primary", **fallback(unavailable="chain-2")),
            model("chain-2", "primary", **fallback(unavailable="chain-3")),
            model("chain-3", "second"),
            model("nowhere", "gpu-*", **fallback(unavailable="other")),
            model("one-at-a-time", "primary", max_inflight=1, **fallback(unavailable="other")),
        ],
    }  # fmt: skip
    with serving(settings) as gateway:
        yield gateway


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fault", "stand_in"),
    [(TOO_LONG, "large"), (FILTERED, "lax"), (AWAY, "other")],
    ids=["long", "filter", "away"],
)
def test_another_model_answers(
    falling: Gateway, fakes: Fakes, fault: dict[str, Any], stand_in: str, stream: bool
) -> None:
    fakes.primary.script({**fault, "times": None})
    answer = falling.chat("first", stream=stream)
    assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == "second"
    assert [call.json()["model"] for call in fakes.second.calls] == [stand_in]
    named = [chunk["model"] for chunk in answer.chunks] if stream else [answer.json()["model"]]
    assert set(named) == {"first"}, "the client sees the model that it asked for"
    story = explained(falling, answer)
    purposes = [attempt["purpose"] for attempt in events(story, "attempt")]
    assert purposes[0] == "first" and purposes[-1] == "fallback", purposes
    assert story["plan"]["model"] == stand_in
    assert falling.record(answer.headers["x-request-id"])["outcome"] == "ok"


def test_each_case_has_its_own_stand_in(falling: Gateway, fakes: Fakes) -> None:
    """A fault of the request is none of them."""
    fakes.primary.script({"status": 400, "message": "temperature must be below 3"})
    answer = falling.chat("first")
    assert answer.status == 400 and "temperature" in answer.error["message"]
    fakes.primary.script({**TOO_LONG})
    assert falling.chat("plain").error["code"] == "context_length_exceeded"
    fakes.primary.script({**TOO_LONG})
    assert falling.chat("chain-1").error["code"] == "context_length_exceeded"
    assert not fakes.second.calls


def test_a_failure_after_the_first_token_is_no_case_for_it(falling: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "error", "at": 2, "fault_gate": "seen", "times": None})
    with Crowd(falling) as crowd:
        raw = crowd.send(body("first"))
        raw.read_until(TEXT[0].encode())
        fakes.primary.release("seen")
        answer = raw.answer()
    assert "error" in answer.chunks[-1] and "[DONE]" not in answer.events
    assert not fakes.second.calls


def test_stand_ins_have_stand_ins(falling: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({**AWAY, "times": None})
    answer = falling.chat("chain-1")
    assert whole(answer) == WHOLE
    assert [call.json()["model"] for call in fakes.primary.calls] == ["chain-1"] * 3 + ["chain-2"] * 3
    assert fakes.second.call().json()["model"] == "chain-3"


@pytest.mark.parametrize("stream", [False, True])
def test_a_circle_of_stand_ins_ends(falling: Gateway, fakes: Fakes, stream: bool) -> None:
    for fake in (fakes.primary, fakes.second):
        fake.script({**AWAY, "times": None})
    answer = falling.chat("loop-1", stream=stream)
    assert answer.status == 502 and "out of memory" in answer.error["message"]
    assert (len(fakes.primary.calls), len(fakes.second.calls)) == (3, 3)
    assert falling.record(answer.headers["x-request-id"])["attempts"] == 6


def test_a_model_without_any_backend_has_its_stand_in(falling: Gateway, fakes: Fakes) -> None:
    answer = falling.chat("nowhere")
    assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == "second"


def test_a_model_at_its_limit_has_its_stand_in(falling: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go"})
    with Crowd(falling) as crowd:
        crowd.send(body("one-at-a-time"))
        fakes.primary.call()
        answer = falling.chat("one-at-a-time")
        assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == "second"
        fakes.primary.release("go")
        assert by(crowd.answers()) == ["primary"]
    assert falling.chat("one-at-a-time").headers["x-ghostllm-backend"] == "primary"


# --- names with a wildcard, and keys


@pytest.fixture(scope="module")
def naming(started: Fakes) -> Iterator[Gateway]:
    secrets = {"narrow": ["first", "gpt-4*"], "wide": []}
    settings = {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01},
        "keys": [
            {"name": name, "models": models, "manage": True,
             "hash": "sha256:" + hashlib.sha256(f"sk-{name}-0123456789".encode()).hexdigest()}
            for name, models in secrets.items()
        ],
        "backends": [backend("primary", started.primary), backend("second", started.second)],
        "models": [
            model("gpt-*", "primary"),
            model("gpt-*-mini", {"backend": "second", "model": "small-*"}),
            model("gpt-4-exactly", {"backend": "second", "model": "exact"}),
            model("local/*", {"backend": "second", "model": "*"}),
            model("any-*-fixed", {"backend": "second", "model": "always-this"}),
            model("first", "primary", **fallback(unavailable="other")),
            model("other", "second"),
        ],
    }  # fmt: skip
    with serving(settings, WIDE_KEY) as gateway:
        yield gateway


@pytest.mark.parametrize(
    ("asked", "backend", "upstream"),
    [
        ("gpt-9", "primary", "gpt-9"),
        ("gpt-9-mini", "second", "small-9"),
        ("gpt-4-exactly", "second", "exact"),
        ("local/qwen/qwen3:0.6b", "second", "qwen/qwen3:0.6b"),
        ("any-thing-fixed", "second", "always-this"),
    ],
)
def test_a_name_with_a_wildcard(
    naming: Gateway, fakes: Fakes, asked: str, backend: str, upstream: str
) -> None:
    for stream in (False, True):
        answer = naming.ask("POST", CHAT, body(asked, stream=stream), WIDE_KEY)
        assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == backend
        fake: Fake = getattr(fakes, backend)
        assert fake.calls[-1].json()["model"] == upstream
        named = answer.chunks[0]["model"] if stream else answer.json()["model"]
        assert named == asked


@pytest.mark.parametrize("asked", ["gpt-", "gp", "local/", "any--fixe", "GPT-9"])
def test_what_no_wildcard_stands_for(naming: Gateway, fakes: Fakes, asked: str) -> None:
    answer = naming.ask("POST", CHAT, body(asked), WIDE_KEY)
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


def test_wildcards_are_not_listed_and_keys_go_by_the_name_asked_for(naming: Gateway, fakes: Fakes) -> None:
    listed = naming.ask("GET", "/v1/models", None, WIDE_KEY).json()["data"]
    assert sorted(one["id"] for one in listed) == ["first", "gpt-4-exactly", "other"]
    assert naming.ask("POST", CHAT, body("gpt-4o"), NARROW_KEY).status == 200
    assert naming.ask("POST", CHAT, body("gpt-5"), NARROW_KEY).status == 403
    assert naming.ask("POST", CHAT, body("local/gpt-4"), NARROW_KEY).status == 403


def test_a_stand_in_is_for_those_who_may_use_it(naming: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({**AWAY, "times": None})
    assert whole(naming.ask("POST", CHAT, body("first"), WIDE_KEY)) == WHOLE
    refused = naming.ask("POST", CHAT, body("first"), NARROW_KEY)
    assert refused.status == 502 and "out of memory" in refused.error["message"]


# --- what targets can do


def tags(name: str, *capabilities: str) -> dict[str, Any]:
    """A behaviour: a list of one model with what it can do, as newer servers give it."""
    item = {"name": name, "model": name, "modified_at": "2026-11-22T10:00:00Z", "size": 1,
            "digest": "0" * 64, "details": {}, "capabilities": list(capabilities)}  # fmt: skip
    return {"path": "/api/tags", "body": json.dumps({"models": [item]}), "times": None}


@pytest.fixture(scope="module")
def able() -> Iterator[tuple[Gateway, Fake, Fake]]:
    """A model on two servers of which the second can see, and one on the first alone."""
    with Fake("ollama", "m") as blind, Fake("ollama", "m") as seeing:
        blind.script(tags("m", "completion"))
        seeing.script(tags("m", "completion", "vision", "tools"))
        settings = {
            "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01, "refresh": 0},
            "backends": [backend("blind", blind), backend("seeing", seeing)],
            "models": [
                model("both", {"backend": "blind", "model": "m"}, {"backend": "seeing", "model": "m"}),
                model("blind", {"backend": "blind", "model": "m"}, {"backend": "blind", "model": "other"},
                      capabilities=["chat"]),
                model("lone", {"backend": "blind", "model": "m"}),
            ],
        }  # fmt: skip
        with serving(settings) as gateway:
            yield gateway, blind, seeing


IMAGES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]}]},
    "/v1/responses": {"input": [{"role": "user", "content": [
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}]}]},
    "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}]},
    "/api/chat": {"messages": [{"role": "user", "content": "What is it?", "images": [PIXEL]}]},
    "/api/generate": {"prompt": "What is it?", "images": [PIXEL]},
}  # fmt: skip


@pytest.mark.parametrize("door", IMAGES)
def test_an_image_goes_to_a_target_that_can_see(able: tuple[Gateway, Fake, Fake], door: str) -> None:
    gateway, blind, seeing = able
    before = len(blind.calls), len(seeing.calls)
    answer = gateway.ask("POST", door, {"model": "both", "stream": False, **IMAGES[door]})
    assert answer.status == 200, answer.body
    assert answer.headers["x-ghostllm-backend"] == "seeing"
    assert (len(blind.calls), len(seeing.calls)) == (before[0], before[1] + 1)
    refused = explained(gateway, answer)["plan"]["refused"]
    assert refused == [{"backend": "blind", "model": "m", "why": "vision"}]
    words = gateway.ask("POST", CHAT, body("both", "no image here"))
    assert words.headers["x-ghostllm-backend"] == "blind"


def test_tools_go_to_a_target_that_knows_them(able: tuple[Gateway, Fake, Fake]) -> None:
    gateway, _, _ = able
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    answer = gateway.chat("both", tools=[tool])
    assert answer.status == 200 and answer.headers["x-ghostllm-backend"] == "seeing"


@pytest.mark.parametrize("door", ["/v1/embeddings", "/api/embed"])
def test_any_model_of_ollama_embeds(able: tuple[Gateway, Fake, Fake], door: str) -> None:
    """Those that complete as well, although they do not say so."""
    gateway, _, _ = able
    for name in ("both", "lone"):
        assert gateway.ask("POST", door, {"model": name, "input": "Hi"}).status == 200


def test_where_no_target_is_able_the_request_is_told_so(able: tuple[Gateway, Fake, Fake]) -> None:
    gateway, blind, _ = able
    before = len(blind.calls)
    answer = gateway.ask("POST", CHAT, {"model": "blind", **IMAGES[CHAT]})
    assert answer.status == 400, answer.body
    assert answer.error["code"] == "unsupported_value" and answer.error["param"] == "model"
    assert "vision" in answer.error["message"] and "blind" in answer.error["message"]
    assert len(blind.calls) == before


def test_an_only_target_that_says_that_it_cannot_is_not_asked(able: tuple[Gateway, Fake, Fake]) -> None:
    """Ollama would pass over the image in silence."""
    gateway, blind, _ = able
    before = len(blind.calls)
    answer = gateway.ask("POST", CHAT, {"model": "lone", **IMAGES[CHAT]})
    assert answer.status == 400 and "vision" in answer.error["message"]
    assert len(blind.calls) == before


def test_a_long_prompt_goes_where_there_is_room(started: Fakes, fakes: Fakes) -> None:
    settings = {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01},
        "backends": [backend("small", started.primary), backend("large", started.second)],
        "models": [
            model("m", {"backend": "small", "context": 500}, {"backend": "large", "context": 50_000}),
            model("tight", {"backend": "small", "context": 500}, {"backend": "large", "context": 600}),
        ],
    }
    long = "word " * 2000
    with serving(settings) as gateway:
        assert gateway.chat("m").headers["x-ghostllm-backend"] == "small"
        answer = gateway.ask("POST", CHAT, body("m", long))
        assert whole(answer) == WHOLE and answer.headers["x-ghostllm-backend"] == "large"
        refused = explained(gateway, answer)["plan"]["refused"]
        assert refused == [{"backend": "small", "model": "m", "why": "context too small"}]
        tight = gateway.ask("POST", CHAT, body("tight", long))
        assert whole(tight) == WHOLE, "the estimate refuses nothing that a server may still take"
