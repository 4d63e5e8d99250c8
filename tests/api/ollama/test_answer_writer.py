"""Neutral events to Ollama's lines, as a server of theirs (0.17.4) sends them and its clients read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.canonical import (
    Answer,
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
from ghostllm.api.ollama.answer_reader import AnswerReader
from ghostllm.api.ollama.answer_writer import LineWriter, stamp
from ghostllm.api.ollama.request_writer import OllamaRequest
from ghostllm.errors import UpstreamCut
from ghostllm.jsonx import loads
from ghostllm.message import Usage

FRAME = b'{"model":"m","created_at":"2023-11-14T22:13:20Z",'
HI = TokenLogprob("Hi", -0.5, (72, 105), (TokenLogprob("Hi", -0.5, (72, 105)), TokenLogprob("Yo", -1.5)))
HI_MEMBER = {
    "token": "Hi",
    "logprob": -0.5,
    "bytes": [72, 105],
    "top_logprobs": [
        {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]},
        {"token": "Yo", "logprob": -1.5},
    ],
}


def writer(chat=True, elapsed=None):
    return LineWriter("m", 1_700_000_000, chat=chat, elapsed=elapsed)


def stream(*events, **options):
    to = writer(**options)
    return b"".join([to.event(event) for event in events] + [to.end()])


def lines(data):
    assert data.endswith(b"\n")
    return [loads(line) for line in data[:-1].split(b"\n")]


END = (Finish("stop"), UsageEvent(Usage(9, 3)))


def test_a_chat_is_lines_as_ollama_writes_them():
    assert stream(Start(), TextDelta("Hi"), TextDelta(' "é"\n'), *END) == (
        FRAME + b'"message":{"role":"assistant","content":"Hi"},"done":false}\n'
        + FRAME + b'"message":{"role":"assistant","content":" \\"\xc3\xa9\\"\\n"},"done":false}\n'
        + FRAME + b'"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
        b'"prompt_eval_count":9,"eval_count":3}\n'
    )  # fmt: skip


def test_a_generation_is_lines_as_ollama_writes_them():
    assert stream(Start(), TextDelta("Hi"), *END, chat=False) == (
        FRAME + b'"response":"Hi","done":false}\n'
        + FRAME + b'"response":"","done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":3}\n'
    )  # fmt: skip


def test_whole_answers_are_one_line_without_its_end():
    answer = Answer((Reasoning("hm"), Text("Hi"), Refusal("!")), Finish("length"), Usage(9, 3))
    assert writer().whole(answer) == (
        FRAME + b'"message":{"role":"assistant","content":"Hi!","thinking":"hm"},"done":true,'
        b'"done_reason":"length","prompt_eval_count":9,"eval_count":3}'
    )
    assert writer(chat=False).whole(answer) == (
        FRAME + b'"response":"Hi!","thinking":"hm","done":true,"done_reason":"length","prompt_eval_count":9,'
        b'"eval_count":3}'
    )


def test_thinking_has_its_own_lines():
    thought, _ = lines(stream(ReasoningDelta("hm"), *END))
    assert thought["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    thought, _ = lines(stream(ReasoningDelta("hm"), *END, chat=False))
    assert (thought["response"], thought["thinking"]) == ("", "hm")


def test_what_says_nothing_is_no_line():
    silent = (Start(), TextDelta(""), ReasoningDelta("", "signed"), ReasoningDelta("", redacted="x"))
    assert len(lines(stream(*silent, RefusalDelta(""), *END))) == 1


def test_a_refusal_is_text():
    assert lines(stream(RefusalDelta("no"), *END))[0]["message"]["content"] == "no"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "stop"),
        ("pause", "stop"),
        ("content_filter", "content_filter"),
    ],
)
def test_reasons(reason, shown):
    assert lines(stream(TextDelta("x"), Finish(reason)))[-1]["done_reason"] == shown


def test_counts_that_are_zero_or_unknown_are_left_out():
    for events in ((), (UsageEvent(Usage(0, 0)),), (UsageEvent(Usage()),)):
        last = lines(stream(TextDelta("x"), Finish("stop"), *events))[-1]
        assert sorted(last) == ["created_at", "done", "done_reason", "message", "model"]


def test_logprobs_go_with_their_text_also_without_one():
    first, second, _ = lines(stream(TextDelta("Hi", (HI,)), TextDelta("", (HI,)), *END))
    assert first["logprobs"] == second["logprobs"] == [HI_MEMBER]
    whole = loads(writer().whole(Answer((Text("Hi"),), Finish("stop"), Usage(), (HI, HI))))
    assert whole["logprobs"] == [HI_MEMBER, HI_MEMBER]


def test_an_error_is_a_line():
    assert writer().error(UpstreamCut('broke "off"')) == b'{"error":"broke \\"off\\""}\n'


def test_without_a_finish_there_is_no_done_line():
    to = writer()
    to.event(TextDelta("Hi"))
    assert to.end() == b""


# --- calls


def test_calls_go_out_whole_and_in_order_however_their_fragments_came():
    answered = stream(
        Start(),
        TextDelta("So"),
        ToolCallDelta(0, '{"z": [1', "a", "f"),
        ToolCallDelta(1, "", "b", "g"),
        ToolCallDelta(0, ', "\\ud83d'),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(0, '\\ude00"]}'),
        Finish("tool_calls"),
    )
    text, first, second, last = lines(answered)
    assert text["message"]["content"] == "So"
    assert first["message"] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "a", "function": {"index": 0, "name": "f", "arguments": {"z": [1, "😀"]}}}],
    }
    assert second["message"]["tool_calls"] == [
        {"id": "b", "function": {"index": 1, "name": "g", "arguments": {}}}
    ]
    assert (first["done"], last["done"], last["done_reason"]) == (False, True, "stop")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("", {}),
        (" ", {}),
        ('{"x": 1}', {"x": 1}),
        ('{"x":', {"INVALID_JSON": '{"x":'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("null", {"INVALID_JSON": "null"}),
        ("NaN", {"INVALID_JSON": "NaN"}),
        ('{"a":' * 5000 + "1" + "}" * 5000, {"INVALID_JSON": '{"a":' * 5000 + "1" + "}" * 5000}),
    ],
)
def test_arguments_are_always_an_object(arguments, shown):
    call = lines(stream(ToolCallDelta(0, arguments, "a", "f"), *END))[0]["message"]["tool_calls"][0]
    assert call["function"]["arguments"] == shown
    whole = loads(writer().whole(Answer((ToolCall("a", "f", arguments),), Finish("stop"), Usage())))
    assert whole["message"]["tool_calls"] == [call]


def test_a_call_without_an_id_has_none():
    call = lines(stream(ToolCallDelta(0, "{}", "", "f"), *END))[0]["message"]["tool_calls"][0]
    assert call == {"function": {"index": 0, "name": "f", "arguments": {}}}


def test_free_form_input_is_a_member():
    call = lines(stream(ToolCallDelta(0, "ls -l", "a", "sh", custom=True), *END))[0]["message"]["tool_calls"][
        0
    ]
    assert call["function"]["arguments"] == {"input": "ls -l"}


# --- times


def test_durations_are_those_of_the_call_and_add_up():
    times = iter([0.25, 1.5])
    to = writer(elapsed=lambda: next(times))
    for event in (Start(), TextDelta("a"), TextDelta("b"), ToolCallDelta(0, "{}", "", "f"), *END):
        to.event(event)
    last = loads(to.end())
    assert (last["total_duration"], last["prompt_eval_duration"], last["eval_duration"]) == (
        1_500_000_000,
        250_000_000,
        1_250_000_000,
    )
    assert list(last)[-5:] == [
        "total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
    ]  # fmt: skip


def test_of_a_whole_answer_only_the_total_is_known():
    body = loads(writer(elapsed=lambda: 2).whole(Answer((Text("x"),), Finish("stop"), Usage())))
    assert body["total_duration"] == 2_000_000_000
    assert "eval_duration" not in body and "prompt_eval_duration" not in body


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000, "2023-11-14T22:13:20Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        (253_402_300_800, "1970-01-01T00:00:00Z"),
        (-1, "1970-01-01T00:00:00Z"),
    ],
)
def test_stamps(seconds, shown):
    assert stamp(seconds) == shown


# --- there and back

TEXT = st.text(min_size=1, max_size=8)
NUMBER = st.floats(-100, 0).filter(lambda value: not math.isnan(value))
TOKENS = st.lists(st.builds(TokenLogprob, TEXT, NUMBER, st.just((65,))), max_size=2).map(tuple)


@st.composite
def answers(draw):
    events = [Start()]
    for piece in draw(st.lists(st.tuples(st.booleans(), TEXT, TOKENS), max_size=5)):
        thinks, text, tokens = piece
        events.append(ReasoningDelta(text) if thinks else TextDelta(text, tokens))
    calls = draw(st.integers(0, 2))
    for index in range(calls):
        events.append(ToolCallDelta(index, '{"x":', f"c{index}", f"f{index}"))
        events.append(ToolCallDelta(index, f'{{"y":{index}}}}}'))
    events.append(Finish("tool_calls" if calls else draw(st.sampled_from(["stop", "length"]))))
    events.append(UsageEvent(Usage(draw(st.integers(0, 9)), draw(st.integers(1, 9)))))
    return events


@given(answers(), st.data())
def test_what_is_written_reads_back_however_it_is_cut(events, data):
    to = writer()
    written = b"".join([to.event(event) for event in events] + [to.end()])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=4)))
    reader = AnswerReader(OllamaRequest("", {}), lambda: "none", 1 << 20)
    read = []
    for start, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
        read += reader.feed(written[start:end])
    read += reader.finish()
    assert Fold(read).answer() == Fold(events).answer()
    assert reader.complete


@given(answers())
def test_a_whole_answer_reads_back(events):
    answer = Fold(events).answer()
    reader = AnswerReader(OllamaRequest("", {}), lambda: "none", 1 << 20)
    read = Fold(reader.whole(writer().whole(answer))).answer()
    assert (read.finish, read.usage, read.logprobs) == (answer.finish, answer.usage, answer.logprobs)
    for kind in (Text, Reasoning):
        assert _joined(read, kind) == _joined(answer, kind)
    assert [part for part in read.parts if isinstance(part, ToolCall)] == [
        part for part in answer.parts if isinstance(part, ToolCall)
    ]


def _joined(answer, kind):
    return "".join(part.text for part in answer.parts if isinstance(part, kind))
