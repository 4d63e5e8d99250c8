"""Answers that are given again: from a stream or whole, as a stream or whole, in every dialect, read back
with the readers of those dialects.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.anthropic.answer_reader import MessagesReader
from ghostllm.api.canonical import (
    Answer,
    Finish,
    Fold,
    Reasoning,
    ReasoningDelta,
    Start,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.api.doors import DOORS
from ghostllm.api.ollama.answer_reader import AnswerReader
from ghostllm.api.ollama.request_writer import OllamaRequest
from ghostllm.api.openai.answer_reader import ChatReader, CompletionReader
from ghostllm.api.recording import OVERHEAD, Recorder, Recording, load, record
from ghostllm.errors import UpstreamCut
from ghostllm.message import Usage
from tests.api.anthropic.streams import message_of
from tests.api.responses.streams import parts_of, response_of

USAGE = Usage(12, 7, cached=4, reasoning=3)
TOLD = Usage(12, 7, cached=12, reasoning=3)
TALK = (
    Start(),
    ReasoningDelta("Let me "),
    ReasoningDelta("see."),
    TextDelta("It is "),
    TextDelta('"forty\n'),
    TextDelta('two" ☃ ,"id":"x"}'),
    ToolCallDelta(0, '{"x"', "call_7", "f"),
    ToolCallDelta(0, ":1}"),
    ToolCallDelta(1, '{"x":2}', "call_8", "g"),
    Finish("tool_calls"),
    UsageEvent(USAGE),
)
OPERATIONS = {"openai": "chat", "responses": "responses", "anthropic": "messages", "ollama": "ollama_chat"}
CHATS = tuple(OPERATIONS)


def ids():
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


def call_of(door, stream, operation="", **fields):
    asked = {"input": "Hi"} if door == "responses" else {"messages": [{"role": "user", "content": "Hi"}]}
    body = {"model": "m", **asked, "stream": stream, **({"max_tokens": 9} if door == "anthropic" else {})}
    return DOORS[door].read_call(operation or OPERATIONS[door], jsonx.dumps({**body, **fields}))


def written(call, events, created=1):
    """What the client of a call gets when a backend says this."""
    writer = DOORS[call.door].writer(call, created, ids())
    if call.stream:
        return b"".join(map(writer.event, events)) + writer.end()
    return writer.whole(Fold(events).answer())


def readers(call):
    kind = {"backend": "b", "limit": 1 << 20}
    if call.door == "openai":
        return ChatReader(**kind, mint=str) if call.operation == "chat" else CompletionReader(**kind)
    if call.door == "anthropic":
        return MessagesReader(**kind)
    return AnswerReader(OllamaRequest("", {}), str, 1 << 20)


def read(call, data) -> Answer:
    """By the dialect's own reader; it raises for whatever is not whole and sound."""
    if call.door == "responses":
        response = response_of(data) if call.stream else jsonx.loads(data)
        figures = response["usage"]
        usage = Usage(
            figures["input_tokens"],
            figures["output_tokens"],
            figures["input_tokens_details"]["cached_tokens"],
            reasoning=figures["output_tokens_details"]["reasoning_tokens"],
        )
        return Answer(parts_of(response["output"]), Finish("stop"), usage)
    reader = readers(call)
    events = reader.feed(data) + reader.finish() if call.stream else reader.whole(data)
    return Fold(events).answer()


def bare(answer):
    """Without what only Anthropic has: signatures of thinking."""
    return [Reasoning(part.text) if isinstance(part, Reasoning) else part for part in answer.parts]


@pytest.mark.parametrize("asked", [True, False], ids=["as-stream", "as-whole"])
@pytest.mark.parametrize("kept", [True, False], ids=["from-stream", "from-whole"])
@pytest.mark.parametrize("door", CHATS)
def test_it_is_the_same_answer_in_every_form(door, kept, asked):
    options = {"stream_options": {"include_usage": True}} if door == "openai" else {}
    first, again = call_of(door, kept, **options), call_of(door, asked, **options)
    data = written(first, TALK)
    recording = record(first, data, USAGE)
    replay = recording.replay(again, 1_700_000_000, lambda prefix: f"{prefix}new")
    answer = read(again, replay)
    assert bare(answer) == bare(Fold(TALK).answer())
    assert recording.usage == TOLD
    if door == "ollama":  # no place for cached tokens
        assert (answer.usage.prompt, answer.usage.completion) == (12, 7)
        assert b"2023-11-14T22:13:20Z" in replay and b"1970" not in replay
    elif door == "anthropic":
        assert (answer.usage.prompt, answer.usage.cached, answer.usage.completion) == (12, 12, 7)
        assert b'"input_tokens":0,' in replay and b'"msg_new"' in replay and b'"msg_1"' not in replay
        if asked:
            assert message_of(replay)["usage"]["cache_read_input_tokens"] == 12
    else:
        assert answer.usage == TOLD and b"1700000000" in replay
    if door == "openai":
        assert b'"chatcmpl-new"' in replay and b'"chatcmpl-1"' not in replay and b'"created":1,' not in replay


