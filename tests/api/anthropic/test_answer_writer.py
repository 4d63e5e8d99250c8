"""Anthropic's answers, streamed and whole: what a strict reader makes of them, and the reader beside them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import errors, jsonx
from ghostllm.api.anthropic.answer_reader import MessagesReader
from ghostllm.api.anthropic.answer_writer import MessagesWriter
from ghostllm.api.anthropic.message_reader import OWN_SIGNATURE, own_signature
from ghostllm.api.canonical import (
    Finish,
    Fold,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Start,
    Text,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.message import Usage
from tests.api.anthropic.streams import answers, events_of, message_of

STOP = Finish("stop")
USAGE = UsageEvent(Usage(3, 4))


def streamed(*events):
    writer = MessagesWriter("msg_1", "m")
    return b"".join(map(writer.event, events)) + writer.end()


def whole(*events):
    return jsonx.loads(MessagesWriter("msg_1", "m").whole(Fold(events).answer()))


def content(*events):
    """The blocks of a stream, tool input still as text."""
    return message_of(streamed(*events, STOP))["content"]


def call(name, arguments, identity="call_a"):
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def text(words):
    return {"type": "text", "text": words}


# --- streams


def test_a_stream_of_text_byte_for_byte():
    stream = streamed(
        Start(), TextDelta("Grüße "), TextDelta('"🙂"\n'), STOP, UsageEvent(Usage(9, 4, cached=2))
    )
    assert stream.decode() == (
        'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
        '"role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":'
        '{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}\n\n'
        'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        '{"type":"text","text":""}}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        '{"type":"text_delta","text":"Grüße "}}\n\n'
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
        '{"type":"text_delta","text":"\\"🙂\\"\\n"}}\n\n'
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
        '"stop_sequence":null},"usage":{"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":4}}\n\n'
        'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


@pytest.mark.parametrize(
    "first",
    [Start(), TextDelta("x"), ReasoningDelta("x"), RefusalDelta("x"), ToolCallDelta(0, "{}", "a", "f")],
)
def test_the_message_starts_before_anything_else_and_once(first):
    writer = MessagesWriter("msg_1", "m")
    begin = events_of(writer.event(first))
    assert begin[0][0] == "message_start"
    rest = events_of(writer.event(TextDelta("y")) + writer.end())
    assert "message_start" not in [name for name, _ in rest]


def test_an_answer_of_nothing_is_a_message_all_the_same():
    message = message_of(streamed(STOP, USAGE))
    assert message["content"] == [] and message["stop_reason"] == "end_turn"


def test_each_event_goes_out_when_it_comes():
    writer = MessagesWriter("msg_1", "m")
    for event in (Start(), TextDelta("a"), TextDelta("b"), ToolCallDelta(0, '{"a', "x", "f")):
        assert writer.event(event)
    assert writer.event(ToolCallDelta(0, '":1}'))
    assert writer.event(STOP) == writer.event(USAGE) == b""  # they stand at the very end


def test_events_that_say_nothing_write_nothing():
    writer = MessagesWriter("msg_1", "m")
    writer.event(Start())
    for event in (TextDelta(""), ReasoningDelta(""), RefusalDelta(""), Start()):
        assert writer.event(event) == b""


def test_thinking_ends_with_a_signature_before_the_text():
    thinking, answer = content(ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("Hi"))
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": OWN_SIGNATURE}
    assert own_signature(thinking["signature"]) and answer == text("Hi")


def test_the_backends_signature_is_kept_and_ends_its_block():
    assert content(
        ReasoningDelta("a", "sig1"),
        ReasoningDelta("b"),
        ReasoningDelta("", "sig2"),
        ReasoningDelta("", "sig3"),
    ) == [
        {"type": "thinking", "thinking": "a", "signature": "sig1"},
        {"type": "thinking", "thinking": "b", "signature": "sig2"},
        {"type": "thinking", "thinking": "", "signature": "sig3"},
    ]
    assert not own_signature("sig1")


def test_sealed_thinking_is_a_block_by_itself():
    sealed = {"type": "redacted_thinking", "data": "xyz"}
    assert content(ReasoningDelta("a"), ReasoningDelta("", redacted="xyz"), TextDelta("b"))[1:] == [
        sealed,
        text("b"),
    ]


def test_logprobs_are_left_out():
    tokens = (TokenLogprob("Hi", -0.25),)
    assert content(TextDelta("Hi", tokens), TextDelta("!", tokens)) == [text("Hi!")]


def test_interleaved_calls_become_one_after_the_other():
    assert content(
        ToolCallDelta(0, "", "call_a", "f"),
        ToolCallDelta(1, '{"y"', "call_b", "g"),
        ToolCallDelta(0, '{"x":"\\ud83d'),
        ToolCallDelta(1, ":2}"),
        ToolCallDelta(0, '\\ude42"}'),
    ) == [call("f", '{"x":"\\ud83d\\ude42"}'), call("g", '{"y":2}', "call_b")]


def test_a_call_waits_only_while_the_one_before_it_is_open():
    writer = MessagesWriter("msg_1", "m")
    writer.event(ToolCallDelta(0, '{"a":"}', "call_a", "f"))
    assert writer.event(ToolCallDelta(1, '{"b":', "call_b", "g")) == b""
    assert writer.event(ToolCallDelta(1, "1}")) == b""
    names = [name for name, _ in events_of(writer.event(ToolCallDelta(0, '"}')))]
    start, delta, stop = (f"content_block_{name}" for name in ("start", "delta", "stop"))
    assert names == [delta, stop, start, delta, stop]
    assert [name for name, _ in events_of(writer.event(TextDelta("then")))] == [start, delta]


def test_arguments_that_come_before_id_and_name_are_kept():
    assert content(
        ToolCallDelta(0, '{"a"'),
        ToolCallDelta(0, ":"),
        ToolCallDelta(0, "1", "call_a", "f"),
        ToolCallDelta(0, "}"),
    ) == [call("f", '{"a":1}')]


def test_a_call_is_not_over_before_its_name_has_come():
    late = ToolCallDelta(0, "", "call_a", "f")
    assert content(ToolCallDelta(0, "{}"), TextDelta("x"), late) == [call("f", "{}"), text("x")]


def test_a_call_without_id_or_name_gets_one_at_the_end():
    first, second = content(ToolCallDelta(0, '{"a":1}', "", "f"), ToolCallDelta(1, "{}", "call_b", ""))
    assert first == call("f", '{"a":1}', "toolu_msg_1_0")
    assert second == call("unknown", "{}", "call_b")


@pytest.mark.parametrize("arguments", ["", " ", "\n\t"])
def test_no_arguments_are_an_empty_object(arguments):
    assert content(ToolCallDelta(0, arguments, "call_a", "f")) == [call("f", "{}")]


def test_the_free_form_input_of_custom_tools_becomes_an_object():
    (block,) = content(
        ToolCallDelta(0, 'x = "', "call_a", "run", custom=True), ToolCallDelta(0, '1"\n', custom=True)
    )
    assert jsonx.loads(block["input"]) == {"input": 'x = "1"\n'}
    (block,) = content(ToolCallDelta(0, "", "call_a", "run", custom=True))
    assert jsonx.loads(block["input"]) == {"input": ""}


def test_what_follows_whole_arguments_is_no_part_of_them():
    blocks = content(
        ToolCallDelta(0, "{}", "call_a", "f"), TextDelta("x"), ToolCallDelta(0, "!"), TextDelta("y")
    )
    assert blocks == [call("f", "{}"), text("xy")]


@pytest.mark.parametrize(
    ("finish", "reason", "sequence"),
    [
        (Finish("stop"), "end_turn", None),
        (Finish("stop", "END"), "stop_sequence", "END"),
        (Finish("length"), "max_tokens", None),
        (Finish("tool_calls"), "tool_use", None),
        (Finish("content_filter"), "refusal", None),
        (Finish("pause"), "pause_turn", None),
    ],
)
def test_stop_reasons(finish, reason, sequence):
    for message in (message_of(streamed(TextDelta("x"), finish)), whole(TextDelta("x"), finish)):
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_a_refusal_is_told_in_words_and_in_the_reason():
    for message in (message_of(streamed(RefusalDelta("No."), STOP)), whole(RefusalDelta("No."), STOP)):
        assert message["content"] == [text("No.")] and message["stop_reason"] == "refusal"


def test_an_end_that_nobody_announced_is_not_called_one():
    assert message_of(streamed(TextDelta("x")))["stop_reason"] is None


@pytest.mark.parametrize(
    ("usage", "member"),
    [
        (Usage(), {"output_tokens": 0}),
        (Usage(0, 0), {"input_tokens": 0, "output_tokens": 0}),
        (
            Usage(100, 7, cached=60, cache_write=30, reasoning=5),
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 30,
                "cache_read_input_tokens": 60,
                "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 5},
            },
        ),
        (Usage(5, 1, cached=9), {"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 1}),
    ],
)
def test_usage_counts_the_input_without_the_cache(usage, member):
    *_, (_, delta), _ = events_of(streamed(TextDelta("x"), STOP, UsageEvent(usage)))
    assert delta["usage"] == member
    zeros = dict.fromkeys(("cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens"), 0)
    assert whole(TextDelta("x"), STOP, UsageEvent(usage))["usage"] == {**zeros, **member}


def test_a_broken_stream_ends_with_an_error_and_closes_nothing():
    writer = MessagesWriter("msg_1", "m")
    writer.event(TextDelta("x"))
    ((name, value),) = events_of(writer.error(errors.UpstreamCut("the backend is gone")))
    assert name == "error"
    assert value["error"] == {"type": "api_error", "message": "the backend is gone"}


# --- whole answers


def test_a_whole_answer():
    assert whole(
        Start(),
        ReasoningDelta("hm"),
        ReasoningDelta("", redacted="xyz"),
        TextDelta("Hi"),
        ToolCallDelta(0, '{"x":1}', "call_a", "f"),
        ToolCallDelta(1, "free", "call_b", "g", custom=True),
        Finish("tool_calls"),
        USAGE,
    ) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": OWN_SIGNATURE},
            {"type": "redacted_thinking", "data": "xyz"},
            text("Hi"),
            call("f", {"x": 1}),
            call("g", {"input": "free"}, "call_b"),
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 4,
        },
    }


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", '"x"', "null", "nonsense", "{" * 100_000])
def test_arguments_that_are_no_object_stay_readable(arguments):
    (block,) = whole(ToolCallDelta(0, arguments, "call_a", "f"), Finish("tool_calls"))["content"]
    assert block["input"] == {"INVALID_JSON": arguments}


def test_arguments_too_deep_to_be_written_as_json_stay_readable():
    deep = '{"a":' * 300 + "1" + "}" * 300  # orjson reads 1024 levels and writes 254; json does both
    (block,) = whole(ToolCallDelta(0, deep, "call_a", "f"), Finish("tool_calls"))["content"]
    assert block["input"] in ({"INVALID_JSON": deep}, jsonx.loads(deep))


@pytest.mark.parametrize("arguments", ["", "  "])
def test_no_arguments_of_a_whole_answer(arguments):
    (block,) = whole(ToolCallDelta(0, arguments, "call_a", "f"), Finish("tool_calls"))["content"]
    assert block["input"] == {}


def test_calls_of_a_whole_answer_get_ids_and_names_too():
    first, second = whole(TextDelta("x"), ToolCallDelta(0, "{}"), Finish("tool_calls"))["content"]
    assert first == text("x") and second == call("unknown", {}, "toolu_msg_1_1")


# --- any answer


@settings(deadline=None)
@given(answers())
def test_a_stream_tells_the_same_as_the_whole_body(events):
    told = message_of(streamed(*events))
    for block in told["content"]:
        if block["type"] == "tool_use":
            block["input"] = jsonx.loads(block["input"])
    assert told == whole(*events)


@settings(deadline=None)
@given(answers())
def test_the_reader_understands_what_the_writer_says(events):
    """Refusals are text in this dialect, so they are not told from it."""
    events = [TextDelta(event.text) if isinstance(event, RefusalDelta) else event for event in events]
    reader = MessagesReader(backend="x", limit=1 << 20)
    back = Fold([*reader.feed(streamed(*events)), *reader.finish()]).answer()
    assert list(map(plain, back.parts)) == list(map(plain, Fold(events).answer().parts))


def plain(part):
    if isinstance(part, Reasoning):
        return Reasoning(part.text, part.signature.replace(OWN_SIGNATURE, ""), part.redacted)
    if isinstance(part, ToolCall):
        return (part.id, part.name, jsonx.loads(part.arguments.strip() or "{}"))
    return part


short = st.text(max_size=4) | st.sampled_from(["{", "}", '"', "\\", "{}", ""])
anything = st.one_of(
    st.builds(Start),
    st.builds(TextDelta, short),
    st.builds(RefusalDelta, short),
    st.builds(ReasoningDelta, short, short, short),
    st.builds(ToolCallDelta, st.integers(0, 3), short, short, short, st.booleans()),
    st.just(STOP),
    st.just(USAGE),
)


@settings(deadline=None)
@given(st.lists(anything, max_size=14))
def test_whatever_comes_the_blocks_are_balanced_and_no_text_is_lost(events):
    told = message_of(streamed(*events))["content"]
    parts = Fold([*events, STOP]).answer().parts
    said = [part.text for part in parts if isinstance(part, Text | Refusal)]
    assert "".join(block.get("text", "") for block in told) == "".join(said)
    calls = {event.index for event in events if isinstance(event, ToolCallDelta)}
    assert len([block for block in told if block["type"] == "tool_use"]) == len(calls)
