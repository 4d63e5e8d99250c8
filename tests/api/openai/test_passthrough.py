"""Pass-through: bytes stay as they are, and what they say is understood, however the network cuts them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.api.openai.events import LAST_EVENT as DONE
from ghostllm.api.openai.passthrough import PassThrough, choices_of
from ghostllm.errors import UpstreamAnswered, UpstreamCut, UpstreamProtocolError
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call

LIMIT = 4096


def answer(*, model="m", wants=True, operation="chat", choices=1, stream=True, limit=LIMIT):
    call = Call("openai", operation, model, b"{}", {"model": model}, stream, wants)
    return PassThrough(call, backend="backend 'b'", limit=limit, choices=choices)


def style(dump, end):
    """A function that writes one event of a choice (or of none) in one server's style."""

    def event(delta=None, finish=None, index=0, **more):
        choice = {"index": index, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
        chunk = {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
        }
        if delta is None:
            chunk["choices"] = []
        return b"data: " + dump({**chunk, **more}).encode() + end

    return event


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


event = style(compact, b"\n\n")
STYLES = {
    "compact": event,
    "spaced": style(json.dumps, b"\n\n"),
    "crlf": style(compact, b"\r\n\r\n"),
    "cr": style(compact, b"\r\r"),
}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 0,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
ROLE = {"role": "assistant", "content": ""}
TEXTS = [
    "Hi",
    " {",
    "é🙂",
    'say "usage": 5',
    "\\",
    "\n\n",
    "}",
    '"error"',
    "data: [DONE]\n\n",
    "x" * 300,
    "end",
]


def stream(write=event, **more):
    deltas = [ROLE, {"reasoning_content": "hm"}, *({"content": text} for text in TEXTS)]
    deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": '{"model":"m","usage":null}'}}]})
    events = [write(delta, **more) for delta in deltas]
    return [
        *events,
        write({}, "stop", **more),
        write(usage=USAGE),
        DONE.replace(b"\n\n", events[0][-len(end_of(write)) :]),
    ]


def end_of(write):
    return write()[write().rindex(b"}") + 1 :]


def run(reader, pieces):
    out = [reader.feed(piece) for piece in pieces]
    return b"".join(out) + reader.finish()


def pieces_at(data, cuts):
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


@pytest.mark.parametrize("write", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("more", [{}, {"usage": None}], ids=["", "null usage"])
def test_every_event_comes_out_as_the_object_it_went_in_as(write, more):
    reader = answer()
    for index, piece in enumerate(stream(write, **more)):
        assert reader.feed(piece) is piece
        assert reader.committed == (index >= 1)
    assert reader.finish() == b"" and reader.complete
    usage = reader.usage
    assert (usage.prompt, usage.completion, usage.cached, usage.reasoning) == (7, 0, 3, 2)


@pytest.mark.parametrize("write", STYLES.values(), ids=STYLES)
def test_a_stream_cut_in_two_anywhere_is_the_same_stream(write):
    data = b"\xef\xbb\xbf: hello" + end_of(write) + b"".join(stream(write))
    for cut in range(len(data)):
        reader = answer()
        assert run(reader, [data[:cut], data[cut:]]) == data
        assert reader.complete and reader.usage.prompt == 7


@settings(deadline=None)
@given(st.sampled_from(sorted(STYLES)), st.lists(st.integers(0, 10_000), max_size=40))
def test_any_cuts_and_changes_give_what_a_reader_of_events_would_give(name, cuts):
    """Renamed and without usage, against every event parsed, changed and compared as JSON."""
    data = b"".join(stream(STYLES[name], usage=None))
    reader = answer(model="alias", wants=False)
    out = run(reader, pieces_at(data, cuts))
    expected = []
    for payload in payloads(data):
        if payload == b"[DONE]":
            expected.append("[DONE]")
        elif (chunk := loads(payload))["choices"]:
            chunk.pop("usage")
            expected.append({**chunk, "model": "alias"})
    assert [p.decode() if p == b"[DONE]" else loads(p) for p in payloads(out)] == expected
    assert reader.usage.prompt == 7


def payloads(data):
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [line[6:] for line in lines if line.startswith(b"data: ")]


def test_several_events_in_one_read_pass_as_one_object():
    reader = answer()
    events = stream()
    assert reader.feed(events[0]) is events[0]
    reader.feed(events[1])
    joined = b"".join(events[2:8])
    assert reader.feed(joined) is joined
    rest = b"".join(events[8:])
    assert reader.feed(rest) is rest
    assert reader.finish() == b""


@pytest.mark.parametrize(
    ("delta", "commits"),
    [
        (ROLE, False),
        ({"role": "assistant", "content": None, "tool_calls": [], "refusal": None}, False),
        ({}, False),
        ({"content": "x"}, True),
        ({"reasoning": "x"}, True),
        ({"refusal": "no"}, True),
        ({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]}, True),
    ],
)
def test_only_output_commits(delta, commits):
    reader = answer()
    reader.feed(event(delta))
    assert reader.committed is commits


def test_comments_and_an_empty_answer_do_not_commit():
    reader = answer()
    assert reader.feed(b": ping\n\n") == b": ping\n\n"
    reader.feed(event(ROLE) + event({}, "stop"))
    assert not reader.committed and reader.complete
    assert reader.finish() == DONE


def test_usage_is_withheld_from_whom_did_not_ask():
    reader = answer(wants=False)
    assert reader.feed(event({"content": "a"}, usage=None)) == event({"content": "a"})
    assert reader.feed(event({"content": "b"}, usage=None)) == event({"content": "b"})
    assert reader.feed(event({"content": "c"}, usage=None)) == event({"content": "c"})
    assert reader.feed(event({}, "stop", usage=USAGE)) == event({}, "stop")
    assert reader.feed(event(usage=USAGE)) == b""
    assert reader.feed(DONE) is DONE
    assert reader.usage.completion == 0 and reader.usage.prompt == 7


def test_usage_counts_wherever_it_comes_and_is_not_added_up():
    reader = answer()
    for count in (1, 2, 3):
        text = event({"content": "x"}, usage={"prompt_tokens": 5, "completion_tokens": count})
        assert reader.feed(text) is text
    assert (reader.usage.prompt, reader.usage.completion) == (5, 3)
    reader.feed(event({"content": "x"}, usage={"prompt_tokens": None, "completion_tokens": True}))
    assert (reader.usage.prompt, reader.usage.completion) == (5, 3)
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"completion_tokens": 9}}
    reader.feed(b"data: " + dumps({"choices": [choice]}) + b"\n\n")
    assert reader.usage.completion == 9
    reader.feed(event(usage={"prompt_cache_hit_tokens": 4}))
    assert reader.usage.cached == 4


