"""What OpenAI-compatible servers answer, as neutral events: each server's habits, every cut, every fault."""

from __future__ import annotations

import base64
import itertools
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.canonical import (
    Finish,
    Fold,
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
from ghostllm.api.openai.answer_reader import ChatReader, CompletionReader
from ghostllm.api.openai.vectors import read_embeddings
from ghostllm.errors import GhostError, UpstreamAnswered, UpstreamCut, UpstreamProtocolError
from ghostllm.jsonx import dumps
from ghostllm.message import Usage

DONE = b"data: [DONE]\n\n"
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
COUNTS = Usage(prompt=7, completion=3, cached=2, cache_write=4, reasoning=1)


def reader(limit=4096, **options):
    numbers = itertools.count()
    return ChatReader(backend="backend 'b'", limit=limit, mint=lambda: f"minted{next(numbers)}", **options)


def chunk(delta=None, finish=None, end=b"\n\n", index=0, logprobs=None, **more):
    choice = {"index": index, "delta": delta or {}, "logprobs": logprobs, "finish_reason": finish}
    choice.update(more.pop("choice", {}))
    body = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}
    if delta is None:
        body["choices"] = []
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + end


def text(words, **more):
    return chunk({"content": words}, **more)


def events(*pieces, of=None):
    of = of or reader()
    read = [event for piece in pieces for event in of.feed(piece)]
    return read + of.finish()


def folded(*pieces, of=None):
    return Fold(events(*pieces, of=of)).answer()


def calls(*pieces, of=None):
    return [part for part in folded(*pieces, of=of).parts if isinstance(part, ToolCall)]


def call(arguments="", *, index=0, id=None, name=None, **more):
    function = {"arguments": arguments, **({"name": name} if name is not None else {})}
    fragment = {"function": function, **({"id": id} if id is not None else {}), **more}
    return fragment if index is None else {"index": index, **fragment}


def called(*fragments, finish=None):
    return chunk({"tool_calls": list(fragments)}, finish)


# --- text, reasoning, refusal


def test_a_stream_becomes_events_and_ends_once():
    read = events(
        chunk({"role": "assistant", "content": ""}),
        text("Hel"),
        text("lo"),
        chunk({}, "stop"),
        chunk(usage=USAGE),
        DONE,
    )
    assert read == [Start(), TextDelta("Hel"), TextDelta("lo"), Finish("stop"), UsageEvent(COUNTS)]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_read_under_each_of_its_names(name):
    read = events(chunk({name: "h"}), chunk({name: "m"}), text("x"), chunk({}, "stop"))
    assert read[:4] == [Start(), ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("x")]


def test_reasoning_told_twice_in_a_chunk_counts_once():
    both = {"reasoning": "hm", "reasoning_content": "hm", "content": None}
    assert events(chunk(both), chunk({}, "stop"))[1] == ReasoningDelta("hm")


def test_reasoning_that_is_no_text_is_left_alone():
    assert events(chunk({"reasoning": {"tokens": 3}, "content": "x"}), chunk({}, "stop"))[1] == TextDelta("x")


def test_content_in_parts_is_read_as_mistral_sends_it():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "x"},
    ]
    assert events(chunk({"content": parts}), chunk({}, "stop"))[1:3] == [ReasoningDelta("hm"), TextDelta("x")]


def test_a_refusal_is_one():
    assert folded(chunk({"refusal": "no"}), chunk({}, "stop")).parts == (Refusal("no"),)
    assert RefusalDelta("no") in events(chunk({"refusal": "no"}), chunk({}, "stop"))


def test_only_the_first_choice_is_read():
    read = folded(text("a"), text("b", index=1), chunk({}, "length", index=1), chunk({}, "stop"))
    assert read.parts == (Text("a"),) and read.finish == Finish("stop")


def test_only_output_commits():
    of = reader()
    of.feed(b": ping\n\n" + chunk({"role": "assistant", "content": ""}))
    assert not of.committed
    of.feed(text("x"))
    assert of.committed and not of.complete
    of.feed(chunk({}, "stop"))
    assert of.complete


# --- the end


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("max_tokens", "length"),
        ("eos", "stop"),
        ("tool_calls", "stop"),  # without any
    ],
)
def test_finish_reasons(said, meant):
    assert folded(text("x"), chunk({}, said)).finish.reason == meant


def test_a_stop_after_a_call_means_the_call():
    assert folded(called(call("{}", id="a", name="f")), chunk({}, "stop")).finish == Finish("tool_calls")
    assert folded(called(call("{", id="a", name="f")), chunk({}, "length")).finish == Finish("length")


