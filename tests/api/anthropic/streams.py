"""Streams of Anthropic's dialect, read strictly; and neutral answers of every kind."""

from __future__ import annotations

from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.canonical import (
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    UsageEvent,
)
from ghostllm.message import Usage

MEMBERS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("thinking", "signature"),
}


def events_of(stream):
    """(type, data) of each event; every event has a name, and it is the type."""
    *blocks, rest = stream.split(b"\n\n")
    assert rest == b""
    events = []
    for block in blocks:
        name, data = block.split(b"\n")
        assert name.startswith(b"event: ") and data.startswith(b"data: ")
        value = jsonx.loads(data[6:])
        assert value["type"] == name[7:].decode()
        events.append((value["type"], value))
    return events


def message_of(stream):
    """The message that a whole stream tells, after the manner of the SDK but without its patience."""
    (first, opening), *middle, (kind, delta), (last, _) = events_of(stream)
    assert (first, kind, last) == ("message_start", "message_delta", "message_stop")
    message = opening["message"]
    assert message["content"] == [] and message["stop_reason"] is None
    assert all(type(message["usage"][name]) is int for name in ("input_tokens", "output_tokens"))
    blocks = [block_of(index, part) for index, part in enumerate(parted(middle))]
    usage = {**message["usage"], **delta["usage"]}
    return {**message, "content": blocks, **delta["delta"], "usage": usage}


def parted(events):
    """The events of each block: they must not overlap."""
    open_block = None
    for name, value in events:
        if name == "content_block_start":
            assert open_block is None
            open_block = []
        assert open_block is not None, f"{name} outside any block"
        open_block.append((name, value))
        if name == "content_block_stop":
            yield open_block
            open_block = None
    assert open_block is None


def block_of(index, events):
    (_, start), *deltas, (_, stop) = events
    assert {value["index"] for _, value in events} == {index} and set(stop) == {"type", "index"}
    block = start["content_block"]
    arguments = ""
    for name, value in deltas:
        assert name == "content_block_delta"
        delta = value["delta"]
        if delta["type"] == "input_json_delta":
            assert block["type"] == "tool_use"
            arguments += delta["partial_json"]
            continue
        kind, member = MEMBERS[delta["type"]]
        assert block["type"] == kind
        block[member] += delta[member]
    if block["type"] == "tool_use":
        assert block["input"] == {}
        block["input"] = arguments
    elif block["type"] == "thinking":
        assert deltas[-1][1]["delta"]["type"] == "signature_delta"
    return block


# --- neutral answers

words = st.text(min_size=1, max_size=6)
json_objects = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
said = st.one_of(
    words.map(TextDelta),
    words.map(TextDelta),
    words.map(RefusalDelta),
    words.map(ReasoningDelta),
    st.builds(ReasoningDelta, words, signature=words),
    st.builds(ReasoningDelta, st.just(""), redacted=words),
)


@st.composite
def fragments(draw, index):
    """A call, cut anywhere; its id and name come with one of the first fragments."""
    text = draw(st.sampled_from(["", " "]))
    if value := draw(json_objects):
        text = jsonx.dumps(value).decode()
        if draw(st.booleans()):
            text = "".join(c if c.isascii() else "".join(rf"\u{u:04x}" for u in utf16(c)) for c in text)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    named = draw(st.integers(0, len(pieces) - 1)) if draw(st.booleans()) else 0
    return [
        ToolCallDelta(index, piece, *((f"call_{index}", f"tool{index}") if at == named else ()))
        for at, piece in enumerate(pieces)
    ]


def utf16(character):
    raw = character.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


@st.composite
def answers(draw):
    """Whole answers as neutral events: text, thinking and calls, these interleaved with everything."""
    rows = [[event] for event in draw(st.lists(said, max_size=8))]
    waiting = [draw(fragments(index)) for index in range(draw(st.integers(0, 3)))]
    begun = 0
    events = [Start()]
    while rows or any(waiting):
        choices = [row for row in [*waiting[: begun + 1], *rows[:1]] if row]
        row = draw(st.sampled_from(choices)) if choices else waiting[begun]
        begun = max(begun, next((at + 1 for at, each in enumerate(waiting) if each is row), 0))
        events.append(row.pop(0))
        rows = [each for each in rows if each]
    counts = st.none() | st.integers(0, 10**6)
    usage = Usage(*(draw(counts) for _ in range(5)))
    events.append(Finish(draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter", "pause"]))))
    return [*events, UsageEvent(usage)]
