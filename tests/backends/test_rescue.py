"""Streams that break and are gone on with: through every door, from every dialect to every other."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.backends.profiles import LLAMACPP, LMSTUDIO, OPENAI, TRANSFORMERS, VLLM
from ghostllm.errors import CannotContinue, UpstreamCut, UpstreamProtocolError
from ghostllm.message import Parameters
from tests.backends.rescue import ASKED, BACKENDS, TEXTS, Script, call_of, mint, openai, read, shape, stream

pytestmark = pytest.mark.wide

WAYS = [
    (way, first, second)
    for way, first, second in itertools.product(ASKED, BACKENDS, BACKENDS)
    if way not in TEXTS or "anthropic" not in (first, second)
]
TEXT = ["Hel", "lo ", "wor", "ld,\n", "\n", "and ", 'a "quote" \\ ', "ü\u2028", "."]
WHOLE = "".join(TEXT)


def begin(way, backend, call):
    _, answer = BACKENDS[backend]().prepare(call, "real", {})
    return answer


def resume(backend, call, broken, extra=None):
    request, answer = BACKENDS[backend]().resume(call, "real", extra or {}, broken)
    return jsonx.loads(b"".join(request.body)), answer


def beginning(body):
    """The text so far, as a request has it."""
    if "prompt" in body:
        return body["prompt"].removeprefix("Once").removeprefix("hi")
    last = body["messages"][-1]
    if last["role"] != "assistant":
        return ""
    content = last["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def form(way, backend, body):
    """How a server answers to such a request."""
    shown = shape(way, backend)
    return {**shown, "generate": False} if "messages" in body else shown


def run(answer, events):
    return b"".join(map(answer.feed, events)) + answer.finish()


@pytest.mark.parametrize(("way", "first", "second"), WAYS)
def test_a_text_goes_on_wherever_it_was_cut(way, first, second):
    events = stream(first, Script(TEXT, [] if way in TEXTS else ["hm", "m"]), **shape(way, first))
    rescued = 0
    for cut in range(1, len(events) + 1):
        call = call_of(way)
        answer = begin(way, first, call)
        out = b"".join(map(answer.feed, events[:cut]))
        if not answer.committed or answer.complete:
            continue
        try:
            body, rest = resume(second, call, answer)
        except CannotContinue as error:
            assert "it has said nothing but thoughts" in error.message or "it is thinking" in error.message
            continue
        sent = beginning(body)
        assert WHOLE.startswith(sent) and sent == sent.rstrip()
        left = WHOLE[len(sent) :]
        script = Script(
            [left[at : at + 3] for at in range(0, len(left), 3)], ["again"], prompt=30, completion=5
        )
        if way in TEXTS:
            script.thoughts = []
        out += run(rest, stream(second, script, **form(way, second, body)))
        got = read(way, out)
        assert got.text == WHOLE and got.thoughts == ("" if way in TEXTS else "hmm") and got.calls == ()
        assert got.finish in ("stop", "end_turn", "completed")
        assert sum(got.usage) == 35 and rest.usage.prompt + rest.usage.completion == 35
        assert rest.committed and rest.complete and rest.fault is None
        rescued += 1
    assert rescued >= len(TEXT) - 1


@pytest.mark.parametrize(("way", "first", "second"), WAYS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_text_cut_at_any_byte_again_and_again(way, first, second, data):
    """Echoes, white space and several breaks: the client reads the whole text, once."""
    words = st.text('ab \n"\\é{}😀', min_size=1, max_size=5)
    pieces = data.draw(st.lists(words, min_size=1, max_size=8))
    whole, call = "".join(pieces), call_of(way)
    answer = begin(way, first, call)
    events = stream(first, Script(pieces), **shape(way, first))
    out = cut_off(answer, b"".join(events), data)
    if not answer.committed:
        return  # another try is free
    for last in (False, False, True):
        if answer.complete:
            break
        body, answer = resume(second, call, answer)
        rest = goes_on(whole, beginning(body), answer, data)
        if rest is None:
            return
        events = stream(second, Script(rest), **form(way, second, body))
        out += cut_off(answer, b"".join(events), data, whole=last)
    if not answer.complete:
        return
    try:
        out += answer.finish()
    except UpstreamCut:  # all has been said, but the last event came by half
        return
    out = re.sub(rb"event:? ?\w*\n\n", b"", out)  # half an event has no data, and says nothing
    assert read(way, out).text == whole


def cut_off(answer, raw, data, *, whole=False):
    """What the client gets of a stream that ends anywhere, and comes in pieces of any size."""
    end = len(raw) if whole else data.draw(st.integers(0, len(raw)))
    size = data.draw(st.integers(1, 200))
    out = b""
    for at in range(0, end, size):
        out += answer.feed(raw[at : min(at + size, end)])
    return out


def goes_on(whole, sent, answer, data):
    """What a server says that was given `sent`; None where nobody could tell what it means."""
    assert whole.startswith(sent) and sent == sent.rstrip()
    left = whole[len(sent) :]
    blank = answer.told(0, str).said.of("text")[len(sent) :]
    assert left.startswith(blank)
    if blank and not left[len(blank) :][:1].isspace() and data.draw(st.booleans()):
        left = left[data.draw(st.integers(0, len(blank))) :]
    if len(sent) >= 16:
        if left.startswith(sent):
            return None  # taken for an echo
        if data.draw(st.booleans()):
            left = sent + left
    return [left[at : at + 3] for at in range(0, len(left), 3)]


# --- the request for the rest


def broken(way="chat", first="openai", script=None, drop=0, **more):
    """A call, its answer without its end (and `drop` events before that), and what its client has."""
    drop += 1 if first == "ollama" else 3
    call = call_of(way, **more)
    answer = begin(way, first, call)
    events = stream(first, script or Script(["Hello ", "wor", "ld "]), **shape(way, first))
    out = b"".join(map(answer.feed, events[: len(events) - drop]))
    assert answer.committed and not answer.complete
    return call, answer, out


def body_of(profile, call, answer, extra=None):
    request, _ = openai(profile).resume(call, "real", extra or {}, answer)
    return jsonx.loads(b"".join(request.body))


def test_servers_are_told_to_go_on_each_in_its_way():
    call, answer, _ = broken(chat_template_kwargs={"x": 1}, top_k=3)
    body = body_of(VLLM, call, answer)
    assert body["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello world"},
    ]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["chat_template_kwargs"] == {"x": 1, "enable_thinking": False}
    assert (body["model"], body["top_k"], body["stream"]) == ("real", 3, True)
    body = body_of(LLAMACPP, call, answer)
    assert "continue_final_message" not in body
    assert body["chat_template_kwargs"] == {"x": 1, "enable_thinking": False}
    call, answer, _ = broken()
    body, _ = resume("ollama", call, answer)
    assert body["think"] is False and body["messages"][-1]["content"] == "Hello world"
    call, answer, _ = broken("messages", "anthropic", thinking={"type": "adaptive"})
    body, _ = resume("anthropic", call, answer)
    assert body["thinking"] == {"type": "disabled"} and body["messages"][-1]["content"] == "Hello world"
    call, answer, _ = broken("messages", "anthropic")
    assert "thinking" not in resume("anthropic", call, answer)[0]


@pytest.mark.parametrize("profile", [OPENAI, LMSTUDIO, TRANSFORMERS], ids=lambda profile: profile.kind)
def test_servers_that_begin_anew_are_not_asked(profile):
    call, answer, _ = broken()
    with pytest.raises(CannotContinue, match="begins every answer anew"):
        openai(profile).resume(call, "real", {}, answer)
    call, answer, _ = broken("completions")
    assert body_of(profile, call, answer)["prompt"] == "OnceHello world"


@pytest.mark.parametrize(
    ("way", "first"), [("chat", "openai"), ("messages", "anthropic"), ("responses", "ollama")]
)
def test_thoughts_go_where_they_are_taken(way, first):
    script = Script(["so"], ["let me ", "think"])
    call, answer, _ = broken(way, first, script)
    message = body_of(VLLM, call, answer)["messages"][-1]
    if way == "messages":  # such a thought would need a signature
        assert message == {"role": "assistant", "content": "so"}
    else:
        assert message == {"role": "assistant", "content": "so", "reasoning_content": "let me think"}
    assert "think" not in jsonx.dumps(resume("anthropic", call, answer)[0]["messages"]).decode()


@pytest.mark.parametrize("way", ASKED)
def test_limits_are_lowered_by_what_was_told(way):
    limit = {
        "chat": {"max_completion_tokens": 10},
        "messages": {"max_tokens": 10},
        "responses": {"max_output_tokens": 10},
    }.get(way, {"max_tokens": 10} if way == "completions" else {"options": {"num_predict": 10}})
    for script, left in ((Script(list("abcde")), 5), (Script(list("abcdefghijklmno")), 1)):
        call, answer, _ = broken(way, "ollama", script, **limit)
        body, _ = resume("ollama", call, answer)
        assert body["options"]["num_predict"] == left


def test_the_models_own_limits_are_lowered_too():
    call, answer, _ = broken()
    body = body_of(VLLM, call, answer, {"max_tokens": 9})
    assert body["max_tokens"] == 6
    call, answer, _ = broken("messages", "anthropic")
    call.parameters = Parameters({"temperature": 0.5}, {"max_completion_tokens": 9})
    body, _ = resume("anthropic", call, answer)
    assert (body["max_tokens"], body["temperature"]) == (6, 0.5)
    assert call.parameters.forced == {"max_completion_tokens": 9} and call.fields["max_tokens"] == 1000


def test_what_the_client_began_is_gone_on_with():
    prefill = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well, "}]
    for way, first in (("messages", "anthropic"), ("ollama_chat", "ollama")):
        call, answer, _ = broken(way, first, messages=prefill)
        assert resume(first, call, answer)[0]["messages"][1:] == [
            {"role": "assistant", "content": "Well, Hello world"}
        ]
    blocks = [prefill[0], {"role": "assistant", "content": [{"type": "text", "text": "Well, "}]}]
    call, answer, _ = broken("messages", "anthropic", messages=blocks)
    body, _ = resume("openai", call, answer)
    assert body["messages"][1:] == [{"role": "assistant", "content": "Well, Hello world"}]
    call, answer, _ = broken(messages=prefill)
    with pytest.raises(CannotContinue, match="ends with an assistant's message"):
        resume("openai", call, answer)


def test_one_turn_of_ollamas_generate_becomes_a_chat():
    call, answer, _ = broken(
        "ollama_generate", "ollama", system="Be brief.", options={"seed": 1}, keep_alive=9
    )
    body, _ = resume("ollama", call, answer)
    assert body == {
        "model": "real",
        "options": {"seed": 1},
        "keep_alive": 9,
        "think": False,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "Hello world"},
        ],
    }
    call, answer, _ = broken("ollama_generate", "ollama", context=[1])
    with pytest.raises(CannotContinue, match="context"):
        resume("ollama", call, answer)


# --- what cannot be gone on with


SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"response_format": SCHEMA}, "format"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": TOOLS, "tool_choice": "required"}, "call is required"),
        ({"structured_outputs": {"regex": "a+"}}, "structured_outputs"),
        ({"functions": []}, "deprecated"),
    ],
)
def test_what_is_bound_is_not_continued(more, why):
    call, answer, _ = broken(**more)
    with pytest.raises(CannotContinue, match=why):
        resume("openai", call, answer)


def test_what_nobody_kept_cannot_be_gone_on_with():
    call, answer, _ = broken()
    call.rescue = False
    with pytest.raises(CannotContinue, match="kept"):
        resume("openai", call, begin("chat", "openai", call))
    call.rescue, call.fields["n"] = True, 2
    with pytest.raises(CannotContinue, match="kept"):
        resume("openai", call, begin("chat", "openai", call))
    events = stream("openai", Script(["x"]))
    answer.feed(b"".join(events[2:]))
    with pytest.raises(CannotContinue, match="complete"):
        resume("openai", call_of("chat"), answer)


@pytest.mark.parametrize(
    ("way", "first"), [("chat", "openai"), ("messages", "anthropic"), ("responses", "openai")]
)
def test_thoughts_alone_are_not_gone_on_with(way, first):
    call, answer, _ = broken(way, first, Script(["so"], ["hm", "hm"]), drop=5 if first == "anthropic" else 1)
    with pytest.raises(CannotContinue, match="thinking|thoughts"):
        resume("openai", call, answer)


def test_what_has_no_neutral_form_is_not_gone_on_with():
    call, answer, _ = broken()
    answer.feed(stream("openai", Script(["x"]))[1].replace(b'"content":"x"', b'"audio":{"data":"aa"}'))
    with pytest.raises(CannotContinue, match="audio"):
        resume("openai", call, answer)
    call, answer, _ = broken("messages", "anthropic", drop=-1)
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    start = {"type": "content_block_start", "index": 1, "content_block": block}
    answer.feed(b"event: content_block_start\ndata: %b\n\n" % jsonx.dumps(start))
    with pytest.raises(CannotContinue, match="server_tool_use"):
        resume("anthropic", call, answer)


def test_garbage_is_not_told():
    call, answer, out = broken(drop=1)
    events = stream("openai", Script(["x", "y"]))
    out += answer.feed(events[1] + b"data: {garbage\n\n" + events[2])
    assert answer.fault is not None
    body, rest = resume("openai", call, answer)
    assert body["messages"][-1]["content"] == "Hello worx"
    assert read("chat", out + run(rest, stream("openai", Script(["!"])))).text == "Hello worx!"


# --- the same request again


CALLS = [("look", ['{"a":', "1,", '"b":[2]}']), ("listen", ['{"c"', ":3}"])]
CERTAIN = {
    "chat": {"temperature": 0, "tools": TOOLS},
    "messages": {"temperature": 0},
    "responses": {"temperature": 0},
    "ollama_chat": {"options": {"temperature": 0}},
}
AGAIN = list(itertools.product(CERTAIN, BACKENDS, BACKENDS))


@pytest.mark.parametrize(("way", "first", "second"), AGAIN)
def test_calls_are_repeated_and_then_gone_on_with(way, first, second):
    """Cut anywhere at all. Ids of calls differ from one answer to the next, and the client sees the first."""
    script = Script(["I will", " call"], [] if first != second else ["hm", "m"], CALLS)
    if "ollama" in (first, second):
        script.calls = [(name, ["".join(pieces)]) for name, pieces in CALLS]
    events = stream(first, script)
    again = 0
    for cut in range(1, len(events) + 1):
        call = call_of(way, **CERTAIN[way])
        answer = begin(way, first, call)
        out = b"".join(map(answer.feed, events[:cut]))
        if not answer.committed or answer.complete:
            continue
        body, rest = resume(second, call, answer)
        if beginning(body):
            continue
        again += 1
        out += run(rest, stream(second, script, **form(way, second, body)))
        got = read(way, out)
        assert (got.text, got.thoughts) == ("I will call", "".join(script.thoughts))
        assert got.calls == tuple((name, "".join(pieces)) for name, pieces in CALLS)
        assert got.usage == (11, 7) and (rest.usage.prompt, rest.usage.completion) == (11, 7)
        assert not rest.usage.estimated
    assert again >= 1


def test_structured_output_is_repeated_character_by_character():
    call, answer, out = broken(script=Script(['{"a"', ": 1"]), response_format=SCHEMA, seed=3)
    body, rest = resume("openai", call, answer)
    assert body["messages"] == call.fields["messages"] and body["response_format"] == SCHEMA
    events = stream("openai", Script(["{", '"a": ', "1", "2}"]))
    assert rest.feed(events[0] + events[1] + events[2]) == b"" and not rest.committed
    out += rest.feed(b"".join(events[3:])) + rest.finish()
    assert read("chat", out).text == '{"a": 12}'


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (Script(['{"b"']), "other text"),
        (Script(['{"a'], ["hm"]), "reasoning instead of text"),
        (Script(['{"a"']), "it ended before"),
    ],
)
def test_another_way_is_a_failure(script, why):
    call, answer, _ = broken(script=Script(['{"a"', ": 1"]), response_format=SCHEMA, temperature=0)
    _, rest = resume("openai", call, answer)
    with pytest.raises(UpstreamProtocolError, match=f"another way: {why}"):
        run(rest, stream("openai", script))
    assert not rest.committed
    _, rest = resume("openai", call, answer)  # and nothing is lost for the next try
    run(rest, stream("openai", Script(['{"a": 1', "}"])))


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([("listen", ["{}"])], "another tool"),
        ([("look", ['{"a":2']), ("listen", ["{}"])], "other arguments"),
    ],
)
def test_other_calls_are_another_way(calls, why):
    call, answer, _ = broken(script=Script(calls=CALLS), drop=2, temperature=0, tools=TOOLS)
    _, rest = resume("openai", call, answer)
    with pytest.raises(UpstreamProtocolError, match=why):
        run(rest, stream("openai", Script(calls=calls)))


def test_a_call_that_is_whole_is_not_added_to():
    script = Script(["x"], calls=[("look", ["{}"])])
    call, answer, _ = broken("messages", "anthropic", script, drop=-1, temperature=0)
    _, rest = resume("anthropic", call, answer)
    with pytest.raises(UpstreamProtocolError, match="more arguments"):
        run(rest, stream("anthropic", Script(["x"], calls=[("look", ["{}", " "])])))


def test_calls_with_numbers_of_their_own_are_not_gone_on_with():
    call = call_of("chat", temperature=0, tools=TOOLS)
    answer = begin("chat", "openai", call)
    for event in stream("openai", Script(calls=CALLS))[:-4]:
        answer.feed(event.replace(b'"index":1', b'"index":0'))
    with pytest.raises(CannotContinue, match="numbered"):
        resume("openai", call, answer)


# --- tokens


def test_figures_are_those_of_the_whole():
    call, answer, _ = broken(script=Script(["a", "b", "c"]))
    _, rest = resume("openai", call, answer)
    events = stream("openai", Script(["d", "e"], prompt=23, completion=3))
    rest.feed(events[0] + events[1])
    assert (rest.usage.prompt, rest.usage.completion, rest.usage.estimated) == (None, 4, True)
    rest.feed(b"".join(events[2:]))
    assert (rest.usage.prompt, rest.usage.completion, rest.usage.estimated) == (20, 6, True)


def test_a_prompt_that_was_counted_stays():
    call, answer, _ = broken("messages", "anthropic", Script(["a", "b", "c"], prompt=20))
    _, rest = resume("openai", call, answer)
    run(rest, stream("openai", Script(["d"], prompt=24, completion=3)))
    assert (rest.usage.prompt, rest.usage.completion, rest.usage.estimated) == (20, 7, True)


def test_true_figures_are_no_estimate():
    call, answer, _ = broken(script=Script(["a", "b"]), drop=1)
    last = jsonx.loads(stream("openai", Script(["c"]))[1][6:])
    last["usage"] = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
    answer.feed(b"data: %b\n\n" % jsonx.dumps(last))
    _, rest = resume("openai", call, answer)
    run(rest, stream("openai", Script(["d"], prompt=25, completion=3)))
    assert (rest.usage.prompt, rest.usage.completion, rest.usage.estimated) == (20, 8, False)


def test_usage_goes_to_who_asked_for_it():
    call, answer, out = broken(stream_options=None)
    _, rest = resume("openai", call, answer)
    out += run(rest, stream("openai", Script(["!"])))
    assert read("chat", out).usage is None and b'"usage"' not in out and rest.usage.prompt == 8


def test_a_server_that_counts_nothing_leaves_an_estimate():
    call, answer, _ = broken(script=Script(["a", "b", "c"]))
    _, rest = resume("openai", call, answer)
    run(rest, stream("openai", Script(["d"], prompt=None)))
    assert (rest.usage.prompt, rest.usage.completion, rest.usage.estimated) == (None, 4, True)


# --- what is kept


LONG = [word for number in range(3000) for word in (f"word {number}", ' "\\" ', "\n", "é")]


@pytest.mark.parametrize(("way", "backend"), [(way, b) for way, b, second in WAYS if b == second])
def test_long_answers_are_kept_as_text(way, backend):
    call, answer, _ = broken(way, backend, Script(LONG), drop=1)
    said = answer.told(0, mint).said
    assert not said.unknown and 11_990 <= said.deltas <= 12_000
    whole = "".join(LONG)
    assert whole.startswith(said.of("text")) and len(whole) - len(said.of("text")) < 30
    assert len(said.runs) == 1 and not getattr(answer, "_pieces", getattr(answer, "_kept", []))


def test_padded_events_are_read_as_well():
    call = call_of("chat")
    answer = begin("chat", "openai", call)
    for number, event in enumerate(stream("openai", Script(LONG))[:-3]):
        answer.feed(event[:-3] + b',"obfuscation":"%b"}\n\n' % (b"x" * (number % 7)))
    said = answer.told(0, mint).said
    assert said.of("text") == "".join(LONG) and said.deltas == len(LONG)


@pytest.mark.parametrize("bad", [b"\xff", b"\x01", b"\\x"])
def test_what_is_no_json_is_not_gone_on_with(bad):
    call = call_of("chat")
    answer = begin("chat", "openai", call)
    events = stream("openai", Script(["x"] * 2000))
    for event in events[:-3]:
        answer.feed(event)
    answer.feed(events[1].replace(b'"x"', b'"%b"' % bad))
    if answer.fault is None:  # what passes by its frame is not parsed on its way
        with pytest.raises(CannotContinue, match="malformed|not sound"):
            resume("openai", call, answer)


def test_a_row_of_events_in_a_piece_is_read_as_well():
    call = call_of("chat")
    answer = begin("chat", "openai", call)
    events = stream("openai", Script(LONG))[:-3]
    for at in range(0, len(events), 7):
        answer.feed(b"".join(events[at : at + 7]))
    said = answer.told(0, mint).said
    assert said.of("text") == "".join(LONG) and said.deltas == len(LONG)


def test_a_stream_without_an_id_gets_one():
    call = call_of("chat")
    answer = begin("chat", "openai", call)
    bare = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    answer.feed(bare + bare)
    _, rest = resume("openai", call, answer)
    out = run(rest, stream("openai", Script(["y"])))
    assert jsonx.loads(out.split(b"\n\n")[0][6:])["created"] == 1_700_000_000


def test_a_rescue_that_breaks_tells_it_in_the_clients_stream():
    call, answer, _ = broken("responses", "openai")
    _, rest = resume("openai", call, answer)
    out = rest.broken(UpstreamCut("gone"))
    assert b"response.failed" in out and b"Hello world" in out
    with pytest.raises(UpstreamProtocolError, match="empty"):
        rest.finish()
    with pytest.raises(UpstreamProtocolError):
        rest.whole(b"{}")
