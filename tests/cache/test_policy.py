"""Which requests are answered from memory, what clients may say to it, and which answers are kept."""

from __future__ import annotations

import pytest

from ghostllm import jsonx
from ghostllm.api.doors import DOORS
from ghostllm.cache.policy import ENDLESS, Control, is_cacheable, is_keepable, read_control
from ghostllm.cache.refusals import NotCached
from ghostllm.errors import UpstreamCut
from ghostllm.message import Attempt, Exchange, Parameters, Request, Usage
from tests.cache.test_key import OPERATIONS, body_of


def call_of(door="openai", operation="", **more):
    return DOORS[door].read_call(operation or OPERATIONS[door], jsonx.dumps(body_of(door, **more)))


@pytest.mark.parametrize(
    ("text", "control"),
    [
        (None, Control()),
        (b"", Control()),
        (b"no-store", Control(no_store=True)),
        (b"No-Cache", Control(no_cache=True)),
        (b"max-age=60", Control(max_age=60.0)),
        (b'max-age="60"', Control(max_age=60.0)),
        (b"max-age=0", Control(no_cache=True, max_age=0.0)),
        (b"max-age=-5", Control(no_cache=True, max_age=0.0)),
        (b"max-age=soon", Control(no_cache=True, max_age=0.0)),
        (b"max-age=" + b"9" * 200, Control(max_age=ENDLESS)),
        ("max-age=٣".encode(), Control(no_cache=True, max_age=0.0)),
        (b"max-age=1, max-age=9", Control(max_age=1.0)),
        (b"only-if-cached , max-age = 5", Control(max_age=5.0, only_if_cached=True)),
        (b'max-stale=5, no-transform, x="no-store', Control()),
        (b"no-store," + b"x" * 1000, Control(no_store=True)),
    ],
)
def test_cache_control(text, control):
    assert read_control({} if text is None else {b"cache-control": text}) == control


DETERMINISTIC = [
    ({"temperature": 0}, True),
    ({"temperature": 0.0}, True),
    ({"seed": 5}, True),
    ({"seed": 0}, True),
    ({}, False),
    ({"temperature": 0.7}, False),
    ({"temperature": None}, False),
    ({"seed": None}, False),
    ({"temperature": False}, False),
    ({"temperature": "0"}, False),
    ({"seed": True}, False),
]


@pytest.mark.parametrize(("said", "expected"), DETERMINISTIC)
@pytest.mark.parametrize("door", OPERATIONS)
def test_only_deterministic_requests_unless_all_are(door, said, expected):
    more = {"options": said} if door == "ollama" else said
    call = call_of(door, **more)
    assert is_cacheable(call, None, "deterministic") is expected
    assert is_cacheable(call, None, "all") and not is_cacheable(call, None, "off")


@pytest.mark.parametrize(
    ("said", "defaults", "forced", "expected"),
    [
        ({}, {"temperature": 0}, {}, True),
        ({"temperature": 1}, {"temperature": 0}, {}, False),
        ({"temperature": 1}, {}, {"temperature": 0}, True),
        ({"temperature": 0}, {}, {"temperature": 1}, False),
        ({"temperature": 0}, {}, {"temperature": 1, "seed": 3}, True),
    ],
)
def test_the_configured_parameters_count(said, defaults, forced, expected):
    assert is_cacheable(call_of(**said), Parameters(defaults, forced), "deterministic") is expected


def test_ollamas_options_are_where_it_looks():
    assert not is_cacheable(call_of("ollama", temperature=0), None, "deterministic")
    assert not is_cacheable(call_of("ollama", options=None), None, "deterministic")


def test_embeddings_always_are_and_counts_never():
    embeddings = DOORS["openai"].read_call("embeddings", b'{"model":"m","input":"a"}')
    assert is_cacheable(embeddings, None, "deterministic")
    count = DOORS["anthropic"].read_call("count_tokens", jsonx.dumps(body_of("anthropic")))
    assert not is_cacheable(count, None, "all")


@pytest.mark.parametrize(
    ("door", "more"),
    [
        ("openai", {"store": True}),
        ("openai", {"modalities": ["text", "audio"]}),
        ("openai", {"audio": {"voice": "x"}}),
        ("openai", {"web_search_options": {"search_context_size": "low"}}),
        ("responses", {"previous_response_id": "resp_1"}),
        (
            "responses",
            {"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": "msg_1"}]},
        ),
        ("anthropic", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        ("anthropic", {"mcp_servers": [{"url": "https://x.test"}]}),
        ("ollama", {"messages": []}),
        ("ollama", {"keep_alive": 0}),
        ("ollama", {"keep_alive": "0s"}),
    ],
)
def test_what_does_more_than_answer_is_asked_anew(door, more):
    assert not is_cacheable(call_of(door, **more), None, "all")


@pytest.mark.parametrize(
    ("door", "more"),
    [
        ("openai", {"store": False}),
        ("openai", {"modalities": ["text"]}),
        (
            "openai",
            {
                "tools": [
                    {"type": "function", "function": {"name": "f"}},
                    {"type": "custom", "custom": {"name": "c"}},
                ]
            },
        ),
        (
            "anthropic",
            {
                "tools": [
                    {"name": "f", "input_schema": {}},
                    {"type": "custom", "name": "g", "input_schema": {}},
                ]
            },
        ),
        ("ollama", {"keep_alive": "10m"}),
        ("ollama", {"keep_alive": -1}),
        ("responses", {"store": True}),
    ],
)
def test_ordinary_requests_are_not(door, more):
    assert is_cacheable(call_of(door, **more), None, "all")


def exchange(**changes):
    done = Exchange(Request("POST", "/v1/chat/completions", {}), "r", 0.0)
    done.outcome = "ok"
    done.attempts = [Attempt("b", "m", 0.0, outcome="ok")]
    done.usage = Usage(1, 2)
    for name, value in changes.items():
        setattr(done, name, value)
    return done


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"outcome": "error"}, False),
        ({"outcome": "broken"}, False),
        ({"outcome": "cancelled"}, False),
        ({"outcome": "open"}, False),
        ({"error": UpstreamCut("cut")}, False),
        ({"usage": Usage(1, 2, partial=True)}, False),
        ({"rescued": 1}, False),
        ({"attempts": []}, False),
        (
            {
                "attempts": [
                    Attempt("b", "m", 0.0, outcome="upstream_cut"),
                    Attempt("c", "m", 0.0, outcome="ok", purpose="failover"),
                ]
            },
            True,
        ),
        ({"attempts": [Attempt("c", "n", 0.0, outcome="ok", purpose="fallback")]}, False),
        ({"attempts": [Attempt("b", "m", 0.0, outcome="ok"), Attempt("b", "m", 0.0)]}, False),
    ],
)
def test_only_whole_answers_of_the_model_itself_are_kept(changes, expected):
    assert is_keepable(exchange(**changes)) is expected


def test_nothing_there_is_told_as_such():
    error = NotCached("nothing")
    assert (error.status, error.code, error.retryable) == (504, "not_cached", False)
