"""From a request and a behaviour to the steps that answer it. Pure: no socket, no clock."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

from tests.fakes import anthropic_formats, formats, ollama_formats
from tests.fakes.behaviour import Behaviour
from tests.fakes.prefill import continued


class Step(NamedTuple):
    """do: send (data), sleep (seconds), wait (for the gate `name`), stall, fin, rst. token: this is one."""

    do: str
    data: bytes = b""
    token: bool = False
    seconds: float = 0.0
    name: str = ""
    framed: bool = True
    """Counts as body, and is put in a chunk where the body is chunked."""


SERVERS = {"openai": "cloudflare", "vllm": "uvicorn", "transformers": "uvicorn", "llamacpp": "llama.cpp",
           "lmstudio": "Express", "ollama": "", "anthropic": "cloudflare"}  # fmt: skip
ENDS = ("stall", "fin", "rst")
WHOLE = ("embeddings", "embed", "count_tokens")
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/api/chat": "chat",
    "/api/generate": "generate",
    "/api/embed": "embed",
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count_tokens",
}


def plan(kind: str, number: int, path: str, request: dict[str, Any], b: Behaviour) -> list[Step]:
    """Everything that is done about a POST for an answer."""
    steps = _before(b)
    if b.hang or b.reset or b.close:
        return [*steps, Step("stall" if b.hang else "rst" if b.reset else "fin")]
    operation = OPERATIONS.get(path, "chat")
    if b.status == 200 and b.body is None:
        b = continued(kind, operation, request, b)
    streams = request.get("stream", kind == "ollama") and operation not in WHOLE
    if b.status == 200 and b.body is None and streams:
        body, content_type = _streamed(kind, operation, number, request, b)
        length = None
    else:
        whole, content_type = _whole(kind, operation, number, request, b)
        body = [Step("send", whole)] if whole else []
        length = None if b.framing == "close" or b.whole_chunked else len(whole)
    chunked = b.framing == "chunked" and length is None
    head = _head(kind, b, b.content_type or content_type, length, chunked)
    framed = [_chunk(step) if chunked else step for step in body]
    if chunked and not (framed and framed[-1].do in ENDS):
        framed.append(Step("send", b"0\r\n\r\n"))
    if b.cut_after_bytes is not None:
        framed = _cut(framed, b)
    answer = [Step("send", head, framed=False), *framed]
    if framed and framed[-1].do in ENDS:
        return steps + _written(answer, b)
    return steps + _written(answer, b) + _after(b, close=b.framing == "close")


def _before(b: Behaviour) -> list[Step]:
    steps = []
    if b.gate is not None:
        steps.append(Step("wait", name=b.gate))
    if b.delay:
        steps.append(Step("sleep", seconds=b.delay))
    for status in b.interim:
        steps.append(Step("send", b"HTTP/1.1 %d Interim\r\n\r\n" % status, framed=False))
    return steps


def _after(b: Behaviour, *, close: bool) -> list[Step]:
    steps = [Step("send", b.extra.encode(), framed=False)] if b.extra else []
    if b.hang_up or close:
        steps.append(Step("fin"))
    return steps


def _streamed(
    kind: str, operation: str, number: int, request: dict[str, Any], b: Behaviour
) -> tuple[list[Step], str]:
    if kind == "ollama":
        stream = ollama_formats.stream(operation, request, b)
    elif kind == "anthropic":
        stream = anthropic_formats.stream(number, request, b)
    else:
        stream = formats.stream(kind, operation, number, request, b)
    opening = [Step("send", event) for event in stream.opening]
    tokens = []
    for event in stream.tokens:
        if b.token_delay:
            tokens.append(Step("sleep", seconds=b.token_delay))
        tokens.append(Step("send", event, token=True))
    closing = [Step("send", event) for event in stream.closing]
    if b.fault is None or b.cut_after_bytes is not None:
        return opening + tokens + closing, stream.content_type
    at = b.at * (2 if b.token_delay else 1)
    gate = [Step("wait", name=b.fault_gate)] if b.fault_gate else []
    return opening + tokens[:at] + gate + _fault(kind, b, tokens[at:], closing), stream.content_type


def _fault(kind: str, b: Behaviour, tokens: list[Step], closing: list[Step]) -> list[Step]:
    """What happens at the fault, and what still follows."""
    ollama, anthropic = kind == "ollama", kind == "anthropic"
    rest = tokens + closing
    match b.fault:
        case "stall" | "fin" | "rst":
            return [Step(b.fault)]
        case "wait":
            return rest
        case "end":
            return []
        case "bad_chunk":
            return [Step("send", b"zz\r\nno chunk\r\n", framed=False), Step("stall")]
        case "bad_json":
            if anthropic:
                return [Step("send", anthropic_formats.broken_event()), *rest]
            broken = b'{"model":"m","message":{"role":"assistant","content":"br\n'
            return [
                Step("send", broken if ollama else b'data: {"choices":[{"index":0,"delta":{"con\n\n'),
                *rest,
            ]
        case "bad_event":
            return [Step("send", b"<p>oops</p>\n" if ollama else b"data: <p>oops</p>\n\n"), *rest]
        case "error":
            if ollama:
                return [Step("send", ollama_formats.error_body(b.message) + b"\n")]
            if anthropic:
                return [Step("send", anthropic_formats.error_event(b))]
            return [Step("send", formats.error_event(kind, b)), *closing[-1:]]
        case "oversized":
            text = b"x" * b.size
            if ollama:
                line = b'{"model":"m","message":{"role":"assistant","content":"%b"},"done":false}\n' % text
                return [Step("send", line), *rest]
            if anthropic:
                return [Step("send", anthropic_formats.large_event(text)), *rest]
            event = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text
            return [Step("send", event), *rest]
    raise ValueError(f"no such fault: {b.fault}")


def _whole(
    kind: str, operation: str, number: int, request: dict[str, Any], b: Behaviour
) -> tuple[bytes, str]:
    if b.body is not None:
        return b.body.encode(), "application/json"
    if b.status != 200:
        return error(kind, b.status, b.message, b.code), "application/json"
    if kind == "ollama":
        return ollama_formats.whole(operation, request, b), "application/json; charset=utf-8"
    if kind == "anthropic":
        return anthropic_formats.whole(operation, number, request, b), "application/json"
    return formats.whole(kind, operation, number, request, b), "application/json"


def error(kind: str, status: int, message: str, code: str | int | None) -> bytes:
    if kind == "ollama":
        return ollama_formats.error_body(message)
    if kind == "anthropic":
        return anthropic_formats.error_body(status, message)
    return formats.error_body(kind, status, message, code)


def _head(kind: str, b: Behaviour, content_type: str, length: int | None, chunked: bool) -> bytes:
    return head(kind, b.status, content_type, length, chunked=chunked, more=b.headers)


def head(
    kind: str,
    status: int,
    content_type: str,
    length: int | None,
    *,
    chunked: bool = False,
    more: dict[str, str] | None = None,
) -> bytes:
    """A response head in the kind's own handwriting: uvicorn writes names in lower case."""
    fields = {"Server": SERVERS[kind], "Content-Type": content_type}
    if chunked:
        fields["Transfer-Encoding"] = "chunked"
    elif length is not None:
        fields["Content-Length"] = str(length)
    else:
        fields["Connection"] = "close"
    if kind == "llamacpp":
        fields["Keep-Alive"] = "timeout=5, max=100"
    fields |= more or {}
    lower = SERVERS[kind] == "uvicorn"
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name.lower() if lower else name}: {value}" for name, value in fields.items() if value]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(step: Step) -> Step:
    if step.do != "send" or not step.framed:
        return step
    return step._replace(data=b"%x\r\n%b\r\n" % (len(step.data), step.data))


def _cut(steps: list[Step], b: Behaviour) -> list[Step]:
    """The body up to `cut_after_bytes`, and then the fault."""
    left = b.cut_after_bytes or 0
    kept: list[Step] = []
    for step in steps:
        if step.do == "send":
            if len(step.data) >= left:
                kept.append(step._replace(data=step.data[:left]))
                break
            left -= len(step.data)
        kept.append(step)
    gate = [Step("wait", name=b.fault_gate)] if b.fault_gate else []
    return [*kept, *gate, Step(b.fault or "fin")]


def _written(steps: list[Step], b: Behaviour) -> list[Step]:
    """Puts the bytes into writes: all of them in one, in drips, or as they are."""
    if b.together and all(step.do == "send" for step in steps):
        return [Step("send", b"".join(step.data for step in steps))]
    if not b.drip:
        return steps
    dripped: list[Step] = []
    for step in steps:
        if step.do != "send" or not step.framed:
            dripped.append(step)
            continue
        for at in range(0, len(step.data), b.drip):
            first = step.token and at == 0
            dripped.append(step._replace(data=step.data[at : at + b.drip], token=first))
            dripped.append(Step("sleep", seconds=b.drip_delay))
    return dripped
