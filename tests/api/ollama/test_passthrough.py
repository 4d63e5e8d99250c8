"""An Ollama server's bytes for clients of its API: unchanged, but for the model's name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.ollama.passthrough import EmbedPassThrough, LinesPassThrough
from ghostllm.errors import GhostError, UpstreamAnswered, UpstreamCut, UpstreamError, UpstreamProtocolError
from ghostllm.jsonx import dumps, loads
from ghostllm.message import Call, Usage

# As Ollama 0.17.4 sent them; the last lines of the chat are of a newer one.
CHAT = (
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.246865135Z","message":{"role":"assistant",'
    b'"content":"Hello"},"done":false}\n'
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.2539639Z","message":{"role":"assistant",'
    b'"content":" \\u003cb\\u003e\xc3\xa9 \\"there\\""},"done":false}\n'
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.26Z","message":{"role":"assistant",'
    b'"content":"","thinking":"\\ud83d\\ude00 hm"},"done":false}\n'
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.260930306Z","message":{"role":"assistant",'
    b'"content":"!"},"done":false,"logprobs":[{"token":"!","logprob":-2.2870283126831055,"bytes":[33]}]}\n'
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.26Z","message":{"role":"assistant","content":"",'
    b'"tool_calls":[{"id":"call_1","function":{"index":0,"name":"f","arguments":{"model":"x"}}}]},'
    b'"done":false}\n'
)
CHAT_END = (
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.260938208Z","message":{"role":"assistant",'
    b'"content":""},"done":true,"done_reason":"length","total_duration":559915068,"load_duration":392223900,'
    b'"prompt_eval_count":36,"prompt_eval_duration":150699306,"eval_count":3,"eval_duration":14056627}\n'
)
GENERATE = (
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.476714309Z","response":"I","done":false}\n'
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.48329174Z","response":"\'m","done":false}\n'
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.49Z","response":"","thinking":"x","done":false}\n'
)
GENERATE_END = (
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.490243779Z","response":"","done":true,'
    b'"done_reason":"stop","context":[1,9690,198],"total_duration":57014378,"prompt_eval_count":36,'
    b'"eval_count":3}\n'
)
STREAMS = pytest.mark.parametrize(
    ("form", "body"), [("chat", CHAT + CHAT_END), ("generate", GENERATE + GENERATE_END)]
)
LOADED = (
    b'{"model":"smollm2","created_at":"2026-11-23T03:26:28.806222Z","message":{"role":"assistant",'
    b'"content":""},"done":true,"done_reason":"load"}'
)


def call(form="chat", model="smollm2", stream=True, **fields):
    operation = "embeddings" if form.startswith("embed") else "chat"
    return Call("ollama", operation, model, b"", {"model": model, **fields}, stream, form=form)


def passing(form="chat", model="smollm2", limit=1 << 16, **fields):
    return LinesPassThrough(call(form, model, **fields), backend="backend 'box'", limit=limit)


def embedding(form="embed", model="smollm2", **fields):
    return EmbedPassThrough(call(form, model, stream=False, **fields), backend="backend 'box'")


def renamed(body, model):
    """The same lines, with the top-level name alone changed."""
    old, new = b'{"model":"smollm2","created_at', b'{"model":%b,"created_at' % dumps(model)
    return body.replace(old, new)


# --- streams


@STREAMS
@pytest.mark.parametrize("model", ["smollm2", "team/alias:latest"])
def test_a_stream_comes_out_as_it_went_in_wherever_it_is_cut(form, body, model):
    for size in (1, 7, 100, 333, len(body)):
        answer = passing(form, model)
        out = b"".join(answer.feed(body[at : at + size]) for at in range(0, len(body), size))
        assert out + answer.finish() == renamed(body, model)
        assert answer.usage == Usage(36, 3) and answer.complete and answer.committed


@given(st.lists(st.integers(0, len(CHAT + CHAT_END)), max_size=6), st.sampled_from(["smollm2", "é"]))
def test_any_split_gives_the_same(cuts, model):
    body = CHAT + CHAT_END
    cuts = sorted(cuts)
    answer = passing(model=model)
    out = [answer.feed(body[start:end]) for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert b"".join(out) + answer.finish() == renamed(body, model)


@STREAMS
def test_lines_of_text_are_not_even_copied(form, body):
    lines = body.splitlines(keepends=True)
    answer = passing(form)
    for line in lines:
        assert answer.feed(line) is line
    answer = passing(form)
    answer.feed(lines[0])
    block = lines[0] + lines[1] + lines[2]
    assert answer.feed(block) is block


def test_a_name_inside_the_text_stays():
    said = CHAT.splitlines(keepends=True)[0].replace(
        b"Hello", b'{\\"model\\":\\"smollm2\\",\\"created_at\\":'
    )
    answer = passing(model="alias")
    assert answer.feed(said) == answer.feed(said) == renamed(said, "alias")
    assert b'\\"smollm2\\"' in renamed(said, "alias")


def test_the_commit_is_the_first_content():
    first = CHAT.splitlines(keepends=True)[0]
    answer = passing()
    assert answer.feed(first.replace(b"Hello", b"")) and not answer.committed
    answer.feed(first[:40])
    assert not answer.committed
    answer.feed(first[40:])
    assert answer.committed and not answer.complete


def test_lines_that_are_empty_do_not_come_out():
    answer = passing()
    assert answer.feed(b"\n \r\n" + CHAT.replace(b"\n", b"\n\n") + CHAT_END) == CHAT + CHAT_END


def test_what_follows_the_end_does_not_come_out():
    answer = passing()
    assert answer.feed(CHAT + CHAT_END + CHAT) == CHAT + CHAT_END
    assert answer.feed(b"garbage\n") + answer.finish() == b""


def test_a_last_line_may_lack_its_end():
    answer = passing()
    assert answer.feed(CHAT + CHAT_END[:-1]) + answer.finish() == CHAT + CHAT_END
    assert answer.complete and answer.usage == Usage(36, 3)


@pytest.mark.parametrize("rest", [b"", b'{"model":"smol', CHAT.splitlines()[0]])
def test_a_stream_without_its_end_was_cut(rest):
    answer = passing()
    answer.feed(CHAT + rest)
    with pytest.raises(UpstreamCut, match="'box'"):
        answer.finish()
    assert not answer.complete


def test_an_error_line_before_the_content_is_raised_at_once():
    answer = passing()
    with pytest.raises(UpstreamAnswered, match="out of memory"):
        answer.feed(b'{"error":"out of memory"}\n')
    assert not answer.committed


def test_an_error_line_after_content_lets_that_through_first():
    answer = passing()
    answer.feed(CHAT)
    assert answer.feed(CHAT + b'{"error":"runner crashed"}\n' + CHAT) == CHAT
    assert answer.fault is not None and "runner crashed" in answer.fault.message
    for step in (lambda: answer.feed(CHAT), answer.finish):
        with pytest.raises(UpstreamAnswered, match="runner crashed"):
            step()


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b"[]",
        b"3",
        b'{"message":3}',
        b'{"model":"a","model":"b","message":{"role":"assistant","content":"x"},"done":false}',
        b'{"model":"smollm2","created_at":"2026-11-23T03:26:28Z","message":{"role":"assistant","content":"\xff"},'
        b'"done":false}',
    ],
)
def test_what_is_not_ollamas_is_a_protocol_error(line):
    fresh = passing(model="alias")
    with pytest.raises(UpstreamProtocolError, match="'box'"):
        fresh.feed(line + b"\n")
    begun = passing(model="alias")
    begun.feed(CHAT)
    with pytest.raises(UpstreamProtocolError, match="'box'"):
        begun.feed(line + b"\n")


def test_a_line_has_its_limit():
    answer = passing(limit=100)
    with pytest.raises(UpstreamProtocolError, match="larger than 100 bytes"):
        answer.feed(b"x" * 101)


def test_an_answer_of_nothing_is_a_failure():
    last = (
        b'{"model":"smollm2","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n'
    )
    with pytest.raises(UpstreamProtocolError, match="nothing in it"):
        passing().feed(last)
    with pytest.raises(UpstreamProtocolError, match="nothing in it"):
        passing().whole(last)
    answer = passing()  # the model's first token was its end
    assert answer.feed(last.replace(b'"stop"', b'"stop","eval_count":1')) and answer.complete


def test_an_error_ends_a_stream_that_has_begun():
    assert passing().broken(UpstreamCut("gone")) == b'{"error":"gone"}\n'


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([CHAT, CHAT_END, b"{}\n", b'{"done":true}\n']), max_size=5
    )
)
def test_nothing_but_errors_of_ours_for_anything(pieces):
    answer = passing(model="alias")
    try:
        out = b"".join(map(answer.feed, pieces))
        out += answer.finish()
    except UpstreamError as error:
        assert error.message
    else:
        assert answer.complete and out.endswith(b"\n")
    try:
        passing().whole(b"".join(pieces))
    except UpstreamError as error:
        assert error.message


# --- whole answers


@pytest.mark.parametrize("model", ["smollm2", "alias"])
@pytest.mark.parametrize(
    "body",
    [
        CHAT_END[:-1].replace(b'"content":""', b'"content":"Hi"'),
        GENERATE_END.replace(b'"response":""', b'"response":"x"'),
    ],
)
def test_a_whole_answer_keeps_its_bytes(body, model):
    answer = passing(model=model)
    assert answer.whole(body) == renamed(body, model)
    assert answer.usage == Usage(36, 3) and answer.complete and answer.committed


def test_a_model_that_was_loaded_says_so():
    answer = passing(model="alias")
    assert answer.whole(LOADED) == renamed(LOADED, "alias")
    assert answer.complete and answer.usage == Usage(0, 0)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"done":false,"message":{"content":"x"}}', b'{"error":"no"}'])
def test_a_whole_answer_that_is_none_is_refused(body):
    with pytest.raises(UpstreamError):
        passing().whole(body)


# --- embeddings

EMBED = (
    b'{"model":"smollm2","embeddings":[[-0.5507807,-0.8321401],[-0.5477125,-0.83375514]],'
    b'"total_duration":35105109,"load_duration":16339071,"prompt_eval_count":2}'
)


def test_embeddings_keep_their_bytes():
    answer = embedding(input=["a", "b"])
    assert answer.whole(EMBED) is EMBED
    assert answer.usage == Usage(prompt=2) and answer.complete
    other = embedding(model="alias", input=["a", "b"]).whole(EMBED)
    assert loads(other)["model"] == "alias" and other.endswith(EMBED[18:])
    older = b'{"embedding":[-0.4243907332420349,2]}'
    assert embedding("embeddings", "alias", prompt="a").whole(older) is older


def test_no_embeddings_for_no_input():
    body = b'{"model":"smollm2","embeddings":[]}'
    for fields in ({}, {"input": ""}, {"input": []}):
        assert embedding(**fields).whole(body) is body


@pytest.mark.parametrize(
    ("form", "fields", "body"),
    [
        ("embed", {"input": ["a", "b"]}, b'{"model":"m","embeddings":[[1]]}'),
        ("embed", {"input": "a"}, b'{"model":"m","embeddings":[]}'),
        ("embed", {"input": "a"}, b'{"model":"m"}'),
        ("embed", {"input": "a"}, b"[]"),
        ("embed", {"input": "a"}, b""),
        ("embed", {"input": "a"}, b'{"error":"no"}'),
        ("embeddings", {"prompt": "a"}, b'{"embedding":[]}'),
        ("embeddings", {"prompt": "a"}, b'{"embeddings":[[1]]}'),
    ],
)
def test_embeddings_that_are_none_are_refused(form, fields, body):
    with pytest.raises(UpstreamError):
        embedding(form, **fields).whole(body)


def test_embeddings_are_no_stream():
    answer = embedding(input="a")
    for step in (lambda: answer.feed(b"x"), answer.finish, lambda: answer.broken(UpstreamCut("x"))):
        with pytest.raises(GhostError):
            step()