@pytest.mark.parametrize("door", CHATS)
def test_a_stream_is_told_in_few_events(door):
    call = call_of(door, True)
    events = [Start(), *(TextDelta(f" {number}") for number in range(500)), Finish("stop"), UsageEvent(USAGE)]
    data = written(call, events)
    recording = record(call, data, USAGE)
    assert recording.size < len(data) / 4
    replay = recording.replay(call, 5, ids())
    assert replay.count(b"\n") < 40
    assert read(call, replay).parts == (Text("".join(f" {number}" for number in range(500))),)


@pytest.mark.parametrize("kept", [None, False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_openais_streams_tell_their_usage_to_who_asks(kept, asked):
    """None: whole, which always tells it."""

    def call(told):
        return call_of("openai", told is not None, stream_options={"include_usage": bool(told)})

    recording = record(call(kept), written(call(kept), TALK), USAGE)
    answer = read(call(asked), recording.replay(call(asked), 5, ids()))
    assert answer.usage == (Usage() if asked is False else TOLD)


@pytest.mark.parametrize("door", CHATS)
def test_no_prefix_of_a_stream_is_kept(door):
    call = call_of(door, True, **({"stream_options": {"include_usage": True}} if door == "openai" else {}))
    data = written(call, TALK)
    end = data.rstrip(b"\n")
    assert record(call, data, USAGE) is not None
    assert [at for at in range(len(end)) if record(call, data[:at], USAGE) is not None] == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("door", CHATS)
@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "pause"])
def test_only_what_the_model_ended_is_kept(door, reason, stream):
    call = call_of(door, stream)
    recording = record(
        call, written(call, [Start(), TextDelta("x"), Finish(reason), UsageEvent(USAGE)]), USAGE
    )
    # Only Anthropic has a word for a pause; in the other dialects it is an answer like any.
    assert (recording is not None) == (reason in ("stop", "length") or (reason, door) in PAUSES)


PAUSES = [("pause", door) for door in CHATS if door != "anthropic"]


@pytest.mark.parametrize("door", CHATS)
def test_errors_are_not_kept(door):
    call = call_of(door, True)
    writer = DOORS[door].writer(call, 1, ids())
    data = b"".join(map(writer.event, TALK[:5]))
    assert record(call, data + writer.error(UpstreamCut("cut")), USAGE) is None
    whole = call_of(door, False)
    assert record(whole, DOORS[door].render_error(UpstreamCut("cut")), USAGE) is None


def test_a_response_is_written_for_its_own_request():
    first = call_of("responses", True, metadata={"of": "alice"}, user="alice", store=False)
    again = call_of("responses", False, metadata={"of": "bob"})
    recording = record(first, written(first, TALK), USAGE)
    assert b"alice" not in recording.dump()
    response = jsonx.loads(recording.replay(again, 5, ids()))
    assert (response["metadata"], response["user"], response["store"]) == ({"of": "bob"}, None, True)
    assert again.response == response  # to be stored, as if it had come from a backend


def test_responses_keep_their_logprobs():
    tokens = (TokenLogprob("Hi", -0.5, (72, 105), (TokenLogprob("Ho", -2.0, (72, 111)),)),)
    call = call_of("responses", True, include=["message.output_text.logprobs"])
    data = written(call, [Start(), TextDelta("Hi", tokens), Finish("stop"), UsageEvent(USAGE)])
    replay = response_of(record(call, data, USAGE).replay(call, 5, ids()))
    assert (
        replay["output"][0]["content"][0]["logprobs"]
        == response_of(data)["output"][0]["content"][0]["logprobs"]
    )


