"""What a call needs, of whatever body."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.doors import DOORS
from ghostllm.api.needs import needs
from ghostllm.errors import GhostError
from ghostllm.message import Call


def needed(door, operation, fields, model="m"):
    return needs(DOORS[door].read_call(operation, jsonx.dumps({"model": model, **fields})))


def user(*parts, **more):
    return {"messages": [{"role": "user", "content": list(parts), **more}]}


TEXT = {"type": "text", "text": 'an image_url of "type": "image", and \'images\''}
URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
INPUT = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
FILE = {"type": "input_image", "file_id": "file-1"}


@pytest.mark.parametrize(
    ("door", "operation", "fields", "expected"),
    [
        ("openai", "chat", {"messages": [{"role": "user", "content": "hi"}]}, "chat"),
        ("openai", "chat", user(TEXT), "chat"),
        ("openai", "chat", user(TEXT, URL), "chat vision"),
        ("openai", "chat", {**user(URL), "tools": [{"type": "function"}]}, "chat tools vision"),
        ("openai", "chat", {**user(TEXT), "tools": []}, "chat"),
        ("openai", "completions", {"prompt": "an \"image\""}, "completions"),
        ("openai", "embeddings", {"input": ["a \"image\"", "b"]}, "embeddings"),
        ("anthropic", "messages", {**user(BLOCK), "max_tokens": 1}, "chat vision"),
        ("anthropic", "messages", {**user({"type": "tool_result", "tool_use_id": "t", "content": [BLOCK]}),
                                   "max_tokens": 1}, "chat vision"),
        ("responses", "responses", {"input": "hi"}, "chat"),
        ("responses", "responses", {"input": [{"role": "user", "content": [INPUT]}]}, "chat vision"),
        ("responses", "responses", {"input": [{"role": "user", "content": [FILE]}]}, "chat vision"),
        ("responses", "responses", {"input": [{"type": "function_call_output", "call_id": "c",
                                               "output": [FILE]}]}, "chat vision"),
        ("ollama", "chat", {"messages": [{"role": "user", "content": "x", "images": ["AA"]}]}, "chat vision"),
        ("ollama", "chat", {"messages": [{"role": "user", "content": "x", "images": []}]}, "chat"),
        ("ollama", "generate", {"prompt": "x", "images": ["AA"]}, "chat vision"),
        ("ollama", "embed", {"input": "x"}, "embeddings"),
    ],
)  # fmt: skip
def test_what_a_call_of_each_door_needs(door, operation, fields, expected):
    if door == "ollama":
        operation = f"ollama_{operation}"
    assert needed(door, operation, fields) == set(expected.split())


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4)
    | st.sampled_from(("image", "image_url", "input_image", "user")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(("type", "content", "output", "images", "role", "image")), inner, max_size=4
    ),
    max_leaves=25,
)  # fmt: skip
MEMBERS = ("messages", "input", "prompt", "images", "tools", "content")


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(MEMBERS), VALUES), st.sampled_from(("chat", "count_tokens", "passage"))
)
def test_no_body_raises(fields, operation):
    body = jsonx.dumps({**fields, "note": '"image'})
    found = needs(Call("openai", operation, "m", body, jsonx.loads(body)))
    assert found <= {"chat", "tools", "vision"}
    assert ("tools" in found) == bool(fields.get("tools"))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(MEMBERS), VALUES), st.sampled_from(sorted(DOORS)))
def test_a_body_that_a_door_takes_has_needs(fields, door):
    operation = {"openai": "chat", "anthropic": "messages", "responses": "responses", "ollama": "ollama_chat"}
    body = jsonx.dumps({"model": "m", "max_tokens": 1, **fields, "note": '"image'})
    try:
        call = DOORS[door].read_call(operation[door], body)
    except GhostError:
        return
    needs(call)


@pytest.mark.parametrize("depth", [1, 100, 400])
@pytest.mark.parametrize("member", ["content", "output"])
def test_an_image_is_found_as_deep_as_json_goes(depth, member):
    def body(inmost):
        return b'{"messages":[%b%b%b]}' % (b'{"%b":[' % member.encode() * depth, inmost, b"]}" * depth)

    for inmost, vision in ((b'{"type":"image"}', True), (b'{"type":"text","image":1}', False)):
        text = body(inmost)
        assert ("vision" in needs(Call("openai", "chat", "m", text, jsonx.loads(text)))) == vision


def test_the_body_may_be_a_buffer():
    body = bytearray(jsonx.dumps(user(URL)))
    assert "vision" in needs(Call("openai", "chat", "m", body, jsonx.loads(body)))
