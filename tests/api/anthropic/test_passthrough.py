"""Pass-through: bytes stay as they are, and what they say is understood, however the network cuts them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.anthropic.passthrough import STOP, MessagesPassThrough
from ghostllm.errors import GhostError, UpstreamAnswered, UpstreamCut, UpstreamProtocolError
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call, Usage

USAGE = {"input_tokens": 7, "cache_read_input_tokens": 4, "output_tokens": 1}


def answer(*, model="claude", operation="chat", limit=4096):
    call = Call("anthropic", operation, model, b"{}", {"model": model}, True, True)
    return MessagesPassThrough(call, backend="backend 'b'", limit=limit)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def padded(value):
    """As Anthropic writes it: blanks before the last brace hide how long the text is."""
    return compact(value)[:-1] + "        }"


def style(dump, end):
    """A function that writes one event in one server's style."""

    def event(kind, **members):
        return f"event: {kind}{end}data: {dump({'type': kind, **members})}{end}{end}".encode()

    return event


event = style(compact, "\n")
STYLES = {
    "compact": event,
    "padded": style(padded, "\n"),
    "spaced": style(json.dumps, "\n"),
    "crlf": style(compact, "\r\n"),
    "cr": style(compact, "\r"),
    "sorted": style(lambda value: json.dumps(value, sort_keys=True), "\n"),
}
TEXTS = ["Hi", " {", "é🙂", 'say "stop_reason": 5', "\\", "\n\n", "}}\n\nevent: error", "\x7f", "", "x" * 300]


def delta(write, index, kind, **members):
    return write("content_block_delta", index=index, delta={"type": kind, **members})


