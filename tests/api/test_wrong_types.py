"""Every documented member of each door's requests, given what it cannot be: an error that names it, or the
request goes on as it is to a backend of the same dialect. Never anything else.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.doors import DOORS
from ghostllm.backends import translator
from ghostllm.config.schema import BackendConfig
from ghostllm.errors import GhostError

Path = tuple[str | int, ...]

KINDS = ("openai", "vllm", "llamacpp", "transformers", "lmstudio", "ollama", "anthropic")
BACKENDS = {kind: translator(BackendConfig(name=kind, kind=kind, url="http://h"), 1 << 20) for kind in KINDS}
WRONG = (
    7,
    -1,
    1.5,
    10**25,
    1e300,
    True,
    False,
    "",
    "wizard",
    "\0",
    [],
    [7],
    [[]],
    {},
    {"a": 7},
    {"type": 7},
    None,
)

REQUIRED = ("model", "messages", "prompt", "input", "max_tokens")

NEUTRAL = {"input": "messages", "logprobs": "top_logprobs", "raw": "model", "suffix": "model"}
"""Members that errors of backends of other dialects know by another name: by what they come to there."""

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
PIXEL = "data:image/png;base64,iVBORw0KGgo="

OPENAI_CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief.", "name": "s"},
        {"role": "user", "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
    ],
    "tools": [{"type": "function", "function": {
        "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
    "response_format": {
        "type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
    "reasoning_effort": "low", "stream": True, "stream_options": {"include_usage": True},
    "metadata": {"k": "v"}, "temperature": 0.5, "top_p": 0.5, "top_k": 5, "min_p": 0.1,
    "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1, "seed": 3, "stop": ["END"],
    "max_tokens": 5, "max_completion_tokens": 5, "logit_bias": {"5": 1}, "logprobs": True, "top_logprobs": 2,
    "n": 1, "user": "u", "store": False, "service_tier": "auto", "modalities": ["text"], "verbosity": "low",
    "prediction": {"type": "content", "content": "x"}, "safety_identifier": "s", "prompt_cache_key": "k",
}  # fmt: skip
COMPLETION = {
    "model": "m", "prompt": ["Once"], "suffix": "end", "max_tokens": 5, "temperature": 0.5, "top_p": 0.5,
    "n": 1, "stream": True, "stream_options": {"include_usage": True}, "logprobs": 1, "echo": False,
    "stop": ["END"], "presence_penalty": 0.1, "frequency_penalty": 0.1, "best_of": 1, "logit_bias": {"5": 1},
    "user": "u", "seed": 3,
}  # fmt: skip
EMBEDDING = {"model": "m", "input": ["a", "b"], "encoding_format": "float", "dimensions": 8, "user": "u"}
MESSAGES = {
    "model": "m", "max_tokens": 5,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "Look"},
            {"type": "image", "source": {
                "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "tool_use", "id": "c1", "name": "f", "input": {"x": 1}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "1"}],
             "is_error": False},
        ]},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA, "type": "custom"}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "stream": True, "temperature": 0.5, "top_p": 0.5,
    "top_k": 5, "stop_sequences": ["END"], "metadata": {"user_id": "u"}, "service_tier": "auto",
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
}  # fmt: skip
RESPONSES = {
    "model": "m", "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "Look"},
            {"type": "input_image", "image_url": PIXEL, "detail": "low"},
        ]},
        {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
    ],
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": True,
    "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"}, "stream": True, "store": False,
    "stream_options": {"include_obfuscation": False}, "include": ["message.output_text.logprobs"],
    "max_output_tokens": 50, "metadata": {"k": "v"}, "temperature": 0.5, "top_p": 0.5, "top_logprobs": 2,
    "truncation": "auto", "previous_response_id": "resp_1", "user": "u", "service_tier": "auto",
}  # fmt: skip
OPTIONS = {
    "temperature": 0.5, "top_p": 0.5, "top_k": 5, "min_p": 0.1, "presence_penalty": 0.1,
    "frequency_penalty": 0.1, "repeat_penalty": 1.1, "seed": 3, "stop": ["END"], "num_predict": 5,
    "num_ctx": 512, "repeat_last_n": 5,
}  # fmt: skip
OLLAMA_CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look", "images": ["iVBORw0KGgo="]},
        {"role": "assistant", "content": "", "thinking": "hm",
         "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "content": "one", "tool_name": "f", "tool_call_id": "c1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}],
    "stream": True, "think": "low", "format": SCHEMA, "options": OPTIONS, "keep_alive": "5m",
    "logprobs": True, "top_logprobs": 2,
}  # fmt: skip
OLLAMA_GENERATE = {
    "model": "m", "prompt": "Once", "system": "s", "images": ["iVBORw0KGgo="], "stream": True, "think": False,
    "format": "json", "options": OPTIONS, "keep_alive": 0, "raw": False, "suffix": "",
}  # fmt: skip
OLLAMA_EMBED = {
    "model": "m",
    "input": ["a"],
    "truncate": True,
    "dimensions": 8,
    "options": OPTIONS,
    "keep_alive": 1,
}

SOUND: dict[tuple[str, str], dict[str, Any]] = {
    ("openai", "chat"): OPENAI_CHAT,
    ("openai", "completions"): COMPLETION,
    ("openai", "embeddings"): EMBEDDING,
    ("anthropic", "messages"): MESSAGES,
    ("anthropic", "count_tokens"): {
        name: MESSAGES[name] for name in MESSAGES if name not in ("max_tokens", "stream")},
    ("responses", "responses"): RESPONSES,
    ("responses", "input_tokens"): RESPONSES,
    ("ollama", "ollama_chat"): OLLAMA_CHAT,
    ("ollama", "ollama_generate"): OLLAMA_GENERATE,
    ("ollama", "ollama_embed"): OLLAMA_EMBED,
    ("ollama", "ollama_embeddings"): {"model": "m", "prompt": "a", "options": OPTIONS},
}  # fmt: skip


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Of every member and element, however deep; not inside schemas, which are the backend's to judge."""
    members: list[tuple[str | int, Any]] = []
    if isinstance(value, dict) and value is not SCHEMA:
        members = list(value.items())
    elif isinstance(value, list):
        members = list(enumerate(value))
    for key, inner in members:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(request: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    request = copy.deepcopy(request)
    holder: Any = request
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return request


def alone(request: dict[str, Any], top: str) -> dict[str, Any]:
    """With the member and those that every request needs, so that no other one is refused first."""
    return {name: value for name, value in request.items() if name == top or name in REQUIRED}


Verdicts = dict[str, "GhostError | dict[str, Any]"]
"""For every kind of backend what is sent to it, or why nothing is; "" where the door itself refuses."""


def judged(door: str, operation: str, request: dict[str, Any]) -> Verdicts:
    try:
        call = DOORS[door].read_call(operation, json.dumps(request).encode())
    except GhostError as error:
        return {"": error}
    found: Verdicts = {}
    for kind, backend in BACKENDS.items():
        try:
            prepared, _ = backend.prepare(call, "upstream", {})
        except GhostError as error:
            found[kind] = error
        else:
            found[kind] = json.loads(b"".join(prepared.body))
    return found


def check(door: str, operation: str, path: Path, value: Any) -> None:
    sound = alone(SOUND[door, operation], str(path[0]))
    request = changed(sound, path, value)
    before = judged(door, operation, sound)
    assert "" not in before, before
    for kind, verdict in judged(door, operation, request).items():
        if isinstance(verdict, GhostError):
            refusal = before.get(kind)
            absent = value is None  # so it may be another member that is refused now
            if not absent and (not isinstance(refusal, GhostError) or refusal.param != verdict.param):
                named(verdict, str(path[0]), (door, kind, path, value))
        elif kind == door:
            assert verdict == {**request, "model": "upstream", **verdict_usage(door, request)}


def verdict_usage(door: str, request: dict[str, Any]) -> dict[str, Any]:
    """What the gateway itself asks for in streams."""
    if door != "openai" or not request.get("stream"):
        return {}
    return {"stream_options": {**(request.get("stream_options") or {}), "include_usage": True}}


def named(error: GhostError, top: str, case: object) -> None:
    assert 400 <= error.status < 500, (error, case)
    assert error.message and error.param is not None, (error.message, case)
    assert error.param.startswith((top, NEUTRAL.get(top, top))), (error.param, error.message, case)


@pytest.mark.parametrize(("door", "operation"), SOUND)
def test_a_member_that_is_not_what_it_should_be(door: str, operation: str) -> None:
    for path in places(SOUND[door, operation]):
        for value in WRONG:
            check(door, operation, path, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(("type", "role", "content", "text", "name", "function", "id", "input", "x")), inner,
        max_size=3,
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(sorted(SOUND)), st.data())
@settings(max_examples=300, deadline=None)
def test_any_json_in_any_place(where: tuple[str, str], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(places(SOUND[where]), key=repr)))
    check(*where, path, data.draw(JSON))
