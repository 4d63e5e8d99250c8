"""Rows of `bench.micro`: the way of one request, in its order, and of one streamed token."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from bench import speech
from bench.micro import Rows, Timed

if TYPE_CHECKING:
    from ghostllm.api.openai.passthrough import PassThrough
    from ghostllm.message import Call

ROWS = Rows()

KEY = b"sk-bench-0123456789abcdef0123456789abcdef"
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.54.0\r\nAuthorization: Bearer %b\r\n"
    b"X-Stainless-Lang: python\r\nX-Stainless-Async: false\r\nContent-Length: %d\r\n\r\n"
) % (KEY, len(speech.body()))
ANSWER_HEAD, _, ANSWER = speech.SPEECH["openai"].answer.partition(b"\r\n\r\n")
EVENTS = [speech.SPEECH["openai"].token % stamp for stamp in range(10**15, 10**15 + 64)]
END = speech.SPEECH["openai"].end


def chat(*, stream: bool = False, model: str = "bench") -> Call:
    from ghostllm.api.openai import door

    return door.read_call("chat", speech.body(model=model, stream=stream))


def openai_backend() -> Any:
    from ghostllm import backends
    from ghostllm.config.schema import BackendConfig

    return backends.translator(BackendConfig(name="mock", kind="openai", url="http://127.0.0.1:1"), 8 << 20)


# --- the request


@ROWS("wire: find the end of a head")
def find_head_end() -> Timed:
    from ghostllm.wire.h1_request import find_head_end

    buffer = bytearray(HEAD + speech.body())
    return lambda: find_head_end(buffer)


@ROWS("wire: scan a request head", budget=4.0)
def scan_head() -> Timed:
    from ghostllm.wire.h1_request import HeadLimits, read_request

    limits = HeadLimits()
    return lambda: read_request(HEAD, limits)


@ROWS("wire: scan a request head, values never seen before")
def scan_new_head() -> Timed:
    from ghostllm.wire.h1_request import HeadLimits, read_request

    limits, numbers = HeadLimits(), count(10**6)
    first, rest = HEAD.split(b"\r\n", 1)

    def scan() -> object:
        return read_request(b"%b\r\nX-Request-Id: %d\r\n%b" % (first, next(numbers), rest), limits)

    return scan


@ROWS("gateway: find the route")
def route() -> Timed:
    from ghostllm.gateway.routes import Route, Routes

    def handle(exchange: object, responder: object) -> None:
        return None

    paths = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/health", "/metrics"]
    routes = Routes([Route(path, path, {"GET": handle, "POST": handle}) for path in paths])

    def find() -> object:
        found = routes.find("/v1/chat/completions")
        assert found is not None
        return routes.handler(found, "POST")

    return find


@ROWS("policy: check the key, of a hundred", budget=1.0)
def key_check() -> Timed:
    from ghostllm.config.schema import KeyConfig
    from ghostllm.policy.keys import KeyRing, hash_key

    keys = [KeyConfig(name=f"k{n}", hash=f"sha256:{hash_key(f'sk-{n}').hex()}") for n in range(99)]
    keys.append(KeyConfig(name="bench", hash=f"sha256:{hash_key(KEY.decode()).hex()}"))
    ring = KeyRing(keys)
    headers = {b"host": b"gateway", b"authorization": b"Bearer " + KEY, b"content-type": b"application/json"}
    return lambda: ring.identify(headers)


@ROWS("api: read a chat of 1 KB", budget=2.0)
def read_call() -> Timed:
    from ghostllm.api.openai import door

    text = speech.body()
    return lambda: door.read_call("chat", text)


@ROWS("backends: prepare a chat, passed through", budget=3.0)
def prepare_unchanged() -> Timed:
    backend, call = openai_backend(), chat()
    return lambda: backend.prepare(call, "bench", {})


@ROWS("backends: prepare a stream, usage asked for by splice")
def prepare_stream() -> Timed:
    backend, call = openai_backend(), chat(stream=True)
    return lambda: backend.prepare(call, "bench", {})


@ROWS("api: splice another model into 1 KB", budget=3.0)
def splice() -> Timed:
    from ghostllm import jsonx
    from ghostllm.api.splice import edit

    text = speech.body()
    fields = jsonx.loads(text)
    return lambda: edit(text, fields, {"model": "another"})


@ROWS("api: splice another model into 200 KB")
def splice_large() -> Timed:
    from bench.bodies import prompt
    from ghostllm import jsonx
    from ghostllm.api.splice import edit

    text = prompt(200)
    fields = jsonx.loads(text)
    return lambda: edit(text, fields, {"model": "another"})


@ROWS("wire: write a request head")
def request_head() -> Timed:
    from ghostllm.wire.h1_request import request_head

    headers = (
        (b"host", b"127.0.0.1:1"),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json"),
        (b"content-length", b"1030"),
    )
    return lambda: request_head("POST", "/v1/chat/completions", headers)


# --- the answer


@ROWS("wire: read a response head", budget=3.0)
def read_response() -> Timed:
    from ghostllm.wire.h1_response import read_response

    head = ANSWER_HEAD + b"\r\n\r\n"
    return lambda: read_response(head, "POST")


@ROWS("wire: write a response head", budget=2.0)
def response_head() -> Timed:
    from ghostllm.wire.h1_response import date_value, response_head

    headers = ((b"content-type", b"application/json"),)
    field = b"x-request-id: req_0123456789ab00000001\r\n"

    def write() -> bytes:
        date = date_value(1_790_000_000)
        return response_head(200, headers, field, length=len(ANSWER), close=False, date=date)

    return write


@ROWS("api: whole answer, usage captured", budget=3.0)
def whole_answer() -> Timed:
    backend, call = openai_backend(), chat()
    _, answer = backend.prepare(call, "bench", {})
    return lambda: answer.whole(ANSWER)


def begun(*, rename: bool = False, rescue: bool = False) -> PassThrough:
    """A stream that has passed its first token."""
    call = chat(stream=True, model="alias" if rename else "bench")
    call.rescue = rescue
    _, answer = openai_backend().prepare(call, "bench", {})
    for event in EVENTS[:8]:
        answer.feed(event)
    passed: PassThrough = answer
    return passed


@ROWS("api: token passed on by its frame", budget=1.0, calls=56)
def frame() -> Timed:
    answer = begun()

    def feed() -> None:
        for event in EVENTS[8:]:
            answer.feed(event)

    return feed


@ROWS("api: token passed on by its frame, and kept for a rescue", calls=56)
def frame_kept() -> Timed:
    answer = begun(rescue=True)

    def feed() -> None:
        for event in EVENTS[8:]:
            answer.feed(event)

    return feed


@ROWS("api: token passed on, model renamed", calls=56)
def frame_renamed() -> Timed:
    answer = begun(rename=True)

    def feed() -> None:
        for event in EVENTS[8:]:
            answer.feed(event)

    return feed


@ROWS("api: eight tokens in one piece, passed on", calls=7)
def row_of_tokens() -> Timed:
    answer = begun()
    pieces = [b"".join(EVENTS[at : at + 8]) for at in range(8, 64, 8)]

    def feed() -> None:
        for piece in pieces:
            answer.feed(piece)

    return feed


@ROWS("api: a whole stream of 64 tokens, from first to usage")
def whole_stream() -> Timed:
    backend, call = openai_backend(), chat(stream=True)
    last = [line.partition(b"\r\n")[2] for line in END.split(b"\n\n\r\n")[:3]]
    events = [*EVENTS, *(event + b"\n\n" for event in last)]

    def stream() -> None:
        _, answer = backend.prepare(call, "bench", {})
        for event in events:
            answer.feed(event)
        answer.finish()

    return stream


@ROWS("api: a whole stream of 64 tokens, kept for a rescue")
def whole_stream_kept() -> Timed:
    backend, call = openai_backend(), chat(stream=True)
    call.rescue = True
    last = [line.partition(b"\r\n")[2] for line in END.split(b"\n\n\r\n")[:3]]
    events = [*EVENTS, *(event + b"\n\n" for event in last)]

    def stream() -> None:
        _, answer = backend.prepare(call, "bench", {})
        for event in events:
            answer.feed(event)
        answer.finish()

    return stream


@ROWS("backends: token translated, Ollama's to OpenAI's", calls=56)
def translated_token() -> Timed:
    from ghostllm import backends
    from ghostllm.config.schema import BackendConfig

    config = BackendConfig(name="mock", kind="ollama", url="http://127.0.0.1:1")
    call = chat(stream=True)
    _, answer = backends.translator(config, 8 << 20).prepare(call, "bench-ollama", {})
    lines = [speech.SPEECH["ollama"].token % stamp for stamp in range(10**15, 10**15 + 64)]
    for line in lines[:8]:
        answer.feed(line)

    def feed() -> None:
        for line in lines[8:]:
            answer.feed(line)

    return feed