def test_the_stop_sequence_is_named_where_the_server_says_it():
    assert folded(chunk({}, "stop", choice={"stop_reason": "END"})).finish == Finish("stop", "END")
    assert folded(chunk({}, "stop", choice={"stop_reason": 128001})).finish == Finish("stop")


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_was_broken_off_is_no_answer(reason):
    with pytest.raises(UpstreamCut):
        events(text("x"), chunk({}, reason))


@pytest.mark.parametrize(
    "tail",
    [
        [chunk({}, "stop"), chunk(usage=USAGE), DONE],
        [chunk({}, "stop", usage=USAGE)],  # transformers
        [chunk({}, "stop", choice={"usage": USAGE}), DONE],  # Moonshot
        [text("", usage={**USAGE, "completion_tokens": 1}), chunk({}, "stop"), chunk(usage=USAGE), DONE],
        [chunk({}, "stop"), chunk(usage=USAGE), b"data: [DONE]"],
    ],
)
def test_usage_counts_wherever_it_comes(tail):
    read = events(text("x"), *tail)
    assert read[-2:] == [Finish("stop"), UsageEvent(COUNTS)]
    assert read.count(UsageEvent(COUNTS)) == 1


def test_nothing_comes_after_the_terminator():
    of = reader()
    assert of.feed(text("x") + chunk({}, "stop") + DONE + text("y"))[-1] == Finish("stop")
    assert of.feed(text("z")) == [] and of.finish() == []


@pytest.mark.parametrize("tail", [b"", text("b")[:-2], text("b")[:30], b"data: ", b": ping"])
def test_a_stream_that_just_ends_was_cut(tail):
    of = reader()
    of.feed(text("a"))
    if tail:
        of.feed(tail)
    with pytest.raises(UpstreamCut):
        of.finish()


@pytest.mark.parametrize("body", [b"", DONE, b": ping\n\n", b"<html>", b'{"choices":[]}'])
def test_an_empty_stream_is_a_failure(body):
    with pytest.raises(UpstreamProtocolError):
        events(body) if body else reader().finish()


# --- faults


ERRORS = [
    (b'data: {"error":{"message":"too many","type":"rate_limit_error"}}\n\n', 429),
    (b'data: {"error":"boom"}\n\n', 502),
    (b'data: {"error":{"message":"broke","code":500}}\n\n', 502),
    (b'data: {"object":"error","message":"boom","code":503}\n\n', 503),
    (b'data: {"detail":"boom"}\n\n', 502),
]


@pytest.mark.parametrize(("event", "status"), ERRORS)
def test_an_error_event_is_the_servers_word(event, status):
    with pytest.raises(UpstreamAnswered) as caught:
        reader().feed(event)
    assert caught.value.status == status


@pytest.mark.parametrize(("event", "status"), ERRORS)
def test_what_came_before_a_fault_is_given_first(event, status):
    of = reader()
    of.feed(text("a"))
    assert of.feed(text("b") + event) == [TextDelta("b")]
    assert of.fault is not None and of.fault.status == status
    for again in (lambda: of.feed(text("c")), of.finish):
        with pytest.raises(UpstreamAnswered):
            again()


def test_before_the_commit_a_fault_comes_alone():
    of = reader()
    with pytest.raises(UpstreamAnswered):
        of.feed(text("a") + ERRORS[0][0])


def test_bare_json_where_a_stream_was_asked_for():
    for body, error in (
        (b'{"error":{"message":"x"}}', UpstreamAnswered),
        (b'{"a":1}', UpstreamProtocolError),
    ):
        of = reader()
        of.feed(body)
        with pytest.raises(error):
            of.finish()


def test_secrets_are_blotted_out_of_the_servers_words():
    with pytest.raises(UpstreamAnswered, match=r"key \*\*\*"):
        reader(blot=lambda said: said.replace("sk-1", "***")).feed(b'data: {"error":"key sk-1"}\n\n')


@pytest.mark.parametrize(
    "event",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"nonsense\n\n",
        b'data: {"choices":[1]}\n\n',
        chunk({"content": 5}),
        chunk({"tool_calls": ["x"]}),
        chunk({}, 5),
    ],
)
def test_what_is_no_event_of_this_dialect_is_a_fault(event):
    of = reader()
    of.feed(text("a"))
    with pytest.raises(UpstreamProtocolError):
        of.feed(event)


def test_an_event_has_a_limit():
    of = reader(limit=100)
    with pytest.raises(UpstreamProtocolError, match="larger than 100 bytes"):
        of.feed(b"data: " + b"x" * 200)


# --- tool calls


