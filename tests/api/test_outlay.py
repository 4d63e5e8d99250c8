"""What a call may use, read from its members: rather too many tokens, and never an error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.estimate import PER_IMAGE, PER_PAGE
from ghostllm.api.outlay import MOST_TOKENS, NOTHING, Outlay, outlay
from ghostllm.message import Call, Parameters

USUAL = 1024


def call(fields, operation="chat", door="openai"):
    return Call(door, operation, "m", json.dumps(fields).encode(), fields)


def chat(content="Hi", **members):
    return {"model": "m", "messages": [{"role": "user", "content": content}], **members}


def of(fields, operation="chat", door="openai", parameters=None):
    return outlay(call(fields, operation, door), parameters, USUAL)


def test_a_short_prompt():
    assert of(chat()) == Outlay(9, USUAL, False)
    assert of(chat("Hi", model="x" * 400)).prompt == 9, "a model's name is not read by it"


@pytest.mark.parametrize(
    "content", ["word " * 400, "日本語" * 200, [{"type": "text", "text": "word " * 400}]]
)
def test_a_long_prompt_counts_by_its_text(content):
    text = content if isinstance(content, str) else content[0]["text"]
    few = len(text) / 5 if text.isascii() else len(text) * 0.9
    assert few <= of(chat(content)).prompt <= len(text) + 30


@pytest.mark.parametrize(
    ("door", "members", "answer"),
    [
        ("openai", {"max_tokens": 6}, 6),
        ("openai", {"max_completion_tokens": 7, "max_tokens": 6}, 7),
        ("openai", {"max_tokens": 6, "n": 3}, 18),
        ("openai", {"max_tokens": 0}, 0),
        ("openai", {"max_tokens": 10**30}, MOST_TOKENS),
        ("responses", {"max_output_tokens": 9}, 9),
        ("anthropic", {"max_tokens": 5}, 5),
        ("ollama", {"options": {"num_predict": 8}}, 8),
    ],
)
def test_the_client_says_where_the_answer_ends(door, members, answer):
    found = of(chat(**members), door=door)
    assert (found.answer, found.bounded) == (answer, True)


@pytest.mark.parametrize(
    ("door", "members"),
    [
        ("openai", {"max_tokens": None}),
        ("openai", {"max_tokens": "6"}),
        ("openai", {"max_tokens": -1}),
        ("openai", {"max_tokens": True}),
        ("openai", {"options": {"num_predict": 8}}),
        ("ollama", {"options": {"num_predict": -1}}),
        ("ollama", {"options": 3}),
    ],
)
def test_what_is_no_end_leaves_it_open(door, members):
    found = of(chat(**members), door=door)
    assert (found.answer, found.bounded) == (USUAL, False)


def test_parameters_of_the_model():
    parameters = Parameters({"max_tokens": 50}, {})
    assert of(chat(), parameters=parameters).answer == 50
    assert of(chat(max_tokens=6), parameters=parameters).answer == 6
    assert of(chat(max_tokens=600), parameters=Parameters({}, {"max_completion_tokens": 40})).answer == 40


@pytest.mark.parametrize(
    ("prompt", "read", "answers"),
    [("abcd", 1, 1), (["abcd", "efgh"], 2, 2), ([1, 2, 3], 3, 1), ([[1, 2], [3]], 3, 2), ([], 0, 1)],
)
def test_completions_answer_each_prompt(prompt, read, answers):
    found = of({"model": "m", "prompt": prompt, "max_tokens": 4}, "completions")
    assert (found.prompt - 3, found.answer) == (read, 4 * answers)


def test_embeddings_have_no_answer():
    assert of({"model": "m", "input": ["abcd", "abcd"]}, "embeddings") == Outlay(5, 0, True)


@pytest.mark.parametrize("operation", ["count_tokens", "passage"])
def test_what_uses_no_tokens(operation):
    assert of(chat("word " * 100), operation) == NOTHING


def test_images_files_and_sound_count_by_what_they_are():
    data = "A" * 400_000
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    claude = {"type": "image", "source": {"type": "base64", "data": data}}
    sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
    file = {"type": "file", "file": {"file_data": data}}
    plain = of(chat([])).prompt
    assert of(chat([image, claude])).prompt - plain == 2 * PER_IMAGE
    assert of(chat([sound])).prompt - plain == 101
    assert of(chat([file])).prompt - plain == 9 * PER_PAGE
    pictures = {"model": "m", "messages": [{"role": "user", "content": "", "images": [data, data]}]}
    assert 2 * PER_IMAGE <= of(pictures, door="ollama").prompt < 2 * PER_IMAGE + 20


NAMES = st.sampled_from(["type", "images", "prompt", "n", "best_of", "max_tokens", "options", "input", "é"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["messages", "prompt", "n", "max_tokens", "tools", "x"]), JSON))
def test_any_json_has_an_outlay(fields):
    for operation in ("chat", "completions", "embeddings"):
        for door in ("openai", "ollama"):
            found = outlay(Call(door, operation, "m", b"", fields), None, USUAL)
            assert 0 < found.prompt <= MOST_TOKENS and 0 <= found.answer <= MOST_TOKENS


def test_depth_is_no_matter():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert outlay(Call("openai", "chat", "m", b"", {"messages": deep}), None, USUAL).prompt == 3
    while deep:  # or its end would be as deep
        deep = deep[0]