def stream(write=event):
    """An answer of text, thinking and a call, event by event. Its third event is the first content."""
    message = {"id": "msg_1", "type": "message", "model": "claude", "content": [], "usage": USAGE}
    return [
        write("message_start", message=message),
        write("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
        delta(write, 0, "thinking_delta", thinking="hm"),
        write("ping"),
        delta(write, 0, "signature_delta", signature="EqQB=="),
        write("content_block_stop", index=0),
        write("content_block_start", index=1, content_block={"type": "text", "text": ""}),
        *(delta(write, 1, "text_delta", text=text) for text in TEXTS),
        write("content_block_stop", index=1),
        write("content_block_start", index=2, content_block={"type": "tool_use", "id": "t", "name": "f"}),
        delta(write, 2, "input_json_delta", partial_json='{"model": "clau'),
        delta(write, 2, "input_json_delta", partial_json='de"}'),
        write("content_block_stop", index=2),
        write("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
        write("message_stop"),
    ]


def run(reading, pieces):
    out = [reading.feed(piece) for piece in pieces]
    return b"".join(out) + reading.finish()


def outcome(reading, pieces):
    """All that was given, and what went wrong."""
    out = b""
    try:
        for piece in pieces:
            out += reading.feed(piece)
        out += reading.finish()
    except GhostError as error:
        return out, type(error), reading.usage
    return out, None, reading.usage


def pieces_at(data, cuts):
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


def values(data):
    """The data of each event, which knows its kind."""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [loads(line[6:]) for line in lines if line.startswith(b"data: ")]


@pytest.mark.parametrize("write", STYLES.values(), ids=STYLES)
def test_every_event_comes_out_as_the_object_it_went_in_as(write):
    reading = answer()
    events = stream(write)
    for index, piece in enumerate(events):
        assert reading.feed(piece) is piece
        assert reading.committed == (index >= 2)
        assert reading.complete == (index >= len(events) - 2)
    assert reading.finish() == b"" and reading.fault is None
    assert reading.usage == Usage(prompt=11, completion=9, cached=4)


@pytest.mark.parametrize("write", STYLES.values(), ids=STYLES)
def test_a_stream_cut_in_two_anywhere_is_the_same_stream(write):
    data = b"".join(stream(write))
    for cut in range(len(data)):
        reading = answer()
        assert run(reading, [data[:cut], data[cut:]]) == data
        assert reading.complete and reading.usage.completion == 9


def test_byte_by_byte():
    data = b"\xef\xbb\xbf: hello\n\n" + b"".join(stream())
    assert run(answer(), [data[i : i + 1] for i in range(len(data))]) == data


@settings(deadline=None)
@given(st.sampled_from(sorted(STYLES)), st.lists(st.integers(0, 10_000), max_size=40))
def test_only_the_models_name_changes_whatever_the_cuts(name, cuts):
    data = b"".join(stream(STYLES[name]))
    out = run(answer(model='the "alias"'), pieces_at(data, cuts))
    expected = values(data)
    expected[0]["message"]["model"] = 'the "alias"'
    assert values(out) == expected
    tail = data[data.index(b"content_block_start") :]
    assert out.endswith(tail)


def test_several_tokens_in_one_read_are_one_object():
    reading = answer()
    events = stream()
    for piece in events[:7]:
        reading.feed(piece)
    block = b"".join(events[7:17])
    assert reading.feed(block) is block


def test_a_call_commits_with_its_name_and_sealed_thinking_with_itself():
    for block in ({"type": "tool_use", "id": "t", "name": "f"}, {"type": "redacted_thinking", "data": "x"}):
        reading = answer()
        reading.feed(event("content_block_start", index=0, content_block=block))
        assert reading.committed


def test_empty_deltas_and_pings_do_not_commit():
    reading = answer()
    reading.feed(b"".join(stream()[:2]) + event("ping") + delta(event, 0, "text_delta", text=""))
    assert not reading.committed


# --- pieces that look like tokens


def started():
    reading = answer(limit=1 << 16)
    for piece in stream()[:3]:
        reading.feed(piece)
    return reading


HEAD, TAIL = delta(event, 0, "text_delta", text="|").split(b"|")
CHARS = st.sampled_from(
    [b"a", b'"', b"\\", b"\\n", b"\\u00e9", b"\\ud83d", b"\\ude42", b"\\x", b"\xc3", b"\xa9", b"\n", b"\x00",
     b"}}", b"\n\nevent: error\ndata: {\"type\":\"error\"}\n\n", b'","type":"error', b"\r", b"\xe2\x80\xa8"]
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(st.lists(CHARS | st.binary(max_size=3), max_size=6), st.integers(1, 200))
def test_a_token_is_judged_alike_whole_and_in_pieces(chars, cut):
    """The pattern takes nothing that the parser would refuse."""
    token = HEAD + b"".join(chars) + TAIL
    rest = [b"".join(stream()[-2:])]
    whole = outcome(started(), [token, *rest])
    assert outcome(started(), [token[:cut], token[cut:], *rest]) == whole
    assert outcome(started(), [bytes([byte]) for byte in token] + rest) == whole


@pytest.mark.parametrize("text", [b"\\x", b"\xff", b"\t", b'"'])
def test_tokens_that_are_no_json_are_faults(text):
    reading = started()
    with pytest.raises(UpstreamProtocolError):
        reading.feed(HEAD + text + TAIL)


@pytest.mark.parametrize("text", [b"\\ud83d\\ude42", b"\\uD7FF", "\u2028".encode(), b"\\\\", b"\\/"])
def test_tokens_that_are_sound_pass(text):
    token = HEAD + text + TAIL
    assert started().feed(token) is token


# --- ends


def test_a_cut_stream_has_no_end():
    events = stream()
    data = b"".join(events)
    end = len(data) - len(events[-1]) - len(events[-2])
    for cut in range(len(events[0]), end + 10):
        reading = answer()
        with pytest.raises(UpstreamCut):
            run(reading, [data[:cut]])
        assert not reading.complete


def test_the_terminator_is_added_where_it_alone_is_missing():
    data = b"".join(stream()[:-1])
    reading = answer()
    assert run(reading, [data]) == data + STOP and reading.complete
    assert STOP == stream()[-1]


def test_a_last_event_without_its_empty_line_counts():
    data = b"".join(stream())
    assert run(answer(), [data[:-2]]) == data


def test_what_follows_the_end_is_dropped():
    data = b"".join(stream())
    assert run(answer(), [data + b"event: x\n\njunk"]) == data
    assert run(answer(), [data, b"junk"]) == data


@pytest.mark.parametrize("data", [b"", event("ping"), event("message_stop"), b"<html>\n\n", b"data: 3\n\n"])
def test_an_answer_of_nothing_is_a_fault(data):
    with pytest.raises(UpstreamProtocolError):
        run(answer(), [data])


def test_two_messages_are_a_fault():
    with pytest.raises(UpstreamProtocolError):
        answer().feed(stream()[0] * 2)


def test_a_name_of_two_meanings_is_a_fault():
    twice = stream()[0].replace(b'"model":"claude"', b'"model":"claude","model":"other"')
    with pytest.raises(UpstreamProtocolError, match="two meanings"):
        answer(model="alias").feed(twice)


def test_a_large_event_passes_and_a_larger_one_does_not():
    large = delta(event, 0, "text_delta", text="x" * 60_000)
    assert run(started(), [large[:30_000], large[30_000:], b"".join(stream()[-2:])]).startswith(large)
    reading = started()
    with pytest.raises(UpstreamProtocolError, match="larger than 65536"):
        reading.feed(b"data: " + b"x" * 70_000)
    with pytest.raises(UpstreamProtocolError):
        reading.finish()


# --- errors


def error(kind, message="so it is"):
    return event("error", error={"type": kind, "message": message})


def test_an_error_before_content_is_raised():
    reading = answer()
    with pytest.raises(UpstreamAnswered) as caught:
        reading.feed(stream()[0] + error("overloaded_error"))
    assert (caught.value.status, caught.value.retryable) == (503, True)


def test_an_error_after_content_is_raised_behind_what_is_sound():
    reading = started()
    token = delta(event, 0, "thinking_delta", thinking="!")
    assert reading.feed(token + error("api_error") + token) == token
    assert isinstance(reading.fault, UpstreamAnswered)
    for step in (lambda: reading.feed(token), reading.finish):
        with pytest.raises(UpstreamAnswered):
            step()


def test_a_bare_error_where_a_stream_was_asked_for():
    with pytest.raises(UpstreamAnswered) as caught:
        run(answer(), [b'{"type":"error","error":{"type":"rate_limit_error","message":"x"}}'])
    assert caught.value.status == 429


def test_a_stream_that_cannot_go_on_ends_with_an_error_event():
    event_line, data, _ = answer().broken(UpstreamCut("it broke")).split(b"\n", 2)
    assert event_line == b"event: error"
    told = loads(data[6:])
    assert told["type"] == "error" and told["error"]["message"] == "it broke"


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 30))
def test_bytes_of_any_kind_are_taken_or_refused(junk, at):
    events = stream()
    outcome(answer(), [junk])
    outcome(answer(), [*events[:at], junk, *events[at:]])
    outcome(answer(), [b"".join([*events[:at], junk, *events[at:]])])


# --- whole answers

WHOLE = dumps(
    {"id": "msg_1", "model": "claude", "content": [{"type": "tool_use", "input": {"model": "claude"}}],
     "stop_reason": "end_turn", "usage": USAGE}
)  # fmt: skip


def test_a_whole_answer_is_the_same_object_under_its_own_name():
    reading = answer()
    assert reading.whole(WHOLE) is WHOLE
    assert reading.committed and reading.complete and reading.usage == Usage(11, 1, 4)


def test_a_whole_answer_under_another_name():
    assert answer(model="alias").whole(WHOLE) == WHOLE.replace(b'"model":"claude"', b'"model":"alias"', 1)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b'{"content":3}'])
def test_a_body_that_is_no_message(body):
    for operation in ("chat", "count_tokens"):
        with pytest.raises(UpstreamProtocolError):
            answer(operation=operation).whole(body)


def test_an_error_with_a_success_status():
    for operation in ("chat", "count_tokens"):
        with pytest.raises(UpstreamAnswered):
            answer(operation=operation).whole(b'{"type":"error","error":{"type":"api_error","message":"x"}}')


def test_counts_pass_and_are_no_usage():
    reading = answer(operation="count_tokens")
    body = b'{ "input_tokens": 2095 }'
    assert reading.whole(body) is body
    assert reading.complete and not reading.usage.known