def test_fragments_are_forwarded_as_they_come():
    read = events(
        called(call("", id="a", name="f", type="function")),
        called(call('{"x"')),
        called(call(":1}")),
        chunk({}, "tool_calls"),
    )
    assert read == [
        Start(),
        ToolCallDelta(0, "", "a", "f"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(0, ":1}"),
        Finish("tool_calls"),
    ]


TWO = [ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}')]


@pytest.mark.parametrize(
    "pieces",
    [
        [  # interleaved
            called(call("", id="a", name="f"), call("", index=1, id="b", name="g")),
            called(call('{"y":', index=1), call('{"x":')),
            called(call("1}"), call("2}", index=1)),
        ],
        [called(call('{"x":1}', id="a", name="f"), call('{"y":2}', index=1, id="b", name="g"))],  # whole
        [
            called(
                call('{"x":1}', index=None, id="a", name="f"), call('{"y":2}', index=None, id="b", name="g")
            )
        ],
        [called(call('{"x":1}', id="a", name="f")), called(call('{"y":2}', id="b", name="g"))],  # all index 0
        [  # no index, in fragments
            called(call('{"x"', index=None, id="a", name="f")),
            called(call(":1}", index=None)),
            called(call('{"y"', index=None, id="b", name="g")),
            called(call(":2}", index=None, id="b")),
        ],
        [  # id and name with every fragment
            called(call('{"x"', id="a", name="f")),
            called(call(":1}", id="a", name="f")),
            called(call('{"y"', index=1, id="b", name="g")),
            called(call(":2}", index=1, id="b", name="g")),
        ],
        [  # a new id for each fragment
            called(call('{"x"', id="a", name="f")),
            called(call(":1}", id="a2")),
            called(call('{"y":2}', index=1, id="b", name="g")),
        ],
        [  # id and name late
            called(call("", id="a")),
            called(call('{"x"', id="a")),
            called(call(":1}", name="f")),
            called(call("", index=1, name="g")),
            called(call('{"y":2}', index=1, id="b")),
        ],
        [  # numbered from somewhere else
            called(call('{"x":1}', index=3, id="a", name="f")),
            called(call('{"y":2}', index=5, id="b", name="g")),
        ],
        [called(call({"x": 1}, id="a", name="f"), call({"y": 2}, index=1, id="b", name="g"))],  # objects
    ],
)
def test_two_calls_are_two_however_they_are_sent(pieces):
    assert calls(*pieces, chunk({}, "stop"), DONE) == TWO


def test_calls_without_an_id_get_one_each():
    found = calls(
        called(call("{}", index=None, name="f"), call("{}", index=None, name="f")), chunk({}, "stop")
    )
    assert [one.id for one in found] == ["minted0", "minted1"]


def test_a_call_that_is_only_a_name_is_still_made():
    assert calls(called(call("", name="f")), chunk({}, "tool_calls")) == [ToolCall("minted0", "f", "")]


def test_a_call_without_a_name_is_a_fault():
    with pytest.raises(UpstreamProtocolError, match="without a function's name"):
        events(called(call("{}", id="a")), chunk({}, "tool_calls"), DONE)


def test_an_empty_list_of_calls_is_nothing():
    read = folded(chunk({"content": "x", "tool_calls": []}), chunk({}, "stop"))
    assert read.parts == (Text("x"),) and read.finish.reason == "stop"


def test_a_custom_call_has_an_input():
    fragments = [
        called({"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "fr"}}),
        called({"index": 0, "custom": {"input": "ee"}}),
    ]
    assert calls(*fragments, chunk({}, "tool_calls")) == [ToolCall("a", "f", "free", custom=True)]


def test_where_one_call_is_wanted_the_first_counts():
    pieces = [
        called(call("{", id="a", name="f"), call("{", index=1, id="b", name="g")),
        called(call("}", index=1), call("}")),
        chunk({}, "tool_calls"),
    ]
    assert calls(*pieces, of=reader(single=True)) == [ToolCall("a", "f", "{}")]


# --- a forced call


def test_a_forced_call_is_made_of_the_constrained_answer():
    of = reader(forced=("f",))
    read = events(
        chunk({"reasoning_content": "hm"}),
        text('{"name":"f",'),
        text('"arguments":{"x":1}}'),
        chunk({}, "stop"),
        of=of,
    )
    assert read == [
        Start(),
        ReasoningDelta("hm"),
        ToolCallDelta(0, '{"x":1}', "minted0", "f"),
        Finish("tool_calls"),
    ]


@pytest.mark.parametrize(
    "said", ["", "no", '{"name":"g","arguments":{}}', '{"name":"f","arguments":"x"}', "5"]
)
def test_a_forced_call_that_was_not_made_is_a_failure(said):
    with pytest.raises(UpstreamProtocolError):
        events(text(said), chunk({}, "stop"), of=reader(forced=("f",)))


def test_a_forced_call_cut_by_the_limit_says_so():
    read = folded(text('{"name":"f"'), chunk({}, "length"), of=reader(forced=("f",)))
    assert read.parts == (Text('{"name":"f"'),) and read.finish.reason == "length"


# --- logprobs


def test_logprobs_come_with_their_text():
    tokens = [
        {
            "token": "é",
            "logprob": -0.5,
            "bytes": [195, 169],
            "top_logprobs": [{"token": "e", "logprob": -1, "bytes": None}],
        }
    ]
    read = events(text("é", logprobs={"content": tokens}), text("x"), chunk({}, "stop"))
    expected = TokenLogprob("é", -0.5, (195, 169), (TokenLogprob("e", -1),))
    assert read[1:3] == [TextDelta("é", (expected,)), TextDelta("x")]


@given(st.lists(st.sampled_from([-0.5, -1.0]), min_size=3, max_size=8))
def test_tokens_alike_but_for_their_probability_keep_it(chances):
    pieces = [text("a", logprobs={"content": [{"token": "a", "logprob": chance}]}) for chance in chances]
    assert [token.logprob for token in folded(*pieces, chunk({}, "stop")).logprobs] == chances


# --- whole answers


def whole(message, finish="stop", of=None, **more):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return Fold((of or reader()).whole(dumps({"choices": [choice], **more}))).answer()


def test_a_whole_answer_is_its_events_put_together():
    answer = whole(
        {"content": "x", "reasoning": "hm", "tool_calls": [call("{}", index=None, id="a", name="f")]},
        usage=USAGE,
    )
    assert [type(part).__name__ for part in answer.parts] == ["Reasoning", "Text", "ToolCall"]
    assert answer.finish == Finish("tool_calls") and answer.usage == COUNTS
    assert whole({"content": '{"name":"f","arguments":{}}'}, of=reader(forced=["f"])).parts == (
        ToolCall("minted0", "f", "{}"),
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[{}]}', b'{"choices":[{"message":{}}]}'],
)
def test_what_is_no_answer_is_a_fault(body):
    with pytest.raises(UpstreamProtocolError):
        reader().whole(body)


def test_an_error_in_a_whole_body_is_told():
    with pytest.raises(UpstreamAnswered):
        reader().whole(b'{"error":{"message":"x"}}')


# --- every cut, every byte


PIECES = [
    chunk({"role": "assistant", "content": ""}),
    *(chunk({"reasoning": word}) for word in ("h", "é🙂", "m", "\\", 'q"u')),
    *(
        text(word)
        for word in ("Hi", " {", "é🙂", 'say "content":"x"', "\n", "data: [DONE]\n\n", "x" * 200, "", "y")
    ),
    called(call("", id="a", name="f")),
    called(call('{"x":"\\u00e9"}')),
    chunk({}, "tool_calls"),
    chunk(usage=USAGE),
    DONE,
]
EXPECTED = Fold(events(*PIECES)).answer()


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
def test_every_cut_gives_the_same_answer(cuts, line_end, done):
    data = b"".join(piece.replace(b"\n\n", line_end * 2) for piece in (PIECES if done else PIECES[:-1]))
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert folded(*pieces) == EXPECTED


@given(st.lists(st.text(max_size=10), min_size=3, max_size=12), st.booleans())
def test_any_text_comes_out_as_it_went_in(words, thinking):
    name = "reasoning" if thinking else "content"
    read = events(*(chunk({name: word}) for word in words), chunk({}, "stop"))
    kind = ReasoningDelta if thinking else TextDelta
    assert [event.text for event in read if isinstance(event, kind)] == [word for word in words if word]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
MEMBERS = ["content", "reasoning", "refusal", "tool_calls", "role", "thinking"]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(MEMBERS), json_values),
    st.dictionaries(
        st.sampled_from(["index", "logprobs", "finish_reason", "stop_reason", "usage"]), json_values
    ),
    st.dictionaries(st.sampled_from(["usage", "error", "choices", "detail"]), json_values),
)
def test_nothing_hostile_is_more_than_an_error(delta, choice, more):
    for of in (reader(), reader(forced=("f",), single=True), CompletionReader(backend="b", limit=99)):
        try:
            of.feed(
                text("a") * 2
                + chunk(delta, choice=choice)
                + chunk(delta, choice={**choice, "text": "x"}, **more)
            )
            of.feed(chunk({}, "stop"))
            of.finish()
        except GhostError:
            pass
    for of in (reader(), CompletionReader(backend="b", limit=99)):
        try:
            of.whole(dumps({"choices": [{"message": delta, "text": "x", **choice}], **more}))
        except GhostError:
            pass


