"""What makes two requests the same, and what does not."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.doors import DOORS
from ghostllm.cache.key import LEFT_OUT, Scope, key_of, parts_of, tenant_digest
from ghostllm.message import Parameters

OPERATIONS = {"openai": "chat", "responses": "responses", "anthropic": "messages", "ollama": "ollama_chat"}
SCOPE = Scope("alice", "m", ("vllm",))


def call_of(body, door="openai", operation=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return DOORS[door].read_call(operation or OPERATIONS[door], data)


def body_of(door="openai", **more):
    asked = {"input": "Hi"} if door == "responses" else {"messages": [{"role": "user", "content": "Hi"}]}
    return {"model": "m", **asked, **({"max_tokens": 9} if door == "anthropic" else {}), **more}


def key(body, door="openai", scope=SCOPE, headers=None):
    return key_of(call_of(body, door), scope, headers or {})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.text(max_size=6).filter(
    lambda name: name not in ("model", "messages", "stream", "stream_options", "n")
)
BODIES = st.dictionaries(NAMES, VALUES, max_size=5).map(lambda more: body_of(**more))


def respelled(value, chance):
    """The same JSON in other words: another order, other spaces, other escapes."""
    space = lambda: chance.choice(["", " ", "\n", "\t "])  # noqa: E731
    if isinstance(value, dict):
        pairs = [
            f"{space()}{respelled(name, chance)}{space()}:{respelled(item, chance)}"
            for name, item in value.items()
        ]
        chance.shuffle(pairs)
        return "{" + ",".join(pairs) + space() + "}"
    if isinstance(value, list):
        return "[" + ",".join(space() + respelled(item, chance) for item in value) + "]"
    return json.dumps(value, ensure_ascii=chance.random() < 0.5) + space()


@given(BODIES, st.integers())
def test_order_and_spelling_do_not_matter(body, seed):
    text = respelled(body, random.Random(seed)).encode()
    assert key(text) == key(body) is not None


@given(BODIES, BODIES)
def test_other_bodies_have_other_keys(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    left_out = lambda body: {name: value for name, value in body.items() if name not in LEFT_OUT["openai"]}  # noqa: E731
    same = same or json.dumps(left_out(one), sort_keys=True) == json.dumps(left_out(other), sort_keys=True)
    assert (key(one) == key(other)) == same


@given(BODIES, st.data())
def test_every_member_counts(body, data):
    counted = [name for name in body if name not in LEFT_OUT["openai"] and name not in ("model", "messages")]
    if counted:
        name = data.draw(st.sampled_from(counted))
        assert key({key: value for key, value in body.items() if key != name}) != key(body)


@pytest.mark.parametrize("door", OPERATIONS)
def test_members_that_the_model_never_sees_do_not_count(door):
    values = {
        "stream": True,
        "stream_options": {},
        "user": "u",
        "safety_identifier": "s",
        "store": True,
        "metadata": {"a": "b"},
    }
    plain = key(body_of(door), door)
    for name in LEFT_OUT[door]:
        assert key(body_of(door, **{name: values[name]}), door) == plain, name
    for name in {"user", "store", "safety_identifier"} - LEFT_OUT[door]:
        assert key(body_of(door, **{name: values[name]}), door) != plain, name


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0},
        {"temperature": 0.5},
        {"seed": 1},
        {"tools": []},
        {"max_tokens": 5},
        {"n": 2},
        {"stop": "x"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"made_up": 1},
        {"model": "other"},
        {"messages": [{"role": "system", "content": "Hi"}]},
        {"cache_salt": "x"},
    ],
)
def test_every_parameter_counts(more):
    assert key(body_of(**more)) != key(body_of())


SCOPES = [
    SCOPE,
    Scope("bob", "m", ("vllm",)),
    Scope("alice", "n", ("vllm",)),
    Scope("alice", "m", ("ollama",)),
    Scope("alice", "m", ("ollama", "vllm")),
    Scope("alice", "m"),
    Scope("alice", "m", ("vllm",), Parameters({}, {})),
    Scope("alice", "m", ("vllm",), Parameters({"seed": 1}, {})),
    Scope("alice", "m", ("vllm",), Parameters({}, {"seed": 1})),
    Scope('alice","openai', "m", ("vllm",)),
]


def test_tenant_model_kinds_and_parameters_count():
    keys = [key(body_of(), scope=scope) for scope in SCOPES]
    assert len(set(keys)) == len(SCOPES)
    assert {parts_of(key)[0] for key in keys} == {"m", "n"}
    assert {parts_of(key)[1] for key in keys} >= {tenant_digest("alice")}


def test_doors_and_forms_count():
    asked = {"model": "m", "prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    calls = [
        call_of(asked),
        call_of(asked, "openai", "completions"),
        call_of(asked, "anthropic"),
        call_of(asked, "ollama"),
        call_of(asked, "ollama", "ollama_generate"),
        call_of({**asked, "raw": True}, "ollama", "ollama_generate"),
    ]
    assert len({key_of(call, SCOPE, {}) for call in calls}) == len(calls)


def test_header_fields_that_change_the_answer_count():
    plain = key(body_of())
    assert key(body_of(), headers={b"anthropic-beta": b"x"}) != plain
    assert key(body_of(), headers={b"anthropic-version": b"x"}) != key(
        body_of(), headers={b"anthropic-beta": b"x"}
    )
    assert key(body_of(), headers={b"anthropic-beta": b""}) != plain
    for name in (b"traceparent", b"authorization", b"idempotency-key", b"user-agent"):
        assert key(body_of(), headers={name: b"x"}) == plain


@pytest.mark.parametrize(
    "text",
    [
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"seed":1,"seed":2}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"seed" : 1, "seed" :2}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"se\\u0065d":1,"seed":2}',
        b'{"model":"m","messages":[{"role":"user","role":"user","content":"a"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"\\u0022"}],"user":"a","user":"b"}',
        b'{"model":"m","messages":[{"role":"user","content":"\\u0022\\u0022\\u0022\\u0022"}],"a":{"":1,"":2}}',
    ],
)
def test_what_can_be_read_in_two_ways_has_no_key(text):
    assert key(text) is None


def test_an_escaped_quotation_mark_is_no_member():
    plain = key(body_of(messages=[{"role": "user", "content": 'a"b'}]))
    assert key(b'{"model":"m","messages":[{"role":"user","content":"a\\u0022b"}]}') == plain is not None


def test_what_is_nested_too_deeply_has_no_key():
    depth = 300
    assert key(
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"x":' + b"[" * depth + b"]" * depth + b"}"
    ) in (
        None,
        key(
            b'{"model":"m","messages":[{"role":"user","content":"a"}],"x": '
            + b"[" * depth
            + b"]" * depth
            + b"}"
        ),
    )