def test_the_model_is_called_as_the_client_called_it():
    reader = answer(model='al"ias')
    for delta in (ROLE, {"content": "a"}, {"content": 'the "model":"m"'}, {"content": "c"}):
        out = reader.feed(event(delta))
        assert loads(out[6:]) == {**loads(event(delta)[6:]), "model": 'al"ias'}
    assert out == event({"content": "c"}, model='al"ias')


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), min_size=4), st.booleans(), st.booleans(), st.data())
def test_any_text_passes_and_what_follows_it_is_still_seen(texts, wants, padded, data):
    """Texts in a row, where the server repeats everything else, then an event that differs in one thing."""

    def write(delta, finish=None, usage=None):
        padding = {"obfuscation": data.draw(st.text("aBc123", max_size=5))} if padded else {}
        return event(delta, finish, usage=usage, **padding)

    name = data.draw(st.sampled_from(["m", "alias"]))
    reader = answer(model=name, wants=wants)
    for text in texts:
        piece = write({"content": text})
        expected = {**loads(piece[6:]), "model": name}
        if not wants:
            del expected["usage"]
        out = reader.feed(piece)
        assert loads(out[6:]) == expected and (out is piece) == (name == "m" and wants)
    last = write({"content": texts[0]}, "length", {"prompt_tokens": 3})
    assert loads(reader.feed(last)[6:])["choices"][0]["finish_reason"] == "length"
    assert reader.complete and reader.usage.prompt == 3
    with pytest.raises(UpstreamAnswered):
        reader.feed(write({"content": texts[0]})[:-3] + b',"error":"x"}\n\n')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"finish_reason":null', b'"finish_reason":"stop"'),
        (b'"content":"five"', b'"content":"fi\\"'),
        (b'"content":"five"', b'"content":"fi'),
        (b'"content":"five"', b'"content":"fi\nve"'),
        (b"}]", b"}"),
        (b"}\n\n", b"\n\n"),
    ],
)
def test_an_event_like_the_others_but_for_its_end_is_not_waved_through(old, new):
    reader = answer()
    for text in ("one", "two", "three", "four"):
        reader.feed(event({"content": text}))
    odd = event({"content": "five"}).replace(old, new)
    assert odd != event({"content": "five"})
    try:
        reader.feed(odd)
    except UpstreamProtocolError:
        return
    assert reader.complete