@given(st.binary(max_size=60))
def test_no_bytes_are_more_than_an_error(data):
    for method in ("feed", "whole"):
        of = reader()
        try:
            getattr(of, method)(data)
            of.finish()
        except GhostError:
            pass


# --- completions


def piece(words, finish=None, **more):
    choice = {"index": 0, "text": words, "logprobs": None, "finish_reason": finish, **more}
    return b"data: " + dumps({"choices": [choice]}) + b"\n\n"


def test_a_continuation_is_text():
    of = CompletionReader(backend="b", limit=4096)
    read = events(piece("On"), piece("ce"), piece("", "length"), chunk(usage=USAGE), DONE, of=of)
    assert read == [Start(), TextDelta("On"), TextDelta("ce"), Finish("length"), UsageEvent(COUNTS)]
    assert of.committed and of.complete


def test_the_parallel_lists_of_completions_become_tokens():
    logprobs = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"b": -0.5, "c": -1.5}],
        "text_offset": [0, 1],
    }
    body = dumps({"choices": [{"text": "ab", "logprobs": logprobs, "finish_reason": "stop"}], "usage": USAGE})
    answer = Fold(CompletionReader(backend="b", limit=4096).whole(body)).answer()
    assert answer.parts == (Text("ab"),) and answer.usage == COUNTS
    top = (TokenLogprob("b", -0.5), TokenLogprob("c", -1.5))
    assert answer.logprobs == (TokenLogprob("b", -0.5, top=top),)


