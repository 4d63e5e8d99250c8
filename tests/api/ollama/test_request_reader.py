"""Ollama's requests to neutral ones: everything arrives, or is refused under its name."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import (
    Continuation,
    Conversation,
    Embeddings,
    FunctionTool,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    Sampling,
    Text,
    ToolCall,
    ToolResult,
)
from ghostllm.api.ollama.request_reader import read_chat, read_embed, read_generate
from ghostllm.api.ollama.request_writer import chat_request, embed_request, generate_request
from ghostllm.api.openai import request_writer as openai
from ghostllm.errors import GhostError, RequestError, UnsupportedParameter, UnsupportedValue
from ghostllm.jsonx import dumps

USER = {"role": "user", "content": "hi"}
MARKS = {
    "image/png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01",
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
    "image/gif": b"GIF89a\x01\x00\x01\x00\x00\x00",
}
PICTURES = {kind: base64.b64encode(mark * 3).decode() for kind, mark in MARKS.items()}
PNG = PICTURES["image/png"]


def chat(*messages, **members):
    return read_chat({"model": "m", "messages": list(messages) or [USER], **members})


def refused(error, read, *messages, **members):
    with pytest.raises(error) as caught:
        read(*messages, **members)
    return caught.value.param, caught.value.message


def generate(**members):
    return read_generate({"model": "m", "prompt": "Once", **members})


# --- messages


def test_a_plain_request_sets_nothing():
    assert chat() == Conversation("m", (Message("user", (Text("hi"),)),), stream=True)
    assert chat(stream=False).stream is False


def test_messages_of_every_role():
    read = chat(
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "look", "images": [PNG]},
        {"role": "assistant", "content": "Hm", "thinking": "well"},
        {"role": "user"},
    )
    assert read.messages == (
        Message("system", (Text("be kind"),)),
        Message("user", (Text("look"), Image(PNG, "image/png"))),
        Message("assistant", (Reasoning("well"), Text("Hm"))),
        Message("user", (Text(""),)),
    )


@pytest.mark.parametrize("kind", sorted(PICTURES))
def test_the_first_bytes_of_an_image_say_what_it_is(kind):
    (message,) = chat({"role": "user", "images": [PICTURES[kind]]}).messages
    assert message.parts == (Image(PICTURES[kind], kind),)


@pytest.mark.parametrize(
    ("message", "error", "param", "words"),
    [
        ({"role": "robot", "content": "x"}, UnsupportedValue, "messages[1].role", "unknown role 'robot'"),
        ({"content": "x"}, RequestError, "messages[1].role", "is required"),
        (
            {"role": "user", "content": [{"type": "text"}]},
            RequestError,
            "messages[1].content",
            "must be a string, not an array",
        ),
        ({"role": "user", "images": "x"}, RequestError, "messages[1].images", "must be an array"),
        ({"role": "user", "images": [PNG, 1]}, RequestError, "messages[1].images[1]", "a string of base64"),
        (
            {"role": "user", "images": ["data:image/png;base64," + PNG]},
            RequestError,
            "messages[1].images[0]",
            "bare base64",
        ),
        ({"role": "user", "images": ["aGVsbG8gd29ybGQh"]}, UnsupportedValue, "messages[1].images[0]", "webp"),
        ({"role": "user", "images": [""]}, UnsupportedValue, "messages[1].images[0]", "no image"),
        (
            {"role": "assistant", "tool_calls": [{"id": "a"}]},
            RequestError,
            "messages[1].tool_calls[0].function",
            "is required",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            RequestError,
            "messages[1].tool_calls[0].function.arguments",
            "must be an object, not a string",
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]},
            RequestError,
            "messages[1].tool_calls[0].function.name",
            "is required",
        ),
        ({"role": "tool", "content": {}}, RequestError, "messages[1].content", "must be a string"),
    ],
)
def test_a_message_that_is_wrong_is_named(message, error, param, words):
    found, text = refused(error, chat, USER, message)
    assert found == param and words in text


# --- calls and results


def called(*names, ids=()):
    calls = [{"function": {"name": name, "arguments": {"of": name}}} for name in names]
    for call, identity in zip(calls, ids, strict=False):
        call["id"] = identity
    return {"role": "assistant", "content": "", "tool_calls": calls}


def result(text, **members):
    return {"role": "tool", "content": text, **members}


def pairs(*messages):
    """Which call each result answers, by the call's name."""
    read = chat(USER, *messages).messages
    calls = {part.id: part.name for said in read for part in said.parts if isinstance(part, ToolCall)}
    results = [part for said in read for part in said.parts if isinstance(part, ToolResult)]
    return [(part.parts[0].text, calls.get(part.id), part.name) for part in results]