def test_a_model_inside_something_else_is_not_renamed():
    reader = answer(model="alias")
    out = reader.feed(event({"content": "a", "x": {"model": "m"}}))
    assert out == event({"content": "a", "x": {"model": "m"}}, model="alias")


def test_the_end_is_ours_to_say_where_the_server_does_not():
    reader = answer()
    reader.feed(event({"content": "a"}) + event({}, "stop"))
    assert reader.complete and reader.finish() == DONE
    assert reader.finish() == b""


@pytest.mark.parametrize("rest", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r\n"])
def test_a_terminator_without_its_empty_line_counts(rest):
    reader = answer()
    assert reader.feed(event({"content": "a"}) + rest) == event({"content": "a"})
    assert loads_done(reader.finish()) and reader.complete


def loads_done(out):
    return out.replace(b" ", b"") == b"data:[DONE]\n\n"


def test_nothing_comes_after_the_terminator():
    reader = answer()
    reader.feed(event({"content": "a"}))
    assert reader.feed(DONE + event({"content": "b"})) == DONE
    assert reader.feed(event({"content": "c"})) == b"" and reader.finish() == b""


@pytest.mark.parametrize(
    "tail", [b"", event({"content": "b"})[:-1], event({"content": "b"})[:40], b"data: ", b": ping"]
)
def test_a_stream_that_just_ends_was_cut(tail):
    reader = answer()
    reader.feed(event({"content": "a"}))
    if tail:
        reader.feed(tail)
    with pytest.raises(UpstreamCut):
        reader.finish()


def test_every_choice_has_to_finish():
    reader = answer(choices=2)
    reader.feed(event({"content": "a"}) + event({"content": "b"}, index=1))
    reader.feed(event({}, "stop", index=1))
    assert not reader.complete
    reader.feed(event({"content": "more"}))
    with pytest.raises(UpstreamCut):
        reader.finish()
    reader = answer(choices=2)
    reader.feed(event({"content": "a"}, "stop") + event({"content": "b"}, "length", index=1))
    assert reader.finish() == DONE


def test_a_finish_reason_among_nulls_is_seen():
    reader = answer(choices=2)
    reader.feed(event({"content": "a"}))
    reader.feed(event({"content": "a"}))
    both = {
        "choices": [
            {"index": 0, "delta": {}, "finish_reason": None},
            {"index": 1, "delta": {}, "finish_reason": "stop"},
        ]
    }
    reader.feed(b"data: " + dumps(both) + b"\n\n")
    reader.feed(event({}, "stop"))
    assert reader.complete


MALFORMED = {
    "not JSON": b"data: {nonsense}\n\n",
    "cut inside the text": b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Hel\n\n',
    "cut after a brace": b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Hel"}\n\n',
    "not an object": b"data: [1]\n\n",
    "a page": b"<html>\n\n<body>Bad gateway</body></html>\n\n",
}
AT_FIRST = {
    "choices of nothing": b'data: {"choices":[5]}\n\n',
    "two models": b'data: {"choices":[],"model":"x","model":"y"}\n\n',
}


@pytest.mark.parametrize("fault", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("before", [0, 1, 4])
def test_what_is_malformed_is_not_passed_on(fault, before):
    reader = answer()
    for _ in range(before):
        reader.feed(event({"content": "a"}))
    with pytest.raises(UpstreamProtocolError):
        reader.feed(fault)
    with pytest.raises(UpstreamProtocolError):
        reader.finish()


@pytest.mark.parametrize("fault", AT_FIRST.values(), ids=AT_FIRST)
def test_before_the_commit_every_event_is_parsed(fault):
    with pytest.raises(UpstreamProtocolError):
        answer().feed(fault)


@pytest.mark.parametrize("fault", [MALFORMED["cut after a brace"], b'data: {"error":{"message":"x"}}\n\n'])
def test_what_came_before_a_fault_is_delivered_after_the_commit(fault):
    good = event({"content": "b"})
    reader = answer()
    reader.feed(event({"content": "a"}))
    assert reader.feed(good + fault + good) == good
    with pytest.raises((UpstreamProtocolError, UpstreamAnswered)):
        reader.feed(good)
    with pytest.raises((UpstreamProtocolError, UpstreamAnswered)):
        reader.finish()
    fresh = answer()
    with pytest.raises((UpstreamProtocolError, UpstreamAnswered)):
        fresh.feed(good + fault)


@pytest.mark.parametrize(
    ("error", "status", "shown", "code", "retryable"),
    [
        ({"message": "slow down", "code": 429}, 429, 429, "rate_limit_exceeded", True),
        ({"message": "slow down", "type": "rate_limit_error"}, 429, 429, "rate_limit_exceeded", True),
        ({"message": "no memory", "code": 500}, 500, 502, "upstream_error", True),
        ({"message": "no memory", "type": "server_error", "code": None}, 500, 502, "upstream_error", True),
        ({"message": "bad schema", "code": 400}, 400, 400, None, False),
        (
            {"message": "too long", "code": "context_length_exceeded"},
            500,
            400,
            "context_length_exceeded",
            False,
        ),
        ({"message": "who?", "code": 401}, 401, 502, "upstream_refused", True),
        ("boom", 500, 502, "upstream_error", True),
    ],
)
def test_an_error_inside_the_stream_is_the_backend_s(error, status, shown, code, retryable):
    for before in (0, 4):
        reader = answer()
        for _ in range(before):
            reader.feed(event({"content": "a"}))
        with pytest.raises(UpstreamAnswered) as raised:
            reader.feed(b"data: " + dumps({"error": error}) + b"\n\n")
        told = raised.value
        assert (told.upstream_status, told.status, told.code, told.retryable) == (
            status,
            shown,
            code,
            retryable,
        )


@pytest.mark.parametrize(
    "body", [b'{"error":{"message":"x","code":503}}', b'{"detail":"x"}', b'{"object":"error","message":"x"}']
)
def test_an_error_body_where_a_stream_was_expected(body):
    reader = answer()
    reader.feed(body)
    with pytest.raises(UpstreamAnswered, match="x"):
        reader.finish()


@pytest.mark.parametrize("body", [b"", b"\n\n", b": ping\n\n", DONE, b'{"choices":[]}', b"<html>"])
def test_a_stream_without_an_answer_is_none(body):
    reader = answer()
    with pytest.raises(UpstreamProtocolError):
        if body:
            reader.feed(body)
        reader.finish()


def test_secrets_are_blotted_out_of_errors():
    call = Call("openai", "chat", "m", b"{}", {}, True)
    reader = PassThrough(call, backend="b", limit=9999, blot=lambda text: text.replace("sk-1", "***"))
    with pytest.raises(UpstreamAnswered, match=r"key \*\*\*"):
        reader.feed(b'data: {"error":{"message":"key sk-1"}}\n\n')


def test_a_long_event_passes_and_a_longer_one_ends_the_stream():
    text = event({"content": "x" * (LIMIT // 2)})
    reader = answer()
    out = b"".join(reader.feed(text[at : at + 7]) for at in range(0, len(text), 7))
    assert out == text
    with pytest.raises(UpstreamProtocolError, match="larger than 4096"):
        for _ in range(1000):
            reader.feed(b"data: {" + b"x" * 50)
    with pytest.raises(UpstreamProtocolError):
        reader.feed(b"\n\n")


def test_completions_stream():
    def text(value, finish=None):
        choice = {"index": 0, "text": value, "logprobs": None, "finish_reason": finish}
        return (
            b"data: "
            + dumps({"id": "c", "object": "text_completion", "model": "m", "choices": [choice]})
            + b"\n\n"
        )

    reader = answer(operation="completions")
    pieces = [text("Once"), text(" upon"), text(' "a"'), text("", "length"), DONE]
    assert [reader.feed(piece) is piece for piece in pieces] == [True] * 5
    assert reader.committed and reader.finish() == b""


def test_chunks_without_choices_pass_through():
    reader = answer()
    filtered = event(prompt_filter_results=[{"prompt_index": 0}])
    assert reader.feed(filtered) is filtered and not reader.committed
    other = b'data: {"type":"ping"}\n\n'
    assert reader.feed(other) is other


@pytest.mark.parametrize(
    ("fields", "extra", "operation", "count"),
    [
        ({}, {}, "chat", 1),
        ({"n": 3}, {}, "chat", 3),
        ({"n": None}, {}, "chat", 1),
        ({"n": 3}, {"n": 2}, "chat", 2),
        ({"prompt": "x"}, {}, "completions", 1),
        ({"prompt": [1, 2, 3]}, {}, "completions", 1),
        ({"prompt": ["a", "b"], "n": 2}, {}, "completions", 4),
        ({"prompt": [[1], [2], [3]]}, {}, "completions", 3),
    ],
)
def test_how_many_choices_an_answer_has(fields, extra, operation, count):
    assert choices_of(Call("openai", operation, "m", b"", fields), extra) == count


def whole(body, **options):
    reader = answer(stream=False, **options)
    return reader, reader.whole(body)


CHAT = {"id": "c", "model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}]}


def test_a_whole_answer_keeps_its_bytes():
    body = b' {"model" : "m", "choices":[{"message":{"content":"\\u0041"}}], "usage": {"prompt_tokens":0}}\n'
    reader, out = whole(body)
    assert out is body and reader.complete and reader.usage.prompt == 0
    _, out = whole(body, model="alias")
    assert out == body.replace(b'"m"', b'"alias"')


@pytest.mark.parametrize("embedding", [[0.5, 1], "AAAA"])
def test_embeddings(embedding):
    body = dumps(
        {"object": "list", "model": "m", "data": [{"embedding": embedding}], "usage": {"prompt_tokens": 4}}
    )
    reader, out = whole(body, operation="embeddings")
    assert out is body and reader.usage.prompt == 4


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("chat", b""),
        ("chat", b"<html></html>"),
        ("chat", b"{}"),
        ("chat", b"[]"),
        ("chat", b"null"),
        ("chat", b'{"choices":[]}'),
        ("chat", b'{"choices":null}'),
        ("chat", b'{"choices":[{}]}'),
        ("chat", b'{"choices":[{"message":{"content":"x"}}'),
        ("chat", b'{"model":"a","model":"b","choices":[{"message":{"content":"x"}}]}'),
        ("completions", b'{"choices":[{"message":{"content":"x"}}]}'),
        ("embeddings", b'{"data":[]}'),
        ("embeddings", b'{"data":[{"embedding":[]}]}'),
    ],
)
def test_a_whole_answer_with_nothing_in_it_is_none(operation, body):
    with pytest.raises(UpstreamProtocolError):
        whole(body, operation=operation)


def test_an_error_in_a_whole_200_is_one():
    with pytest.raises(UpstreamAnswered) as raised:
        whole(b'{"error":{"message":"busy","code":503}}')
    assert raised.value.status == 503
    assert whole(dumps({**CHAT, "error": None}))[0].complete


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"data: ",
                b"{",
                b"}",
                b'"',
                b"\n",
                b"\r",
                b"\n\n",
                b"[DONE]",
                b":",
                b"x",
                event({"content": "a"}),
            ]
        ),
        max_size=30,
    )
)
def test_no_bytes_break_the_reader(parts):
    reader = answer()
    try:
        run(reader, parts)
    except (UpstreamProtocolError, UpstreamAnswered, UpstreamCut):
        return
    assert reader.complete
