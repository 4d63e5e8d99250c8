"""Answers that are given again, by every door and in both forms, and those that must not be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.matrix_doors import DOORS, Ask, read
from tests.e2e.matrix_doors import request as asked_for
from tests.e2e.reloads import applied, base, changed, reload
from tests.e2e.test_explain import ctl, explained
from tests.e2e.traffic import CHAT, Crowd, backend, body, counted, model, serving, whole
from tests.fakes.behaviour import PROMPT_TOKENS, TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.raw import Answer, request

WHOLE = "".join(TEXT)
KEYS = {name: f"sk-{name}-0123456789abcdef" for name in ("one", "two", "boss")}
AUTH = {name: {"Authorization": f"Bearer {key}"} for name, key in KEYS.items()}
BACKENDS = ("primary", "anthropic", "ollama")
WEATHER = {"name": "f", "arguments": '{"x":1}'}
FINISH = {"primary": "tool_calls", "anthropic": "tool_use", "ollama": "stop"}
FAULTS = ("fin", "rst", "error", "bad_json", "bad_event", "end")
LIMITS = {"requests_per_minute": 10, "tokens_per_minute": 100_000}
SMALL, LARGEST = 60_000, 20_000


@pytest.fixture(scope="module")
def caching(started: Fakes) -> Iterator[Gateway]:
    arms = [{"model": "m-primary"}, {"model": "m-second"}]
    settings = {
        "cache": {"backend": "memory", "requests": "all", "bytes": SMALL, "answer_bytes": LARGEST},
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01, "keepalive": 0.1,
                    "attempts": 2, "queue": {"waiting": 0}},
        "keys": [
            {"name": name, "manage": name == "boss", "hash": "sha256:" + sha256(key.encode()).hexdigest()}
            for name, key in KEYS.items()
        ],
        "backends": [backend(name, getattr(started, name)) for name in (*BACKENDS, "second", "vllm")],
        "models": [
            *(model(f"m-{name}", name) for name in (*BACKENDS, "second")),
            model("m", "primary", aliases=["also-m"]),
            model("strict", "primary", cache={"requests": "deterministic"}, forced={"top_p": 0.5}),
            model("seeded", "primary", cache={"requests": "deterministic"}, defaults={"seed": 7}),
            model("brief", "primary", cache={"ttl": 0.2}),
            model("never", "primary", cache={"requests": "off"}),
            model("pair", "primary", "second"),
            model("rescued", "primary", "vllm"),
            model("shared", "primary", coalesce=True),
            model("ab", "primary", split={"arms": arms, "by": "request"}),
            model("falls", "primary", fallback={"unavailable": "m-second"}),
            model("one-at-a-time", "primary", max_inflight=1, fallback={"unavailable": "m-second"}),
            model("mirrored", "primary", split={"shadow": {"model": "m-second"}}),
            model("wild-*", {"backend": "primary", "model": "up-*"}),
        ],
    }  # fmt: skip
    with serving(settings, AUTH["boss"]) as gateway:
        yield gateway


@pytest.fixture
def gateway(caching: Gateway, fakes: Fakes) -> Gateway:
    """With nothing in its cache."""
    assert flush(caching).status == 200
    return caching


def flush(gateway: Gateway, **what: str) -> Answer:
    return gateway.ask("POST", "/admin/api/cache/flush", json.dumps(what).encode(), AUTH["boss"])


def figures(gateway: Gateway) -> dict[str, Any]:
    told: dict[str, Any] = gateway.ask("GET", "/admin/api/cache", None, AUTH["boss"]).json()
    return told


def post(
    gateway: Gateway, value: Any, target: str = CHAT, key: str = "one", control: str | None = None
) -> Answer:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    more = {} if control is None else {"Cache-Control": control}
    return gateway.ask("POST", target, data, {**AUTH[key], **more})


def state(answer: Answer) -> str:
    """What the header says, which the log says as well."""
    return answer.headers["x-ghostllm-cache"]


def calls(*fakes: Any) -> int:
    return sum(len(fake.calls) for fake in fakes)


NEW = ("id", "created", "created_at")


def timeless(answer: Answer) -> dict[str, Any]:
    """Without what is new in each answer: its id, its time, an Ollama's durations; and without its usage, in
    which the prompt of one that is given again came out of a cache.
    """
    value = answer.json()
    return {
        name: said
        for name, said in value.items()
        if name not in NEW and not name.endswith("_duration") and name != "usage"
    }


# --- hits


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("first", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_says_again_what_it_said(
    gateway: Gateway, fakes: Fakes, door: str, first: bool, name: str
) -> None:
    """In the form it was asked for first, in the other one, and once more."""
    told = []
    for stream in (first, first, not first, not first):
        ask = Ask(stream=stream)
        target, value = asked_for(door, f"m-{name}", ask)
        answer = post(gateway, value, target)
        told.append((state(answer), read(door, ask, answer), answer))
    assert [state for state, _, _ in told] == ["miss", "hit", "hit", "hit"]
    assert all(said == told[0][1] for _, said, _ in told), told
    assert told[0][1].text == WHOLE and told[0][1].tokens == len(TEXT)
    assert calls(fakes.primary, fakes.anthropic, fakes.ollama) == 1
    (_, _, one), (_, _, two), *others = told
    assert one.headers["content-type"] == two.headers["content-type"] and two.complete
    assert int(two.headers["age"]) >= 0 and "x-ghostllm-backend" not in two.headers
    record = gateway.record(two.headers["x-request-id"])
    assert (record["cache"], record["outcome"], record["backend"], record["attempts"]) == (
        "hit",
        "ok",
        None,
        0,
    )
    assert record["completion_tokens"] == len(TEXT)
    if not first and door != "responses":  # whose every item has an id of its own
        assert timeless(one) == timeless(two)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_calls_of_tools_and_thoughts(
    gateway: Gateway, fakes: Fakes, door: str, stream: bool, name: str
) -> None:
    fake = getattr(fakes, name)
    fake.script({"tool_calls": [WEATHER], "tokens": [], "finish": FINISH[name]})
    said = []
    for streamed in (stream, stream, not stream):
        ask = Ask(stream=streamed, tools=True)
        target, value = asked_for(door, f"m-{name}", ask)
        answer = post(gateway, value, target)
        said.append((state(answer), read(door, ask, answer)))
    assert [state for state, _ in said] == ["miss", "hit", "hit"]
    assert said[0][1].calls == [("f", {"x": 1})] and said[0][1] == said[1][1] == said[2][1]
    assert len(fake.calls) == 1


def test_every_answer_has_an_id_of_its_own(gateway: Gateway, fakes: Fakes) -> None:
    answers = [post(gateway, body("m", stream=False)) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 3
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


def test_a_stream_without_usage_and_one_with(gateway: Gateway, fakes: Fakes) -> None:
    asked = [{}, {"stream_options": {"include_usage": True}}, {}]
    answers = [post(gateway, body("m", **more)) for more in asked]
    assert [state(answer) for answer in answers] == ["miss", "hit", "hit"]
    assert [bool(answer.chunks[-1].get("usage")) for answer in answers] == [False, True, False]
    assert answers[1].chunks[-1]["usage"]["completion_tokens"] == len(TEXT)
    assert {whole(answer) for answer in answers} == {WHOLE}


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("/v1/completions", {"model": "m", "prompt": "Hi"}),
        ("/v1/embeddings", {"model": "strict", "input": ["a", "b"]}),
        ("/api/generate", {"model": "m-ollama", "prompt": "Hi", "stream": False}),
        ("/api/embed", {"model": "m-ollama", "input": "Hi"}),
    ],
)
def test_other_operations(gateway: Gateway, fakes: Fakes, target: str, value: dict[str, Any]) -> None:
    answers = [post(gateway, value, target) for _ in range(2)]
    assert [state(answer) for answer in answers] == ["miss", "hit"]
    assert timeless(answers[0]) == timeless(answers[1])
    assert calls(fakes.primary, fakes.ollama) == 1


def test_what_is_neither_asked_nor_told(gateway: Gateway, fakes: Fakes) -> None:
    """Counting tokens, audio and the lists are no answers of a model."""
    counted = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    answer = post(gateway, counted, "/v1/messages/count_tokens")
    assert answer.status == 200 and "x-ghostllm-cache" not in answer.headers
    assert "x-ghostllm-cache" not in gateway.ask("GET", "/v1/models", None, AUTH["one"]).headers
    assert "cache" not in gateway.record(answer.headers["x-request-id"])


def test_a_response_from_the_cache_is_remembered_for_the_next_turn(gateway: Gateway, fakes: Fakes) -> None:
    value = {"model": "m", "input": "Hi", "store": True}
    first, again = (post(gateway, value, "/v1/responses") for _ in range(2))
    assert (state(first), state(again)) == ("miss", "hit")
    identity = again.json()["id"]
    assert identity != first.json()["id"]
    kept = gateway.ask("GET", f"/v1/responses/{identity}", None, AUTH["one"])
    assert kept.status == 200 and kept.json()["output"] == again.json()["output"]
    turn = {"model": "m", "input": "And?", "previous_response_id": identity}
    following = post(gateway, turn, "/v1/responses")
    assert following.status == 200 and state(following) == "bypass"
    said = fakes.primary.call(1).json()["messages"]
    assert [message["content"] for message in said] == ["Hi", WHOLE, "And?"]


def test_many_answers_to_one_request(gateway: Gateway, fakes: Fakes) -> None:
    """From a backend that gives one at a time: each is another one, and all are kept together."""
    value = {"model": "m-ollama", "messages": [{"role": "user", "content": "Hi"}], "n": 3}
    answers = [post(gateway, value) for _ in range(2)]
    assert [state(answer) for answer in answers] == ["miss", "hit"]
    assert [len(answer.json()["choices"]) for answer in answers] == [3, 3]
    assert len(fakes.ollama.calls) == 3


def test_signs_of_life_are_no_part_of_an_answer(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go"})
    with Crowd(gateway) as crowd:
        raw = crowd.send(body("m"), AUTH["one"])
        raw.read_until(b": waiting\n")
        fakes.primary.release("go")
        [first] = crowd.answers()
    again = post(gateway, body("m"))
    assert state(again) == "hit" and b": waiting" not in again.body
    assert whole(again) == whole(first) == WHOLE


# --- what is the same, and for whom


def test_which_requests(gateway: Gateway, fakes: Fakes) -> None:
    for more, expected in (
        ({}, "bypass"), ({"temperature": 0.5}, "bypass"), ({"temperature": 0}, "miss"), ({"seed": 3}, "miss"),
        ({"seed": 4}, "miss"), ({"seed": 3}, "hit"), ({"seed": 3, "user": "x"}, "hit"),
        ({"seed": 3, "store": True}, "bypass"),
    ):  # fmt: skip
        assert state(post(gateway, body("strict", **more))) == expected, more
    assert state(post(gateway, body("seeded"))) == "miss"
    assert state(post(gateway, body("seeded"))) == "hit"
    assert state(post(gateway, body("never", temperature=0))) == "bypass"


def test_keys_share_nothing(gateway: Gateway, fakes: Fakes) -> None:
    assert [state(post(gateway, body("m"), key=key)) for key in ("one", "two", "one")] == [
        "miss", "miss", "hit",
    ]  # fmt: skip


def test_an_alias_is_told_as_it_was_asked(gateway: Gateway, fakes: Fakes) -> None:
    assert [state(post(gateway, body(name))) for name in ("m", "also-m", "m:latest", "m")] == [
        "miss", "miss", "miss", "hit",
    ]  # fmt: skip
    assert [state(post(gateway, body(name))) for name in ("wild-a", "wild-b", "wild-a")] == [
        "miss", "miss", "hit",
    ]  # fmt: skip


@pytest.mark.parametrize("control", ["no-store", "no-cache", "max-age=0", "max-age=100", "only-if-cached"])
def test_cache_control(gateway: Gateway, fakes: Fakes, control: str) -> None:
    first = post(gateway, body("m"), control=control)
    if control == "only-if-cached":
        assert first.status == 504 and first.error["code"] == "not_cached", first.body
        assert not fakes.primary.calls
        post(gateway, body("m"))
    else:
        assert state(first) == ("bypass" if control == "no-store" else "miss")
    again = post(gateway, body("m"), control=control)
    expected = {"no-store": "bypass", "no-cache": "miss", "max-age=0": "miss"}
    assert state(again) == expected.get(control, "hit") and whole(again) == WHOLE
    assert state(post(gateway, body("m"))) == ("miss" if control == "no-store" else "hit")


def test_only_if_cached_where_nothing_ever_is(gateway: Gateway, fakes: Fakes) -> None:
    answer = post(gateway, body("never", stream=False), control="only-if-cached")
    assert answer.status == 504 and answer.error["code"] == "not_cached" and not fakes.primary.calls


def test_an_answer_has_its_time(gateway: Gateway, fakes: Fakes) -> None:
    assert state(post(gateway, body("brief"))) == "miss"
    until(lambda: state(post(gateway, body("brief"))) == "miss", "it is too old")
    assert len(fakes.primary.calls) == 2


# --- what is not kept


@pytest.mark.parametrize(
    ("behaviour", "stream"),
    [
        *((behaviour, stream) for stream in (False, True) for behaviour in (
            {"status": 400}, {"status": 500, "times": 2}, {"finish": "content_filter"},
            {"tokens": ["x" * (LARGEST + 1)]}, {"cut_after_bytes": 200, "times": 2},
        )),
        *((behaviour, True) for behaviour in (
            {"finish": None, "times": 2}, *({"fault": fault, "at": 2, "times": 2} for fault in FAULTS),
        )),
    ],
)  # fmt: skip
def test_only_what_is_whole_and_sound(
    gateway: Gateway, fakes: Fakes, behaviour: dict[str, Any], stream: bool
) -> None:
    fakes.primary.script(behaviour)
    first = post(gateway, body("m", stream=stream))
    assert state(first) == "miss"
    assert figures(gateway)["entries"] == 0, (first.status, first.body)
    fakes.primary.reset()
    assert state(post(gateway, body("m", stream=stream))) == "miss"


def test_one_whose_client_left(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "wait", "fault_gate": "never", "at": 3})
    with gateway.open() as raw:
        raw.send(request("POST", CHAT, body("m"), AUTH["one"]))
        raw.read_until(TEXT[2].encode())
    fakes.primary.ended()
    assert figures(gateway)["entries"] == 0
    assert state(post(gateway, body("m"))) == "miss"


def test_a_stream_that_was_rescued(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"fault": "rst", "fault_gate": "go", "at": 3})
    with Crowd(gateway) as crowd:
        crowd.send(body("rescued"), AUTH["one"]).read_until(b"rld")
        fakes.primary.release("go")
        [first] = crowd.answers()
    assert whole(first) == WHOLE and gateway.record(first.headers["x-request-id"])["rescued"] == 1
    assert figures(gateway)["entries"] == 0


def test_a_failover_is_kept(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500})
    first = post(gateway, body("pair"))
    assert first.headers["x-ghostllm-backend"] == "second" and state(first) == "miss"
    assert state(post(gateway, body("pair"))) == "hit"


# --- with what else there is


def test_a_fallback_is_kept_under_no_other_name(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"status": 500, "times": 2})
    assert whole(post(gateway, body("falls"))) == WHOLE and len(fakes.second.calls) == 1
    assert figures(gateway)["entries"] == 0
    assert state(post(gateway, body("falls"))) == "miss", "the model itself has not answered yet"
    assert state(post(gateway, body("falls"))) == "hit"


def test_a_fallback_for_want_of_a_place(gateway: Gateway, fakes: Fakes) -> None:
    """What answers at once, without an attempt at the first, is kept as its own."""
    fakes.primary.script({"gate": "go"})
    with Crowd(gateway) as crowd:
        crowd.send(body("one-at-a-time", "first"), AUTH["one"])
        fakes.primary.call()
        assert state(post(gateway, body("one-at-a-time", "Hi"))) == "miss"
        fakes.primary.release("go")
        crowd.answers()
    assert len(fakes.second.calls) == 1
    again = post(gateway, body("one-at-a-time", "Hi"))
    assert state(again) == "miss" and again.headers["x-ghostllm-backend"] == "primary"


def test_the_variant_that_answers_counts(gateway: Gateway, fakes: Fakes) -> None:
    seen: dict[str, list[str]] = {}
    for _ in range(40):
        answer = post(gateway, body("ab"))
        seen.setdefault(answer.headers["x-ghostllm-arm"], []).append(state(answer))
    assert calls(fakes.primary, fakes.second) == 2
    assert {name: (first, set(rest)) for name, (first, *rest) in seen.items()} == {
        "m-primary": ("miss", {"hit"}),
        "m-second": ("miss", {"hit"}),
    }


def test_a_shadow_has_answers_of_its_own(gateway: Gateway, fakes: Fakes) -> None:
    assert state(post(gateway, body("m-second"))) == "miss"
    for number in range(3):
        post(gateway, body("mirrored"))
        until(lambda wanted=number + 2: len(fakes.second.calls) == wanted, "the copy is made")
    assert len(fakes.primary.calls) == 1


def test_requests_that_share_a_call(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"gate": "go"})
    with Crowd(gateway) as crowd:
        for _ in range(3):
            crowd.send(body("shared"), AUTH["one"])
        until(lambda: counted(gateway, "ghostllm_requests_in_flight", AUTH["boss"]) == 4, "all are there")
        fakes.primary.release("go")
        answers = crowd.answers()
    assert [state(answer) for answer in answers] == ["miss"] * 3
    again = post(gateway, body("shared"))
    assert state(again) == "hit" and whole(again) == WHOLE and "age" in again.headers
    assert gateway.record(again.headers["x-request-id"])["cache"] == "hit"
    assert len(fakes.primary.calls) == 1


# --- bounds, figures, operators


def test_no_more_bytes_than_configured(gateway: Gateway, fakes: Fakes) -> None:
    fakes.primary.script({"tokens": ["x" * 5000], "times": None})
    before = figures(gateway)["evicted"]
    for number in range(30):
        assert state(post(gateway, body("m", f"question {number}"))) == "miss"
        assert figures(gateway)["bytes"] <= SMALL
    told = figures(gateway)
    assert told["evicted"] - before > 10 and 0 < told["entries"] < 20
    assert state(post(gateway, body("m", "question 29"))) == "hit"
    assert state(post(gateway, body("m", "question 0"))) == "miss"


def test_flushing(gateway: Gateway, fakes: Fakes) -> None:
    def fill() -> None:
        for key in ("one", "two"):
            for name in ("m", "m-second"):
                post(gateway, body(name), key=key)

    fill()
    assert flush(gateway, model="also-m").json() == {"flushed": 2, "complete": True}
    fill()
    assert flush(gateway, key="two").json()["flushed"] == 2
    assert flush(gateway, key="one", model="m-*").json()["flushed"] == 1
    assert state(post(gateway, body("m"))) == "hit"
    assert flush(gateway).json()["flushed"] == 1 and figures(gateway)["entries"] == 0
    assert flush(gateway, team="one").json()["flushed"] == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not valid JSON"), (b"[]", "must be a JSON object"),
        (b'{"models":"m"}', "there are: model, key"),
        (b'{"model":3}', "model must be a name"), (b'{"model":""}', "model must be a name"),
        (b'{"key":"a","team":"b"}', "one of them"),
    ],
)  # fmt: skip
def test_flushing_takes_no_guesses(gateway: Gateway, fakes: Fakes, data: bytes, says: str) -> None:
    post(gateway, body("m"))
    answer = gateway.ask("POST", "/admin/api/cache/flush", data, AUTH["boss"])
    assert answer.status == 400 and says in answer.error["message"]
    assert figures(gateway)["entries"] == 1


def test_only_managers(gateway: Gateway, fakes: Fakes) -> None:
    for method, target in (("GET", "/admin/api/cache"), ("POST", "/admin/api/cache/flush")):
        assert gateway.ask(method, target, None, AUTH["one"]).status == 403


def test_figures_metrics_and_stories(gateway: Gateway, fakes: Fakes) -> None:
    def metric(name: str, **labels: str) -> float:
        return counted(gateway, f"ghostllm_cache_{name}", AUTH["boss"], **labels)

    def tokens() -> float:
        return counted(gateway, "ghostllm_tokens_total", AUTH["boss"])

    names = ("hits_total", "misses_total", "bypasses_total", "stores_total")
    before = [metric(name) for name in names]
    answers = [post(gateway, body(name)) for name in ("m", "never")]
    spent = tokens()
    answers.append(post(gateway, body("m")))
    assert tokens() == spent, "they were spent once"
    assert [metric(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1, 1]
    assert metric("hits_total", store="redis") == 0
    assert metric("entries") == 1 and metric("bytes") == figures(gateway)["bytes"] > 0
    assert [gateway.record(answer.headers["x-request-id"])["cache"] for answer in answers] == [
        "miss", "bypass", "hit",
    ]  # fmt: skip
    found = gateway.ask(
        "GET", f"/admin/api/requests/{answers[-1].headers['x-request-id']}", None, AUTH["boss"]
    ).json()
    assert found["cache"] == "hit" and 0 <= found["cache_age_s"] < 60 and found["plan"] is None


def test_ghostctl(gateway: Gateway, fakes: Fakes) -> None:
    last = [post(gateway, body("m")) for _ in range(2)][-1]
    boss = KEYS["boss"]
    shown = ctl(gateway, "cache", key=boss)
    assert shown.returncode == 0 and "entries" in shown.stdout, shown.stderr
    assert json.loads(ctl(gateway, "cache", "show", "--json", key=boss).stdout)["entries"] == 1
    story = ctl(gateway, "explain", last.headers["x-request-id"], key=boss)
    assert re.search(r"^cache +hit, 0 s old$", story.stdout, re.M), story.stdout
    wrong = ctl(gateway, "cache", "--model", "m", key=boss)
    assert wrong.returncode == 1 and "cache flush" in wrong.stderr
    assert ctl(gateway, "cache", "flush", "--model", "nothing", key=boss).stdout == "0 answers forgotten\n"
    assert ctl(gateway, "cache", "flush", "--of-key", "one", key=boss).stdout == "1 answers forgotten\n"


def test_a_hit_counts_as_a_request_and_costs_nothing(started: Fakes, fakes: Fakes, tmp_path: Path) -> None:
    settings = {
        "cache": {"backend": "memory", "requests": "all"},
        "state": {"file": str(tmp_path / "state.db")},
        "keys": [
            {"name": name, "key": KEYS[name], "manage": True, "limits": LIMITS, "budget": {"day": 100.0}}
            for name in ("boss", "one")
        ],
        "backends": [backend("primary", started.primary)],
        "models": [model("m", "primary", price={"input": 1000.0, "output": 1000.0})],
    }
    with serving(settings, AUTH["boss"]) as gateway:
        answers = [post(gateway, body("m", stream=False)) for _ in range(3)]
        assert [state(answer) for answer in answers] == ["miss", "hit", "hit"]
        left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
        assert left[0] > left[1] > left[2], "each counts"
        told = gateway.ask("GET", "/admin/api/limits", None, AUTH["boss"]).json()
        used = LIMITS["tokens_per_minute"] - next(
            row["remaining_tokens"] for row in told["limits"] if row["name"] == "one"
        )
        assert used <= PROMPT_TOKENS + len(TEXT), "the tokens of one"
        spent = next(row["day"] for row in told["budgets"] if row["name"] == "one")
        assert spent == (PROMPT_TOKENS + len(TEXT)) / 1000, "and its price"
        assert counted(gateway, "ghostllm_reservations_open", AUTH["boss"]) == 0


def test_a_team_shares_answers_but_no_permission(started: Fakes, fakes: Fakes) -> None:
    only = {"boss": [], "one": [], "two": ["other"]}
    settings = {
        "cache": {"backend": "memory", "requests": "all", "tenant": "team"},
        "keys": [
            {"name": name, "key": KEYS[name], "team": "blue", "manage": name == "boss", "models": models}
            for name, models in only.items()
        ],
        "teams": [{"name": "blue"}],
        "backends": [backend("primary", started.primary)],
        "models": [model("m", "primary"), model("other", "primary")],
    }
    with serving(settings, AUTH["boss"]) as gateway:
        assert state(post(gateway, body("m"))) == "miss"
        assert state(post(gateway, body("m"), key="boss")) == "hit"
        refused = post(gateway, body("m", stream=False), key="two")
        assert refused.status == 403 and WHOLE.encode() not in refused.body
        assert "x-ghostllm-cache" not in refused.headers
        assert flush(gateway, key="one").json()["flushed"] == 0
        assert flush(gateway, team="blue").json()["flushed"] == 1


def test_a_reload_keeps_what_is_kept(started: Fakes, fakes: Fakes) -> None:
    settings = base(started, cache={"backend": "memory", "requests": "all"})
    with serving(settings) as gateway:

        def again(name: str = "m") -> str:
            return state(gateway.ask("POST", CHAT, body(name)))

        assert [again(), again()] == ["miss", "hit"]
        entries = gateway.ask("GET", "/admin/api/cache").json()["limit_bytes"]
        changes = applied(gateway, changed(settings, cache={"bytes": 2_000_000}, log={"level": "debug"}))
        assert sorted(changes) == ["cache.bytes", "log.level"]
        assert gateway.ask("GET", "/admin/api/cache").json()["limit_bytes"] == 2_000_000 != entries
        assert again() == "hit"
        settings["models"][0]["cache"] = {"requests": "off"}
        assert applied(gateway, settings) and again() == "bypass"
        refused = reload(gateway, changed(settings, cache={"backend": "off"}))
        assert refused.json()["needs_restart"] == ["cache.backend"]
        assert again("n") == "miss" and again("n") == "hit"


# --- off


def test_off_is_off(started: Fakes, fakes: Fakes) -> None:
    settings = {
        "backends": [backend("primary", started.primary)],
        "models": [model("m", "primary", cache={"requests": "all"})],
    }
    with serving(settings) as gateway:
        for _ in range(2):
            answer = gateway.ask("POST", CHAT, body("m", temperature=0))
            assert whole(answer) == WHOLE and "x-ghostllm-cache" not in answer.headers
        assert len(fakes.primary.calls) == 2
        assert explained(gateway, answer)["cache"] is None
        assert gateway.ask("GET", "/admin/api/cache").json() == {"backend": "off"}
        refused = gateway.ask("POST", "/admin/api/cache/flush", b"{}")
        assert refused.status == 404 and 'cache.backend is "off"' in refused.error["message"]
        assert "ghostllm_cache" not in gateway.ask("GET", "/metrics").body.decode()


def test_no_fields_where_none_are_wanted(started: Fakes, fakes: Fakes) -> None:
    settings = {
        "cache": {"backend": "memory", "requests": "all"},
        "routing": {"headers": False},
        "backends": [backend("primary", started.primary)],
        "models": [model("m", "primary")],
    }
    with serving(settings) as gateway:
        for expected in ("miss", "hit"):
            answer = gateway.ask("POST", CHAT, body("m"))
            assert not [name for name in answer.headers if name.startswith("x-ghostllm") or name == "age"]
            assert gateway.record(answer.headers["x-request-id"])["cache"] == expected