def test_calls_keep_their_ids_and_the_order_of_their_arguments():
    call = {"id": "a", "function": {"index": 0, "name": "f", "arguments": {"z": 1, "a": [2.5, None]}}}
    message = chat(USER, {"role": "assistant", "content": "So", "tool_calls": [call]}).messages[1]
    assert message.parts == (Text("So"), ToolCall("a", "f", '{"z":1,"a":[2.5,null]}'))


def test_results_by_order_by_name_and_by_id():
    assert pairs(called("f", "g"), result("1"), result("2")) == [("1", "f", "f"), ("2", "g", "g")]
    assert pairs(called("f", "g"), result("1", tool_name="g"), result("2")) == [
        ("1", "g", "g"),
        ("2", "f", "f"),
    ]
    assert pairs(
        called("f", "g", ids=["a", "b"]), result("1", tool_call_id="b"), result("2", tool_call_id="a")
    ) == [("1", "g", "g"), ("2", "f", "f")]


def test_calls_of_one_name_are_answered_in_order():
    read = chat(USER, called("f", "f"), result("1", tool_name="f"), result("2", tool_name="f")).messages
    ids = [part.id for part in read[1].parts]
    assert len(set(ids)) == 2
    assert [said.parts[0].id for said in read[2:]] == ids


def test_calls_of_several_turns_in_a_row_wait_together():
    """Clients that keep every line of a stream send its calls as turns of their own."""
    assert pairs(called("f"), called("g"), result("1"), result("2")) == [("1", "f", "f"), ("2", "g", "g")]


def test_a_call_that_was_never_answered_takes_no_later_result():
    assert pairs(called("f"), USER, called("g"), result("1")) == [("1", "g", "g")]


def test_an_id_that_only_the_result_has_is_that_of_a_call_without_one():
    assert pairs(called("f"), result("1", tool_call_id="x")) == [("1", "f", "f")]


def test_a_result_of_nothing_stays_one():
    assert pairs(result("1", tool_name="f")) == [("1", None, "f")]
    orphan = chat(USER, result("1", tool_call_id="x")).messages[1]
    assert orphan == Message("tool", (ToolResult("x", (Text("1"),)),))


def test_made_ids_avoid_the_clients_own_and_stay_the_same_in_the_next_turn():
    turns = [USER, called("f", ids=["call_2_0"]), called("g")]
    first = chat(*turns).messages
    assert first[1].parts[0].id == "call_2_0" != first[2].parts[0].id
    assert chat(*turns, result("1"), USER).messages[:3] == first


def test_a_results_images_are_part_of_it():
    message = chat(USER, called("f"), result("", images=[PNG])).messages[2]
    assert message.parts[0].parts == (Image(PNG, "image/png"),)


# --- parameters


def test_options_become_sampling_and_what_only_ollama_knows_keeps_its_name():
    options = {
        "num_predict": 9,
        "stop": ["a", "b"],
        "seed": 7,
        "temperature": 0,
        "top_k": 40,
        "top_p": 0.5,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "num_ctx": 4096,
        "typical_p": 0.7,
        "mirostat": 2,
        "num_gpu": None,
    }
    read = chat(options=options, keep_alive="5m", truncate=False, shift=True, logprobs=True, top_logprobs=3)
    assert read.sampling == Sampling(
        temperature=0,
        top_p=0.5,
        top_k=40,
        min_p=0.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        repetition_penalty=1.1,
        seed=7,
        stop=("a", "b"),
        max_tokens=9,
        logprobs=True,
        top_logprobs=3,
    )
    assert read.extensions == {
        "keep_alive": "5m",
        "truncate": False,
        "shift": True,
        "num_ctx": 4096,
        "typical_p": 0.7,
    }


@pytest.mark.parametrize("limit", [-1, -2, 0, None])
def test_no_limit_has_several_names(limit):
    assert chat(options={"num_predict": limit}).sampling.max_tokens is None


def test_a_seed_below_zero_is_none():
    assert chat(options={"seed": -1}).sampling == Sampling()


def test_top_logprobs_without_logprobs_ask_for_nothing():
    assert chat(top_logprobs=3).sampling == Sampling()


@pytest.mark.parametrize(
    ("think", "effort"),
    [(True, "medium"), (False, "none"), ("low", "low"), ("high", "high"), ("max", "max"), (None, None)],
)
def test_think(think, effort):
    assert chat(think=think).reasoning_effort == effort


def test_formats():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert chat(format="json").response_format == ResponseFormat("json_object")
    assert chat(format=schema).response_format == ResponseFormat("json_schema", schema=schema)
    assert chat(format="").response_format is None


