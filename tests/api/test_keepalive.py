"""Signs of life are read as nothing, in the stream of every door."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.api.anthropic.answer_reader import MessagesReader
from ghostllm.api.canonical import Fold, TextDelta
from ghostllm.api.doors import DOORS
from ghostllm.api.ids import mint
from ghostllm.api.keepalive import remark, sign
from ghostllm.api.ollama.answer_reader import AnswerReader
from ghostllm.api.ollama.request_writer import OllamaRequest
from ghostllm.api.openai.answer_reader import ChatReader
from ghostllm.errors import UpstreamCut, UpstreamProtocolError

NOW = 1_790_000_000
TURN = [{"role": "user", "content": "hi"}]


def call(door, operation, **fields):
    return DOORS[door].read_call(operation, jsonx.dumps({"model": "m", "stream": True, **fields}))


CALLS = {
    "openai": call("openai", "chat", messages=TURN),
    "responses": call("responses", "responses", input="hi"),
    "anthropic": call("anthropic", "messages", messages=TURN, max_tokens=9),
    "chat": call("ollama", "ollama_chat", messages=TURN),
    "generate": call("ollama", "ollama_generate", prompt="hi"),
}
READERS = {
    "openai": lambda: ChatReader(backend="b", limit=4096, mint=mint),
    "anthropic": lambda: MessagesReader(backend="b", limit=4096),
    "chat": lambda: AnswerReader(OllamaRequest("/api/chat", {}), lambda: "c", 4096),
    "generate": lambda: AnswerReader(OllamaRequest("/api/generate", {}), lambda: "c", 4096),
}


def stream(name):
    """The events of an answer, as the door's own writer tells it."""
    writer = DOORS[CALLS[name].door].writer(CALLS[name], NOW, lambda prefix: f"{prefix}1")
    source = ChatReader(backend="b", limit=4096, mint=mint)
    told = []
    for words, finish in (("All ", None), ("is ", None), ("well.", None), (None, "stop")):
        delta = {"role": "assistant", "content": words} if words else {}
        chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        told += source.feed(b"data: %b\n\n" % jsonx.dumps(chunk))
    told += source.feed(b"data: [DONE]\n\n") + source.finish()
    events = [data for event in told if (data := writer.event(event))]
    return [*events, end] if (end := writer.end()) else events


def with_signs(pieces, signs):
    """A sign before each piece, as the gateway may send one between any two."""
    return [part for piece in pieces for part in (*signs, piece)]


@pytest.mark.parametrize("name", READERS)
def test_the_answer_is_the_same_with_signs_and_without(name):
    asked, pieces = CALLS[name], stream(name)
    signs = [sign(asked, "waiting, position 3, about 12 s", NOW), remark(asked, "backend: b (rescue)")]

    def read(parts):
        reader = READERS[name]()
        events = [event for part in parts for event in reader.feed(part)]
        return Fold([*events, *reader.finish()]).answer(), [e for e in events if isinstance(e, TextDelta)]

    plain, told = read(pieces)
    assert "".join(delta.text for delta in told) == "All is well."
    assert read(with_signs(pieces, signs)) == (plain, told)
    whole = b"".join(with_signs(pieces, signs))
    assert read([whole[at : at + 1] for at in range(len(whole))]) == (plain, told), "cut anywhere"


@pytest.mark.parametrize("name", READERS)
def test_signs_alone_are_no_answer(name):
    reader = READERS[name]()
    events = [event for _ in range(5) for event in reader.feed(sign(CALLS[name], "waiting", NOW))]
    assert not [event for event in events if isinstance(event, TextDelta)]
    assert not reader.committed and not reader.complete
    with pytest.raises((UpstreamCut, UpstreamProtocolError)):
        reader.finish()


