"""Ollama's wire format, byte for byte, to neutral events: under every split, and whatever goes wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.canonical import (
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
from ghostllm.api.ollama.answer_reader import AnswerReader, Malformed, read_embeddings
from ghostllm.api.ollama.request_writer import OllamaRequest
from ghostllm.errors import GhostError, UpstreamAnswered, UpstreamCut, UpstreamProtocolError
from ghostllm.message import Usage

HEAD = b'{"model":"llama3.2","created_at":"2026-11-22T23:32:13.123456789Z",'
TAIL = (
    b'"done":true,"done_reason":"stop","total_duration":517430042,"load_duration":41021417,'
    b'"prompt_eval_count":26,"prompt_eval_duration":130079000,"eval_count":3,"eval_duration":342546000}\n'
)


def line(message, rest=b'"done":false}\n'):
    return HEAD + b'"message":{"role":"assistant",' + message + b"}," + rest


def says(text):
    return line(b'"content":' + jsonx.dumps(text))


END = line(b'"content":""', TAIL)
THINKS = line(b'"content":"","thinking":"hm"')
CALL = line(
    b'"content":"","tool_calls":[{"id":"call_9","function":{"index":0,"name":"f","arguments":'
    b'{"z":"\\u003cb\\u003e \xf0\x9f\x99\x82","a":[1,2.5,null]}}}]'
)
CALL_AGAIN = line(b'"content":"","tool_calls":[{"function":{"index":0,"name":"g","arguments":{}}}]')
FIRST = says("Once ")
STREAM = says("Grü") + says("ße 🙂") + END


def reader(limit=4096, **request):
    ids = iter(range(100))
    return AnswerReader(OllamaRequest("/api/chat", {}, **request), lambda: f"call_{next(ids)}", limit)


def play(pieces, **request):
    """The events of a stream and the error that ended it, if one did."""
    reading = reader(**request)
    events = []
    try:
        for piece in pieces:
            events += reading.feed(piece)
        events += reading.finish()
    except GhostError as error:
        return events, error
    return events, None


def sound(stream, **request):
    events, error = play([stream], **request)
    assert error is None
    return events


def failed(stream, **request):
    _, error = play([stream], **request)
    assert error is not None
    return error


def test_a_stream_of_text():
    reading = reader()
    assert reading.feed(says("")) == [Start(), TextDelta("")][:1]
    assert not reading.committed
    assert reading.feed(says("Hi")) == [TextDelta("Hi")]
    assert reading.committed and not reading.complete
    assert reading.feed(END) == [Finish("stop"), UsageEvent(Usage(26, 3))]
    assert reading.complete and reading.usage == Usage(26, 3)
    assert reading.finish() == []


def test_thinking_is_content_too_and_comes_first():
    reading = reader()
    reading.feed(THINKS)
    assert reading.committed
    both = line(b'"content":"so","thinking":"hm"')
    assert sound(both + END)[1:3] == [ReasoningDelta("hm"), TextDelta("so")]


def test_calls_get_their_own_numbers_ids_and_the_finish_reason():
    events = sound(CALL + CALL_AGAIN + END)
    assert events[1:-1] == [
        ToolCallDelta(0, '{"z":"<b> 🙂","a":[1,2.5,null]}', "call_9", "f"),
        ToolCallDelta(1, "{}", "call_0", "g"),
        Finish("tool_calls"),
    ]


def test_calls_on_the_last_line_count_as_well():
    events = sound(CALL.replace(b'"done":false}\n', TAIL))
    assert isinstance(events[1], ToolCallDelta) and events[2] == Finish("tool_calls")


def test_an_empty_list_of_calls_is_none():
    events = sound(says("x") + line(b'"content":"","tool_calls":[]', TAIL))
    assert events[-2] == Finish("stop")


def test_arguments_that_come_as_text_stay_as_they_are():
    call = line(b'"content":"","tool_calls":[{"function":{"name":"f","arguments":"{\\"x\\": 1}"}}]')
    assert sound(call + END)[1].arguments == '{"x": 1}'


def test_only_the_first_call_counts_where_one_is_wanted():
    events = sound(CALL + CALL_AGAIN + END, offered=True, single=True)
    assert [event.name for event in events if isinstance(event, ToolCallDelta)] == ["f"]


def test_counts_that_are_left_out_are_zero():
    end = line(b'"content":""', b'"done":true,"done_reason":"stop","eval_count":2}\n')
    assert sound(says("x") + end)[-1] == UsageEvent(Usage(0, 2))


def test_length_is_told():
    assert Finish("length") in sound(says("x") + END.replace(b'"stop"', b'"length"'))


def test_logprobs_of_the_content_are_kept_and_those_of_the_thinking_are_not():
    logprobs = (
        b'"logprobs":[{"token":"Hi","logprob":-0.5,"bytes":[72,105],'
        b'"top_logprobs":[{"token":"Ho","logprob":-2}]}],'
    )
    text = line(b'"content":"Hi"', logprobs + b'"done":false}\n')
    thinking = line(b'"content":"","thinking":"hm"', logprobs + b'"done":false}\n')
    buffered = line(b'"content":""', logprobs + b'"done":false}\n')
    token = TokenLogprob("Hi", -0.5, (72, 105), (TokenLogprob("Ho", -2, (72, 111)),))
    assert sound(thinking + buffered + text + END)[1:4] == [
        ReasoningDelta("hm"),
        TextDelta("", (token,)),
        TextDelta("Hi", (token,)),
    ]


def test_generate_has_its_text_elsewhere_and_may_echo_the_prompt():
    stream = HEAD + b'"response":" upon","done":false}\n' + HEAD + b'"response":"",' + TAIL
    assert sound(stream, echo="Once")[:3] == [Start(), TextDelta("Once"), TextDelta(" upon")]


def test_an_echo_is_not_yet_an_answer():
    reading = reader(echo="Once")
    reading.feed(HEAD + b'"response":"","done":false}\n')
    assert not reading.committed


def test_a_whole_answer_is_one_line():
    body = line(
        b'"content":"Hi","thinking":"hm","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}}]', TAIL
    )
    answer = Fold(reader().whole(body)).answer()
    assert answer.parts == (Reasoning("hm"), Text("Hi"), ToolCall("call_0", "f", '{"x":1}'))
    assert (answer.finish, answer.usage) == (Finish("tool_calls"), Usage(26, 3))


def test_a_whole_answer_may_be_larger_than_a_line():
    assert Fold(reader(limit=10).whole(line(b'"content":"' + b"x" * 999 + b'"', TAIL))).answer()


# --- every split


@st.composite
def cuts(draw, stream):
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *places, len(stream)]
    return [stream[a:b] for a, b in zip(edges, edges[1:], strict=False)]


STREAMS = [
    STREAM,
    THINKS + says("x") + CALL + CALL_AGAIN + END,
    STREAM + b"garbage after the end\n",
    STREAM[:-1],  # without its last line end
    STREAM.replace(b"\n", b"\r\n") + b"\n\n",
    says("one") + b'{"error":"an error was encountered while running the model"}\n',
    says("one") + b"<html>\n" + END,
    says("one") + says("x" * 5000) + END,
    says("one") + b"x" * 5000,
    says("one") + says("two"),
    says("one") + END[:-5],
]


@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_byte_by_byte_it_is_the_same(stream):
    """From the first content on: before it, a fault in the same read spares the client the beginning."""
    events, error = play([FIRST, stream])
    by_byte, same = play([FIRST, *(stream[i : i + 1] for i in range(len(stream)))])
    assert by_byte == events and repr(same) == repr(error)


@given(st.data())
def test_however_it_is_cut_it_is_the_same(data):
    stream = data.draw(st.sampled_from(STREAMS))
    events, error = play([FIRST, stream])
    cut, same = play([FIRST, *data.draw(cuts(stream))])
    assert cut == events and repr(same) == repr(error)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1), st.data())
def test_any_text_arrives_whole(texts, data):
    stream = b"".join(map(says, texts)) + END
    events, error = play(data.draw(cuts(stream)), limit=1 << 20)
    assert error is None
    assert Fold(events).answer().parts == (Text("".join(texts)),)


objects = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@given(objects)
def test_any_arguments_become_text_without_loss(arguments):
    call = {"function": {"name": "f", "arguments": arguments}}
    events = sound(line(b'"content":"","tool_calls":' + jsonx.dumps([call])) + END, limit=1 << 20)
    back = jsonx.loads(events[1].arguments)
    assert back == arguments and list(back) == list(arguments)


@given(st.binary(max_size=200))
def test_nothing_hostile_is_more_than_an_upstream_error(garbage):
    for stream in (garbage, says("x") + garbage + b"\n" + END):
        _, error = play([stream], limit=64)
        assert error is None or isinstance(error, UpstreamAnswered | UpstreamCut | UpstreamProtocolError)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text("ab", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(
                [
                    "content",
                    "thinking",
                    "tool_calls",
                    "function",
                    "name",
                    "arguments",
                    "id",
                    "token",
                    "logprob",
                ]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["message", "response", "thinking", "done", "done_reason", "error", "logprobs", "eval_count"]
        ),
        json_values,
    )
)
def test_no_line_of_json_is_more_than_an_upstream_error(value):
    _, error = play([jsonx.dumps(value) + b"\n"])
    assert error is None or isinstance(error, UpstreamAnswered | UpstreamCut | UpstreamProtocolError)


# --- failures


ERROR = b'{"error":"llama runner process has terminated"}\n'


def test_an_error_line_ends_the_answer_after_what_came_before_it():
    reading = reader()
    reading.feed(FIRST)
    assert reading.feed(says("one") + ERROR) == [TextDelta("one")]
    for step in (lambda: reading.feed(says("two")), reading.finish):
        with pytest.raises(UpstreamAnswered) as caught:
            step()
        assert (caught.value.status, caught.value.retryable) == (502, True)
        assert "llama runner" in caught.value.message


def test_an_error_before_anything_was_given_is_told_at_once():
    with pytest.raises(UpstreamAnswered):
        reader().feed(says("one") + ERROR)


def test_an_error_line_about_the_context_is_the_requests_fault():
    error = failed(b'{"error":"the input length exceeds the context length"}\n')
    assert isinstance(error, UpstreamAnswered)
    assert (error.status, error.code, error.retryable) == (400, "context_length_exceeded", False)


def test_an_end_without_the_done_line_is_a_cut():
    assert isinstance(failed(says("one")), UpstreamCut)
    assert isinstance(failed(b""), UpstreamCut)
    with pytest.raises(UpstreamProtocolError):
        reader().whole(says("one"))


@pytest.mark.parametrize(
    "garbage",
    [
        b"<html>oops</html>\n",
        b'"text"\n',
        b'{"message":"x"}\n',
        line(b'"content":3'),
        line(b'"tool_calls":[{"function":{}}]'),
        line(b'"tool_calls":{"a":1}'),
        b"\xff\xfe\n",
    ],
)
def test_what_is_not_ollamas_is_a_protocol_error(garbage):
    assert isinstance(failed(says("x") + garbage + END), UpstreamProtocolError)


def test_a_line_over_the_limit_is_refused_before_it_is_whole():
    reading = reader(limit=100)
    with pytest.raises(UpstreamProtocolError, match="more than 100 bytes"):
        for _ in range(11):
            reading.feed(b"x" * 10)


def test_an_answer_of_nothing_is_a_failure():
    nothing = line(b'"content":""', b'"done":true,"done_reason":"stop","prompt_eval_count":9}\n')
    assert isinstance(failed(nothing), UpstreamProtocolError)
    assert isinstance(failed(END, offered=True), UpstreamProtocolError)
    loaded = line(b'"content":""', b'"done":true,"done_reason":"load"}\n')
    assert isinstance(failed(loaded), UpstreamProtocolError)


def test_a_model_that_has_nothing_to_say_is_believed():
    assert Fold(sound(END)).answer().parts == ()


def test_a_prompt_that_leaves_no_room_is_told_as_such():
    full = line(b'"content":""', b'"done":true,"done_reason":"length","prompt_eval_count":2048}\n')
    assert failed(full).code == "context_length_exceeded"


# --- forced calls


def forced(text, reason=b'"stop"'):
    pieces = b"".join(says(text[i : i + 7]) for i in range(0, len(text), 7))
    return play([THINKS + pieces + END.replace(b'"stop"', reason)], forced=("f", "g"), offered=True)


def test_a_forced_call_is_made_of_the_constrained_answer():
    events, error = forced('{"name": "g", "arguments": {"b": "ü", "a": 1}}')
    assert error is None
    assert events[1:-1] == [
        ReasoningDelta("hm"),
        ToolCallDelta(0, '{"b":"ü","a":1}', "call_0", "g"),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize(
    "text", ['{"name": "zzz", "arguments": {}}', '{"name": "f"}', "I would rather not", "[]"]
)
def test_a_forced_call_that_was_not_made_is_a_failure(text):
    events, error = forced(text)
    assert isinstance(error, UpstreamProtocolError)
    assert not any(isinstance(event, TextDelta) for event in events)


def test_a_forced_call_cut_by_the_limit_says_so():
    events, error = forced('{"name": "f", "argum', b'"length"')
    assert error is None
    assert events[2:4] == [TextDelta('{"name": "f", "argum'), Finish("length")]


# --- embeddings


def test_embeddings():
    usage = Usage()
    body = b'{"model":"nomic","embeddings":[[0.5,-1],[0,0.25]],"total_duration":1,"prompt_eval_count":7}'
    assert read_embeddings(body, 2, 2, usage) == [[0.5, -1], [0, 0.25]]
    assert usage == Usage(prompt=7)


@pytest.mark.parametrize(
    "body",
    [b"<", b"[]", b"{}", b'{"embeddings":[[1]]}', b'{"embeddings":[[1],[]]}', b'{"embeddings":[[1],["x"]]}'],
)
def test_embeddings_that_are_none_are_malformed(body):
    with pytest.raises(Malformed):
        read_embeddings(body, 2, None, Usage())


def test_dimensions_that_the_model_does_not_have_are_refused():
    with pytest.raises(UpstreamAnswered) as caught:
        read_embeddings(b'{"embeddings":[[1,2,3]]}', 1, 5, Usage())
    assert (caught.value.param, caught.value.status) == ("dimensions", 400)