def test_tools():
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": parameters}},
        {"function": {"name": "g"}},
    ]
    assert chat(tools=tools).tools == (FunctionTool("f", "d", parameters), FunctionTool("g"))


@pytest.mark.parametrize(
    ("members", "error", "param", "words"),
    [
        ({"options": []}, RequestError, "options", "must be an object, not an array"),
        ({"options": {"temperature": "hot"}}, RequestError, "options.temperature", "a number, not a string"),
        ({"options": {"stop": [1]}}, RequestError, "options.stop[0]", "a string, not an integer"),
        ({"options": {"seed": 1.5}}, RequestError, "options.seed", "an integer"),
        ({"think": "weird"}, UnsupportedValue, "think", "low, medium, high, max, not 'weird'"),
        ({"think": 1}, RequestError, "think", "not an integer"),
        ({"format": "xml"}, RequestError, "format", "not 'xml'"),
        ({"format": 3}, RequestError, "format", "not an integer"),
        ({"logprobs": True, "top_logprobs": 21}, RequestError, "top_logprobs", "0 to 20"),
        ({"tools": [{}]}, RequestError, "tools[0].function", "is required"),
        ({"tools": [{"type": "custom"}]}, UnsupportedValue, "tools[0].type", "'function', not 'custom'"),
        (
            {"tools": [{"function": {"name": "f", "parameters": []}}]},
            RequestError,
            "tools[0].function.parameters",
            "an object",
        ),
    ],
)
def test_a_parameter_that_is_wrong_is_named(members, error, param, words):
    found, text = refused(error, chat, **members)
    assert found == param and words in text


def test_a_request_for_nothing_has_no_neutral_form():
    for members in ({}, {"messages": []}):
        with pytest.raises(RequestError):
            read_chat({"model": "m", **members})


# --- generate


def test_a_prompt_is_a_turn():
    read = generate(system="be kind", images=[PNG], options={"seed": 1}, think=False, stream=False)
    assert read == Conversation(
        "m",
        (
            Message("system", (Text("be kind"),)),
            Message("user", (Text("Once"), Image(PNG, "image/png"))),
        ),
        sampling=Sampling(seed=1),
        reasoning_effort="none",
    )


def test_a_raw_prompt_and_a_gap_are_no_turns():
    assert generate(raw=True, options={"num_predict": 3}) == Continuation(
        "m", "Once", sampling=Sampling(max_tokens=3), stream=True
    )
    assert generate(suffix="end", think=False, system="") == Continuation("m", "Once", "end", stream=True)


@pytest.mark.parametrize(
    "members",
    [
        {"template": "{{ .Prompt }}"},
        {"context": [1, 2]},
        {"width": 512},
        {"raw": True, "system": "x"},
        {"raw": True, "images": [PNG]},
        {"suffix": "y", "format": "json"},
        {"raw": True, "think": True},
    ],
)
def test_what_only_an_ollama_server_can_do_is_refused(members):
    param, _ = refused(UnsupportedParameter, generate, **members)
    assert param == list(members)[-1]


def test_the_members_of_older_clients_may_be_empty():
    assert generate(template="", context=[], images=[], system="", suffix="").messages == (
        Message("user", (Text("Once"),)),
    )


# --- embeddings


def test_texts_to_embed():
    assert read_embed({"model": "m", "input": "a"}) == Embeddings("m", ("a",))
    members = {"dimensions": 3, "truncate": True, "keep_alive": 0, "options": {"num_ctx": 9}}
    assert read_embed({"model": "m", "input": ["a", ""], **members}) == Embeddings(
        "m", ("a", ""), 3, extensions={"truncate": True, "keep_alive": 0, "num_ctx": 9}
    )
    assert read_embed({"model": "m", "prompt": "a"}, "prompt") == Embeddings("m", ("a",))


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
    ],
)
def test_texts_that_are_none_are_refused(members, param):
    with pytest.raises(RequestError) as caught:
        read_embed({"model": "m", **members})
    assert caught.value.param == param


# --- for backends of other dialects


def test_what_says_how_ollama_computes_is_nothing_to_other_servers():
    asked = chat(
        options={"num_ctx": 4096, "num_thread": 2, "num_predict": 5}, keep_alive=-1, truncate=True, shift=True
    )
    assert openai.write_request(asked) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_calls_without_ids_reach_other_servers_with_them():
    written = openai.write_request(chat(USER, called("f"), result("1", tool_name="f"), USER))["messages"]
    assert written[1]["tool_calls"][0]["id"] == written[2]["tool_call_id"] != ""


# --- there and back


TEXT = st.text(max_size=12)
WORD = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=6,
)
PICTURE = st.sampled_from([kind for kind in sorted(PICTURES) if kind != "image/gif"]).map(
    lambda kind: Image(PICTURES[kind], kind)
)