# --- embeddings


def vectors(items, expected=2, dimensions=None, **more):
    usage = Usage()
    body = dumps({"data": items, "usage": {"prompt_tokens": 4}, **more})
    return read_embeddings(body, expected, dimensions, usage, "b"), usage.prompt


def test_vectors_are_read_as_numbers_and_as_base64_in_their_order():
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    items = [{"index": 1, "embedding": [1, 2.5]}, {"index": 0, "embedding": packed}]
    assert vectors(items) == ([[0.5, -1.0], [1, 2.5]], 4)
    assert vectors([{"embedding": [1.0]}, {"embedding": [2.0]}])[0] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "items",
    [
        None,
        [],
        [{"embedding": [1.0]}],
        [{"embedding": []}, {"embedding": [1.0]}],
        [{"embedding": ["x"]}, {"embedding": [1.0]}],
        [{"embedding": "!"}, {"embedding": [1.0]}],
        [{"embedding": "AAA="}, {"embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [5, 6],
    ],
)
def test_what_is_no_vector_is_a_fault(items):
    with pytest.raises(UpstreamProtocolError):
        vectors(items)


def test_vectors_of_another_size_are_the_requests_fault():
    with pytest.raises(UpstreamAnswered) as caught:
        vectors([{"embedding": [1.0]}], expected=1, dimensions=2)
    assert caught.value.param == "dimensions" and not caught.value.retryable
    with pytest.raises(UpstreamAnswered):
        vectors(None, error={"message": "x"})


# --- what is known by its frame


def framed():
    of = reader()
    for word in ("one", "two", "three", "four"):
        assert of.feed(text(word))[-1] == TextDelta(word)
    return of


@pytest.mark.parametrize("odd", [b"fi\x01ve", b"fi\nve", b"fi\\", b"fi", b"fi\xffve", b"fi\\xve"])
def test_an_event_like_the_others_but_for_its_text_is_not_waved_through(odd):
    whole_event = text("five").replace(b"five", odd)
    if odd == b"fi":
        whole_event = whole_event.replace(b'fi"', b"fi")
    of = framed()
    with pytest.raises(UpstreamProtocolError):
        of.feed(whole_event)


def test_an_event_in_the_middle_of_another_line_is_none():
    of = framed()
    assert of.feed(b": a comment ") == []
    assert of.feed(text("x")) == []
    assert of.feed(text("y")) == [TextDelta("y")]


@pytest.mark.parametrize("word", ["né", "\n", 'a "b"', "\\", "\u00a0", "🙂", "", "</s>"])
def test_any_text_is_read_through_the_frame(word):
    assert framed().feed(text(word)) == ([TextDelta(word)] if word else [])


def test_a_finish_reason_after_many_alike_is_seen():
    of = framed()
    assert of.feed(text("five", finish="length")) == [TextDelta("five")]
    assert of.complete and of.finish() == [Finish("length")]