@pytest.mark.parametrize("door", ["openai", "ollama"])
@pytest.mark.parametrize(("kept", "asked"), [(True, False), (False, True), (True, True)])
def test_logprobs_stay_with_their_text(door, kept, asked):
    tokens = [TokenLogprob(text, -0.5, tuple(text.encode()), ()) for text in ("He", "llo")]
    events = [
        Start(),
        *(TextDelta(token.token, (token,)) for token in tokens),
        Finish("stop"),
        UsageEvent(USAGE),
    ]
    first, again = call_of(door, kept), call_of(door, asked)
    answer = read(again, record(first, written(first, events), USAGE).replay(again, 5, ids()))
    assert answer.parts == (Text("Hello"),) and [token.token for token in answer.logprobs] == ["He", "llo"]


# --- what only OpenAI's dialect has


def chunk(choices, **more):
    return (
        b"data: "
        + jsonx.dumps(
            {
                "id": "c",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": "m",
                "choices": choices,
                **more,
            }
        )
        + b"\n\n"
    )


def test_several_choices_and_unknown_members_survive():
    stream = (
        chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])
        + b": ping\n\n"
        + chunk([{"index": 1, "delta": {"content": "one"}, "finish_reason": None}])
        + chunk([{"index": 0, "delta": {"content": "ze"}, "finish_reason": None}])
        + chunk(
            [{"index": 0, "delta": {"content": "ro", "annotations": [{"url": "u"}]}, "finish_reason": None}]
        )
        + chunk([{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 7}])
        + chunk([{"index": 1, "delta": {}, "finish_reason": "length"}], system_fingerprint="fp")
        + b"data: [DONE]\n\n"
    )
    first, again = call_of("openai", True, n=2), call_of("openai", False, n=2)
    recording = record(first, stream, USAGE)
    whole = jsonx.loads(recording.replay(again, 5, ids()))
    assert [choice["message"]["content"] for choice in whole["choices"]] == ["zero", "one"]
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["stop", "length"]
    assert whole["choices"][0]["message"]["annotations"] == [{"url": "u"}]
    assert (whole["choices"][0]["stop_reason"], whole["system_fingerprint"]) == (7, "fp")
    assert (whole["object"], whole["id"], whole["created"]) == ("chat.completion", "chatcmpl-1", 5)
    back = record(again, jsonx.dumps(whole), USAGE).replay(first, 6, ids())
    assert jsonx.loads(record(first, back, USAGE).replay(again, 5, ids())) == whole


def test_a_choice_without_its_end_is_not_kept():
    stream = (
        chunk([{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}])
        + chunk([{"index": 1, "delta": {"content": "b"}, "finish_reason": None}])
        + b"data: [DONE]\n\n"
    )
    assert record(call_of("openai", True, n=2), stream, USAGE) is None


def test_calls_that_share_a_number_are_not_kept():
    """As some servers number them: what belongs to which cannot be told."""
    calls = [
        {"index": 0, "id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        for name in ("a", "b")
    ]
    stream = b"".join(
        chunk([{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]) for call in calls
    )
    stream += chunk([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]) + b"data: [DONE]\n\n"
    assert record(call_of("openai", True), stream, USAGE) is None


def test_names_that_are_told_with_every_fragment_are_told_once():
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    stream = chunk([{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}])
    call["function"]["arguments"] = " "
    stream += (
        chunk([{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}])
        + b"data: [DONE]\n\n"
    )
    again = call_of("openai", False)
    answer = read(again, record(call_of("openai", True), stream, USAGE).replay(again, 5, ids()))
    assert answer.parts == (ToolCall("a", "f", "{} "),)


@pytest.mark.parametrize(("kept", "asked"), [(True, False), (False, True), (True, True), (False, False)])
def test_completions(kept, asked):
    def call(stream):
        body = {"model": "m", "prompt": "Once", "stream": stream, "stream_options": {"include_usage": True}}
        return DOORS["openai"].read_call("completions", jsonx.dumps(body))

    data = written(
        call(kept), [Start(), TextDelta(" upon"), TextDelta(" a"), Finish("length"), UsageEvent(USAGE)]
    )
    replay = record(call(kept), data, USAGE).replay(call(asked), 5, ids())
    answer = read(call(asked), replay)
    assert answer == Answer((Text(" upon a"),), Finish("length"), TOLD) and b'"cmpl-1"' in replay


def test_embeddings_are_given_as_they_are():
    call = DOORS["openai"].read_call("embeddings", b'{"model":"m","input":"a"}')
    data = DOORS["openai"].write_embeddings(call, [[0.25, -1.5]], Usage(3))
    assert record(call, data, Usage(3)).replay(call, 5, ids()) == data
    assert record(call, b'{"object":"list","data":[]}', Usage(3)) is None


def test_ollamas_durations_are_not_told_again():
    call = call_of("ollama", False)
    whole = jsonx.loads(written(call, TALK))
    data = jsonx.dumps(
        {**whole, "total_duration": 9, "load_duration": 1, "eval_duration": 5, "context": [1, 2]}
    )
    again = jsonx.loads(record(call, data, USAGE).replay(call, 5, ids()))
    assert "eval_duration" not in again and "total_duration" not in again and again["context"] == [1, 2]
    embed = DOORS["ollama"].read_call("ollama_embed", b'{"model":"m","input":"a"}')
    data = b'{"model":"m","embeddings":[[0.5]],"total_duration":7,"prompt_eval_count":2}'
    kept = record(embed, data, Usage(2)).replay(embed, 5, ids())
    assert jsonx.loads(kept) == {"model": "m", "embeddings": [[0.5]], "prompt_eval_count": 2}


def test_anthropics_own_tools_begin_as_they_are():
    result = {"type": "web_search_tool_result", "tool_use_id": "srv", "content": [{"title": "t"}]}
    content = [
        {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "q"}},
        result,
        {"type": "text", "text": "It is so.", "citations": [{"cited_text": "so"}]},
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
    ]
    whole = {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 2},
    }
    first, again = call_of("anthropic", False), call_of("anthropic", True)
    stream = record(first, jsonx.dumps(whole), USAGE).replay(again, 5, ids())
    kept = jsonx.loads(record(again, stream, USAGE).replay(first, 5, ids()))
    assert kept["content"] == content
    assert kept["usage"]["cache_read_input_tokens"] == 5 and kept["usage"]["input_tokens"] == 0