def _said(text, pictures):
    parts = ([Text(text)] if text else []) + pictures
    return tuple(parts) or (Text(""),)


@st.composite
def conversations(draw):
    """What Ollama can say: one text in a message and the images after it, calls with ids, function tools."""
    messages = []
    for turn in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            messages.append(Message("system", (Text(draw(TEXT)),)))
        messages.append(Message("user", _said(draw(TEXT), draw(st.lists(PICTURE, max_size=2)))))
        parts = [Reasoning(thought)] if (thought := draw(TEXT)) else []
        parts += [Text(text)] if (text := draw(TEXT)) else []
        calls = [
            ToolCall(
                f"c{turn}_{number}", draw(WORD), dumps(draw(st.dictionaries(WORD, JSON, max_size=3))).decode()
            )
            for number in range(draw(st.integers(0, 2)))
        ]
        messages.append(Message("assistant", (*parts, *calls) or (Text(""),)))
        messages += [
            Message("tool", (ToolResult(call.id, (Text(draw(TEXT)),), call.name),))
            for call in draw(st.permutations(calls))
        ]
    tools = tuple(
        FunctionTool(
            name,
            draw(TEXT),
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        )
        for name in draw(st.lists(WORD, max_size=2, unique=True))
    )
    return Conversation(
        "m",
        tuple(messages),
        tools,
        response_format=draw(
            st.sampled_from(
                [
                    None,
                    ResponseFormat("json_object"),
                    ResponseFormat("json_schema", schema={"type": "object"}),
                ]
            )
        ),
        sampling=draw(samplings()),
        reasoning_effort=draw(st.sampled_from([None, "none", "low", "medium", "high", "max"])),
        stream=draw(st.booleans()),
        extensions={"truncate": False, "shift": False, **draw(st.sampled_from([{}, {"num_ctx": 9}]))},
    )


@st.composite
def samplings(draw):
    number = st.none() | st.integers(0, 2) | st.floats(0, 2)
    logprobs = draw(st.booleans())
    return Sampling(
        temperature=draw(number),
        top_p=draw(number),
        min_p=draw(number),
        repetition_penalty=draw(number),
        presence_penalty=draw(number),
        frequency_penalty=draw(number),
        top_k=draw(st.none() | st.integers(0, 99)),
        seed=draw(st.none() | st.integers(0, 2**31)),
        stop=tuple(draw(st.lists(TEXT, max_size=2))),
        max_tokens=draw(st.none() | st.integers(1, 9999)),
        logprobs=logprobs,
        top_logprobs=draw(st.none() | st.integers(0, 20)) if logprobs else None,
    )


@given(conversations())
def test_what_is_written_reads_back(conversation):
    assert read_chat(chat_request(conversation, "m").body) == conversation


@given(TEXT.filter(bool), TEXT, samplings(), st.booleans())
def test_continuations_and_embeddings_read_back(text, suffix, sampling, stream):
    kept = {"truncate": False, "shift": False}
    asked = Continuation("m", text, suffix, sampling=sampling, stream=stream, extensions=kept)
    assert read_generate(generate_request(asked, "m").body) == asked
    embeddings = Embeddings("m", (text, suffix), 3, extensions={"truncate": False, "num_ctx": 1})
    assert read_embed(embed_request(embeddings, "m").body) == embeddings


# --- hostile input

MEMBERS = (
    "role", "content", "images", "tool_calls", "function", "name", "arguments", "id", "tool_name", "thinking",
    "tool_call_id", "num_predict", "stop", "seed", "type", "parameters",
)  # fmt: skip
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "tool", "assistant", "user", PNG]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=4),
    max_leaves=12,
)
TOP = (
    "messages", "tools", "format", "options", "think", "logprobs", "top_logprobs", "stream", "prompt", "raw",
    "suffix", "system", "images", "context", "template", "input", "dimensions", "keep_alive",
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from(TOP), ANYTHING, max_size=5),
    st.lists(st.dictionaries(st.sampled_from(MEMBERS), ANYTHING, max_size=4), max_size=3),
)
def test_nothing_but_errors_of_ours_for_anything(fields, messages):
    for read in (read_chat, read_generate, read_embed):
        for known in ({"messages": messages}, {}):
            try:
                read({"model": "m", **fields, **known})
            except GhostError as error:
                assert error.message


def test_arguments_nested_too_deeply_are_refused():
    deep: dict[str, object] = {}
    for _ in range(5000):
        deep = {"a": deep}
    call = {"function": {"name": "f", "arguments": deep}}
    param, _ = refused(RequestError, chat, USER, {"role": "assistant", "tool_calls": [call]})
    assert param == "messages[1].tool_calls[0].function.arguments"
