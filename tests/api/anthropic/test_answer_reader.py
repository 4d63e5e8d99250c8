"""Anthropic's wire format, byte for byte, to neutral events: under every split, and whatever goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.anthropic.answer_reader import MessagesReader
from ghostllm.api.anthropic.failures import answered
from ghostllm.api.canonical import (
    Finish,
    Fold,
    Reasoning,
    ReasoningDelta,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.errors import (
    ContextLengthExceeded,
    GhostError,
    UpstreamAnswered,
    UpstreamCut,
    UpstreamProtocolError,
)
from ghostllm.jsonx import dumps
from ghostllm.message import Usage

USAGE = {
    "input_tokens": 7,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 4,
    "output_tokens": 1,
}
COUNTS = Usage(prompt=13, completion=9, cached=4, cache_write=2)


def event(kind, **members):
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps({"type": kind, **members}))


def begins(index, **block):
    return event("content_block_start", index=index, content_block=block)


def delta(index, kind, **members):
    return event("content_block_delta", index=index, delta={"type": kind, **members})


def ends(index):
    return event("content_block_stop", index=index)


def says(text, index=0):
    return delta(index, "text_delta", text=text)


def stops(reason, **members):
    return event(
        "message_delta",
        delta={"stop_reason": reason, "stop_sequence": None, **members},
        usage={"output_tokens": 9},
    ) + event("message_stop")


HEAD = event("message_start", message={"id": "msg_1", "model": "claude", "content": [], "usage": USAGE})
PING = event("ping")
TEXT = begins(0, type="text", text="")
THINKING = (
    begins(0, type="thinking", thinking="", signature="")
    + delta(0, "thinking_delta", thinking="hm")
    + delta(0, "thinking_delta", thinking="…")
    + delta(0, "signature_delta", signature="EqQB==")
    + ends(0)
    + begins(1, type="redacted_thinking", data="sealed")
    + ends(1)
)
CALLS = (
    begins(2, type="tool_use", id="toolu_1", name="f", input={})
    + delta(2, "input_json_delta", partial_json="")
    + delta(2, "input_json_delta", partial_json='{"a": "\\ud83d')
    + delta(2, "input_json_delta", partial_json='\\ude42"}')
    + ends(2)
    + begins(3, type="tool_use", id="toolu_2", name="g", input={})
    + ends(3)
)
STREAM = HEAD + PING + TEXT + says("Grü") + PING + says("ße 🙂") + ends(0) + stops("end_turn")
FULL = HEAD + THINKING + CALLS + stops("tool_use")


def reader(limit=4096, **options):
    return MessagesReader(backend="backend 'b'", limit=limit, **options)


def play(pieces, **options):
    """The events of a stream and the error that ended it, if one did."""
    reading = reader(**options)
    events = []
    try:
        for piece in pieces:
            events += reading.feed(piece)
        events += reading.finish()
    except GhostError as error:
        return events, error
    return events, None


def sound(stream, **options):
    events, error = play([stream], **options)
    assert error is None
    return events


def failed(stream, **options):
    _, error = play([stream], **options)
    assert error is not None
    return error


def test_a_stream_of_text():
    reading = reader()
    assert reading.feed(HEAD) == [Start()]
    assert reading.usage == Usage(13, 1, 4, 2)
    assert reading.feed(PING + TEXT) == [] and not reading.committed
    assert reading.feed(says("Hi")) == [TextDelta("Hi")] and reading.committed
    assert reading.feed(ends(0)) == [] and not reading.complete
    assert reading.feed(stops("end_turn")) == [Finish("stop"), UsageEvent(COUNTS)]
    assert reading.complete and reading.finish() == []


def test_thinking_keeps_its_signature_and_sealed_thinking_stands_alone():
    assert sound(FULL)[1:5] == [
        ReasoningDelta("hm"),
        ReasoningDelta("…"),
        ReasoningDelta("", "EqQB=="),
        ReasoningDelta("", redacted="sealed"),
    ]
    assert Fold(sound(FULL)).answer().parts[:2] == (
        Reasoning("hm…", "EqQB=="),
        Reasoning("", redacted="sealed"),
    )


def test_calls_are_numbered_as_calls_and_have_arguments_in_any_case():
    events = sound(FULL)
    assert events[5:9] == [
        ToolCallDelta(0, "", "toolu_1", "f"),
        ToolCallDelta(0, '{"a": "\\ud83d'),
        ToolCallDelta(0, '\\ude42"}'),
        ToolCallDelta(1, "", "toolu_2", "g"),
    ]
    assert events[9:11] == [ToolCallDelta(1, "{}"), Finish("tool_calls")]


def test_a_call_commits_with_its_name():
    reading = reader()
    reading.feed(HEAD)
    reading.feed(begins(0, type="tool_use", id="t", name="f", input={}))
    assert reading.committed


def test_arguments_that_came_with_the_block_are_not_lost():
    block = begins(0, type="tool_use", id="t", name="f", input={"b": 1, "a": [2]}) + ends(0)
    assert sound(HEAD + block + stops("tool_use"))[2] == ToolCallDelta(0, '{"b":1,"a":[2]}')


def test_a_call_whose_block_is_not_closed_is_one_all_the_same():
    events = sound(HEAD + begins(0, type="tool_use", id="t", name="f", input={}) + stops("tool_use"))
    assert events[2:4] == [ToolCallDelta(0, "{}"), Finish("tool_calls")]


def test_only_the_first_call_counts_where_one_is_wanted():
    events = sound(FULL, single=True)
    assert [e.name for e in events if isinstance(e, ToolCallDelta) and e.name] == ["f"]


@pytest.mark.parametrize(
    ("reason", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause"),
        ("tool_use", "stop"),  # without a call there is none to make
        ("tired", "stop"),
    ],
)
def test_stop_reasons(reason, meant):
    assert Finish(meant) in sound(HEAD + TEXT + says("x") + ends(0) + stops(reason))


def test_the_stop_sequence_met_is_told():
    events = sound(HEAD + TEXT + says("x") + stops("stop_sequence", stop_sequence="\n\n"))
    assert Finish("stop", "\n\n") in events


def test_figures_of_the_end_replace_those_of_the_beginning():
    last = event(
        "message_delta",
        delta={"stop_reason": "end_turn"},
        usage={
            "input_tokens": 3,
            "cache_read_input_tokens": 0,
            "output_tokens": 0,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    )
    assert sound(HEAD + last)[-1] == UsageEvent(Usage(5, 0, 0, 2, 5))


def test_nobody_said_is_not_zero():
    bare = event("message_start", message={"id": "m", "content": []})
    end = event("message_delta", delta={"stop_reason": "end_turn"}) + event("message_stop")
    events = sound(bare + TEXT + says("x") + end)
    assert events[-1] == Finish("stop")


def test_what_nobody_knows_yet_is_passed_over():
    strange = (
        event("message_shrug", mood=1)
        + begins(0, type="server_tool_use", id="srv", name="web_search", input={})
        + delta(0, "input_json_delta", partial_json='{"query"')
        + ends(0)
        + begins(1, type="text", text="", citations=[])
        + delta(1, "citations_delta", citation={"cited_text": "x"})
        + delta(1, "hologram_delta", light=3)
        + says("so", 1)
    )
    assert sound(HEAD + strange + stops("end_turn"))[:-1] == [Start(), TextDelta("so"), Finish("stop")]


def test_after_the_stop_reason_nothing_is_missing_without_message_stop():
    end = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9})
    reading = reader()
    assert Finish("stop") not in reading.feed(HEAD + TEXT + says("x") + end)
    assert reading.complete
    assert reading.finish() == [Finish("stop"), UsageEvent(COUNTS)]


def test_what_follows_the_end_is_not_part_of_the_answer():
    assert sound(STREAM + says("more") + b"junk") == sound(STREAM)


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"])
def test_other_line_ends(newline):
    assert sound(b"\xef\xbb\xbf: hi\n\n".replace(b"\n", newline) + STREAM.replace(b"\n", newline)) == sound(
        STREAM
    )


@pytest.mark.parametrize("stream", [STREAM, FULL], ids=["text", "calls"])
def test_a_stream_cut_in_two_anywhere_is_the_same_stream(stream):
    whole = sound(stream)
    for cut in range(len(stream)):
        assert play([stream[:cut], stream[cut:]]) == (whole, None)


def test_byte_by_byte():
    assert play([FULL[i : i + 1] for i in range(len(FULL))]) == (sound(FULL), None)


def test_a_stream_that_ends_too_early_is_cut():
    end = FULL.index(b'"stop_reason":"tool_use"')
    for cut in range(len(HEAD), end):
        assert isinstance(failed(FULL[:cut]), UpstreamCut), FULL[:cut][-40:]


# --- errors


def error(kind, message="so it is"):
    return event("error", error={"type": kind, "message": message})


@pytest.mark.parametrize(
    ("kind", "status", "code", "retryable"),
    [
        ("overloaded_error", 503, "overloaded", True),
        ("api_error", 502, "upstream_error", True),
        ("rate_limit_error", 429, "rate_limit_exceeded", True),
        ("timeout_error", 504, "upstream_timeout", True),
        ("authentication_error", 502, "upstream_refused", True),
        ("billing_error", 502, "upstream_refused", True),
        ("invalid_request_error", 400, None, False),
        ("new_error", 502, "upstream_error", True),
    ],
)
def test_an_error_event_is_the_servers_own(kind, status, code, retryable):
    found = failed(HEAD + error(kind))
    assert isinstance(found, UpstreamAnswered)
    assert (found.status, found.code, found.retryable) == (status, code, retryable)


def test_an_error_after_the_stop_reason_still_counts():
    end = event("message_delta", delta={"stop_reason": "end_turn"})
    events, found = play([HEAD + TEXT + says("x") + end, error("api_error")])
    assert isinstance(found, UpstreamAnswered) and Finish("stop") not in events


def test_sound_content_before_a_fault_is_given_first():
    reading = reader()
    reading.feed(HEAD + TEXT + says("a"))
    assert reading.feed(says("b") + error("overloaded_error")) == [TextDelta("b")]
    assert isinstance(reading.fault, UpstreamAnswered)
    for step in (lambda: reading.feed(says("c")), reading.finish):
        with pytest.raises(UpstreamAnswered):
            step()
    assert failed(HEAD + TEXT + says("a") + error("overloaded_error")).status == 503


def test_secrets_do_not_come_through():
    found = failed(
        HEAD + error("api_error", "key sk-123 broke"), blot=lambda text: text.replace("sk-123", "*")
    )
    assert found.message == "key * broke"


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        PING,
        event("message_stop"),
        b"data: {]\n\n",
        b"data: 3\n\n",
        b"<html>\n\n",
        b'{"id":"msg_1","content":[]}',
        HEAD + HEAD,
        HEAD + says("x"),
        HEAD + TEXT + TEXT,
        HEAD + event("content_block_start", index=0),
        HEAD + event("content_block_delta", index=0, delta=3),
        HEAD + begins([], type="text"),
        HEAD + begins(0, type="tool_use", name="f", input={}),
        HEAD + TEXT + delta(0, "text_delta", text=5),
        HEAD + event("message_delta", delta={"stop_reason": 3}),
        b"data: " + b"x" * 5000,
    ],
)
def test_what_is_no_answer_is_a_protocol_error(stream):
    found = failed(stream)
    assert isinstance(found, UpstreamProtocolError) and found.retryable


def test_a_bare_error_where_a_stream_was_asked_for():
    assert failed(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}').status == 503


# --- whole answers


def whole(content, reason="end_turn", **members):
    message = {"type": "message", "content": content, "stop_reason": reason, "usage": USAGE, **members}
    return reader().whole(dumps(message))


def test_a_whole_answer():
    answer = Fold(
        whole(
            [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Hi"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"z": 1, "a": "é"}},
            ],
            "tool_use",
        )
    ).answer()
    assert answer.parts == (Reasoning("hm", "s"), Text("Hi"), ToolCall("t", "f", '{"z":1,"a":"é"}'))
    assert answer.finish == Finish("tool_calls") and answer.usage == Usage(13, 1, 4, 2)


def test_an_answer_of_nothing_is_what_the_model_had_to_say():
    assert Fold(whole([])).answer().parts == ()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"<html>", b'{"content":"x"}', b'{"content":[3]}', b'{"content":[]}']
)
def test_a_body_that_is_no_message(body):
    with pytest.raises(UpstreamProtocolError):
        reader().whole(body)


# --- answers that are no success


def failure(status, kind, message):
    body = dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
    return answered(status, body, "backend 'b'", retry_after=3.0)


@pytest.mark.parametrize(
    ("status", "kind", "message", "shown", "code", "retryable"),
    [
        (400, "invalid_request_error", "messages.0: roles", 400, None, False),
        (400, "invalid_request_error", "Your credit balance is too low to…", 502, "upstream_refused", True),
        (401, "authentication_error", "invalid x-api-key", 502, "upstream_refused", True),
        (403, "permission_error", "no", 502, "upstream_refused", True),
        (404, "not_found_error", "model: claude-none", 404, "model_not_found", True),
        (413, "request_too_large", "Request exceeds the maximum size", 413, None, True),
        (429, "rate_limit_error", "slow down", 429, "rate_limit_exceeded", True),
        (500, "api_error", "Internal server error", 502, "upstream_error", True),
        (504, "timeout_error", "late", 504, "upstream_timeout", True),
        (529, "overloaded_error", "Overloaded", 503, "overloaded", True),
    ],
)
def test_errors_of_anthropics(status, kind, message, shown, code, retryable):
    found = failure(status, kind, message)
    assert isinstance(found, UpstreamAnswered)
    assert (found.upstream_status in (status, 402), found.status, found.code) == (True, shown, code)
    assert (found.retryable, found.retry_after) == (retryable, 3.0)


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 208310 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 198000 + 21333 > 200000, decrease input length",
    ],
)
def test_a_prompt_that_does_not_fit(message):
    found = failure(400, "invalid_request_error", message)
    assert type(found) is ContextLengthExceeded and found.message == message


# --- whatever comes


@st.composite
def streams(draw):
    """A sound stream, and the text, thinking and calls that are in it."""
    kinds = draw(st.lists(st.sampled_from(["text", "thinking", "call"]), max_size=5))
    parts, stream = [], HEAD
    for index, kind in enumerate(kinds):
        pieces = draw(st.lists(st.text(max_size=6), min_size=1, max_size=4))
        said = "".join(pieces)
        if kind == "text":
            stream += begins(index, type="text", text="") + b"".join(says(piece, index) for piece in pieces)
            parts.append(Text(said))
        elif kind == "thinking":
            stream += begins(index, type="thinking", thinking="")
            stream += b"".join(delta(index, "thinking_delta", thinking=piece) for piece in pieces)
            stream += delta(index, "signature_delta", signature=f"s{index}")
            parts.append(Reasoning(said, f"s{index}"))
        else:
            stream += begins(index, type="tool_use", id=f"t{index}", name="f", input={})
            stream += b"".join(delta(index, "input_json_delta", partial_json=piece) for piece in pieces)
            parts.append(ToolCall(f"t{index}", "f", said or "{}"))
        stream += ends(index) + draw(st.sampled_from([b"", PING, b": hi\n\n"]))
    return stream + stops("end_turn"), parts


def merged(parts):
    """Texts in a row are one, as the neutral form has it."""
    out = []
    for part in parts:
        if isinstance(part, Text) and out and isinstance(out[-1], Text):
            out[-1] = Text(out[-1].text + part.text)
        elif part != Text(""):
            out.append(part)
    return tuple(part for part in out if part != Text(""))


@settings(deadline=None)
@given(streams(), st.lists(st.integers(0, 5000), max_size=20))
def test_any_answer_in_any_pieces_is_read_whole(made, cuts):
    stream, parts = made
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    pieces = [stream[a:b] for a, b in zip(places, places[1:], strict=False)]
    events, error = play(pieces, limit=1 << 20)
    assert error is None
    assert Fold(events).answer().parts == merged(parts)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KINDS = (
    "message_start content_block_start content_block_delta content_block_stop message_delta message_stop "
    "error ping text tool_use thinking text_delta input_json_delta"
).split()
NAMES = (
    "index delta content_block message error usage content text thinking partial_json stop_reason "
    "input_tokens output_tokens_details id name input"
).split()
members = st.dictionaries(
    st.sampled_from(NAMES),
    json_values
    | st.integers(0, 1)
    | st.dictionaries(st.sampled_from([*NAMES, "type"]), json_values | st.sampled_from(KINDS), max_size=4),
    max_size=4,
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), members), max_size=6), st.binary(max_size=20))
def test_nothing_but_our_own_errors_is_raised(sent, junk):
    for end in (b"", stops("end_turn"), junk):
        play([b"".join(event(kind, **each) for kind, each in sent) + end])
        play([HEAD, TEXT, says("x"), *(event(kind, **each) for kind, each in sent), end])
    for _, each in sent:
        try:
            reader().whole(dumps({"type": "message", "stop_reason": "end_turn", "content": [each], **each}))
        except GhostError:
            pass


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_taken_or_refused(data):
    play([data])
    play([STREAM[:300], data, STREAM[300:]])
    try:
        reader().whole(data)
    except GhostError:
        pass