# --- the recorder, and stores outside


def test_a_recorder_keeps_no_more_than_it_may():
    call = call_of("openai", True)
    data = written(call, TALK)
    enough, short = Recorder(len(data)), Recorder(len(data) - 1)
    for at in range(0, len(data), 10):
        enough.take(data[at : at + 10])
        short.take(data[at : at + 10])
    assert enough.recording(call, USAGE) is not None and short.recording(call, USAGE) is None


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("door", CHATS)
def test_what_is_dumped_is_loaded(door, stream):
    call = call_of(door, stream)
    recording = record(call, written(call, TALK), USAGE)
    copy = load(recording.dump())
    assert copy.replay(call, 5, ids()) == recording.replay(call, 5, ids())
    assert (copy.usage, copy.size, repr(copy)) == (recording.usage, recording.size, repr(recording))


@given(st.data())
def test_a_dump_that_was_tampered_with_is_refused_or_read(data):
    call = call_of("openai", True)
    dump = bytearray(record(call, written(call, TALK), USAGE).dump())
    at = data.draw(st.integers(0, len(dump) - 1))
    dump[at] = data.draw(st.integers(0, 255))
    for text in (bytes(dump), bytes(dump[:at])):
        copy = load(text)
        for asked in (call, call_of("openai", False)):
            try:
                assert copy is None or copy.replay(asked, 5, ids())
            except ValueError:
                pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "choices",
                    "index",
                    "delta",
                    "message",
                    "content",
                    "finish_reason",
                    "tool_calls",
                    "id",
                    "usage",
                    "type",
                    "output",
                    "status",
                    "done",
                    "done_reason",
                    "error",
                    "stop_reason",
                )
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.sampled_from(CHATS), st.booleans(), JSON)
def test_nothing_that_comes_by_makes_it_fail(door, stream, value):
    call = call_of(door, stream)
    text = jsonx.dumps(value)
    data = b"data: " + text + b"\n\ndata: [DONE]\n\n" if stream and door != "ollama" else text + b"\n"
    recording = record(call, data, USAGE)
    if recording is not None:
        for form in (True, False):
            try:
                recording.replay(call_of(door, form), 5, ids())
            except ValueError:
                pass


def test_no_text_passes_for_an_id():
    """An answer that quotes its own id, or what stands in its place."""
    call = call_of("openai", False)
    text = 'chatcmpl-1 "id":"chatcmpl-1"'
    data = written(call, [Start(), TextDelta(text), Finish("stop"), UsageEvent(USAGE)])
    answer = jsonx.loads(record(call, data, USAGE).replay(call, 5, lambda prefix: prefix + "new"))
    assert answer["choices"][0]["message"]["content"] == text and answer["id"] == "chatcmpl-new"


def test_its_size_covers_what_it_holds():
    assert Recording(("openai", "chat"), (False, False), USAGE, [b"x" * 100]).size >= OVERHEAD + 100