def browser_events(text):
    """Data of the events of an event stream, by the standard's own algorithm."""
    data, name = [], ""
    for line in re.split(b"\r\n|\r|\n", text):
        if not line:
            if data:
                yield name, b"\n".join(data)
            data, name = [], ""
        elif not line.startswith(b":"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode()
            else:
                raise AssertionError(line)
    assert not data, "an event was not ended"


@settings(deadline=None)
@given(st.text())
def test_no_note_gets_out_of_its_comment(note):
    for name in ("openai", "responses", "anthropic"):
        for data in (sign(CALLS[name], note, NOW), remark(CALLS[name], note)):
            assert data.endswith(b"\n\n") and data.isascii()
            events = list(browser_events(data))
            assert events in ([], [("ping", b'{"type": "ping"}')])
    assert list(browser_events(sign(CALLS["openai"], note, NOW))) == []


def test_a_comment_says_what_is_waited_for():
    assert sign(CALLS["openai"], "waiting, position 2", NOW) == b": waiting, position 2\n\n"
    assert sign(CALLS["anthropic"], "waiting", NOW).startswith(b": waiting\nevent: ping\n")
    assert remark(CALLS["responses"], "né\r\nx") == b": n???x\n\n"


def test_a_sign_between_events_leaves_a_responses_stream_whole():
    pieces = stream("responses")
    signs = [sign(CALLS["responses"], "waiting", NOW)]
    text = b"".join(with_signs(pieces, signs))
    assert list(browser_events(text)) == list(browser_events(b"".join(pieces)))


@settings(deadline=None)
@given(st.text(), st.text(min_size=1, max_size=9).filter(lambda name: name.strip()), st.integers(0, 2**33))
def test_lines_of_json_stay_lines_of_json(note, model, now):
    for operation, fields in (("ollama_chat", {"messages": TURN}), ("ollama_generate", {"prompt": "x"})):
        asked = call("ollama", operation, **fields)
        asked.model = model
        data = sign(asked, note, now)
        assert data.endswith(b"\n") and data.count(b"\n") == 1
        line = jsonx.loads(data)
        assert line["model"] == model and line["done"] is False
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["created_at"])
        assert line.get("response", line.get("message", {}).get("content")) == ""
        assert remark(asked, note) == b""


def test_what_has_no_stream_gets_no_sign():
    assert sign(call("ollama", "ollama_embed", input="x"), "waiting", NOW) == b""


def test_ids_begin_as_asked_and_are_never_met_twice():
    ids = {mint("chatcmpl-") for _ in range(1000)}
    assert len(ids) == 1000 and all(re.fullmatch("chatcmpl-[0-9a-f]{24}", one) for one in ids)


# --- the vendors' own clients, over a transport in memory


def transport(httpx, kind, parts):
    def answer(request):
        return httpx.Response(200, headers={"content-type": kind}, content=iter(parts))

    return httpx.Client(transport=httpx.MockTransport(answer))


def test_openai_s_client_reads_through_signs():
    openai, httpx = pytest.importorskip("openai"), pytest.importorskip("httpx")
    for name in ("openai", "responses"):
        parts = with_signs(stream(name), [sign(CALLS[name], "waiting", NOW)])
        with openai.OpenAI(
            api_key="k", base_url="http://h/v1", http_client=transport(httpx, "text/event-stream", parts)
        ) as client:
            if name == "openai":
                chunks = client.chat.completions.create(model="m", messages=TURN, stream=True)
                text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            else:
                events = client.responses.create(model="m", input="hi", stream=True)
                text = "".join(one.delta for one in events if one.type == "response.output_text.delta")
        assert text == "All is well."


def test_anthropic_s_client_reads_through_signs():
    anthropic, httpx = pytest.importorskip("anthropic"), pytest.importorskip("httpx2")
    parts = with_signs(stream("anthropic"), [sign(CALLS["anthropic"], "waiting", NOW)])
    with (
        anthropic.Anthropic(
            api_key="k", base_url="http://h", http_client=transport(httpx, "text/event-stream", parts)
        ) as client,
        client.messages.stream(model="m", max_tokens=9, messages=TURN) as told,
    ):
        assert "".join(told.text_stream) == "All is well."
        assert told.get_final_message().stop_reason == "end_turn"
