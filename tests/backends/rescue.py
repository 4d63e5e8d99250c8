"""Servers that stream what they are told to, doors, and how their clients read a stream."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ghostllm import jsonx
from ghostllm.api.doors import DOORS
from ghostllm.backends.anthropic import AnthropicBackend
from ghostllm.backends.ollama import OllamaBackend
from ghostllm.backends.openai import OpenAIBackend
from ghostllm.backends.profiles import VLLM
from tests.api.anthropic.streams import message_of
from tests.api.responses.streams import parts_of, response_of

ids = itertools.count()


def mint(prefix):
    return f"{prefix}{next(ids)}"


def clock():
    return 1_700_000_000.5


def openai(profile=VLLM):
    return OpenAIBackend(profile, "o", mint=mint, clock=clock)


BACKENDS = {
    "openai": openai,
    "anthropic": lambda: AnthropicBackend("a", mint=mint, clock=clock),
    "ollama": lambda: OllamaBackend("l", mint=mint, clock=clock),
}


# --- what a server streams


@dataclass
class Script:
    """thoughts, text: pieces. calls: (name, pieces of the arguments). prompt, completion: tokens, None where
    the server does not count.
    """

    text: list = field(default_factory=list)
    thoughts: list = field(default_factory=list)
    calls: list = field(default_factory=list)
    finish: str = "stop"
    prompt: int | None = 11
    completion: int | None = 7


def stream(backend, script, *, completions=False, generate=False):
    """The events of a stream."""
    if backend == "openai":
        return list(_openai(script, completions))
    return list(_anthropic(script) if backend == "anthropic" else _ollama(script, generate))


def _sse(value, name=""):
    data = value if isinstance(value, bytes) else jsonx.dumps(value)
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % data


def _openai(script, completions):
    kind = "text_completion" if completions else "chat.completion.chunk"
    frame = {"id": "cmpl-up", "object": kind, "created": 1_600_000_000, "model": "real"}
    frame["system_fingerprint"] = "fp_1"

    def chunk(delta, finish=None):
        if completions:
            said = {"text": delta.get("content", "")}
        else:
            said = {"delta": delta}
        return _sse({**frame, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": finish}]})

    if not completions:
        yield chunk({"role": "assistant", "content": ""})
    for thought in script.thoughts:
        yield chunk({"reasoning": thought})
    for text in script.text:
        yield chunk({"content": text})
    for index, (name, arguments) in enumerate(script.calls):
        for at, piece in enumerate(arguments):
            function = {"arguments": piece, **({"name": name} if at == 0 else {})}
            first = {"id": mint("call_"), "type": "function"} if at == 0 else {}
            yield chunk({"tool_calls": [{"index": index, **first, "function": function}]})
    yield chunk({}, "tool_calls" if script.calls else script.finish)
    if script.prompt is not None:
        total = script.prompt + script.completion
        counts = {"prompt_tokens": script.prompt, "completion_tokens": script.completion}
        yield _sse({**frame, "choices": [], "usage": {**counts, "total_tokens": total}})
    yield _sse(b"[DONE]")


def _anthropic(script):
    def event(name, **members):
        return _sse({"type": name, **members}, name)

    usage = {"input_tokens": script.prompt or 0, "output_tokens": 1}
    message = {"id": "msg_up", "type": "message", "role": "assistant", "model": "real", "content": []}
    yield event("message_start", message={**message, "stop_reason": None, "usage": usage})
    yield event("ping")
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    blocks = [(thinking, "thinking_delta", "thinking", script.thoughts)] if script.thoughts else []
    if script.text:
        blocks.append(({"type": "text", "text": ""}, "text_delta", "text", script.text))
    for name, arguments in script.calls:
        block = {"type": "tool_use", "id": mint("toolu_"), "name": name, "input": {}}
        blocks.append((block, "input_json_delta", "partial_json", arguments))
    for index, (block, kind, member, pieces) in enumerate(blocks):
        yield event("content_block_start", index=index, content_block=block)
        for piece in pieces:
            yield event("content_block_delta", index=index, delta={"type": kind, member: piece})
        if block is thinking:
            yield event(
                "content_block_delta", index=index, delta={"type": "signature_delta", "signature": "c2ln"}
            )
        yield event("content_block_stop", index=index)
    reason = {"stop": "end_turn", "length": "max_tokens"}[script.finish]
    delta = {"stop_reason": "tool_use" if script.calls else reason, "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": script.completion or 0})
    yield event("message_stop")


def _ollama(script, generate):
    def line(said, **more):
        stamp = f"2026-11-22T23:32:{next(ids) % 60:02}.123Z"
        if generate:
            said = {**{k: v for k, v in said.items() if k != "content"}, "response": said.get("content", "")}
        else:
            said = {"message": {"role": "assistant", "content": "", **said}}
        return jsonx.dumps({"model": "real", "created_at": stamp, **said, "done": False, **more}) + b"\n"

    for thought in script.thoughts:
        yield line({"thinking": thought})
    for text in script.text:
        yield line({"content": text})
    for index, (name, arguments) in enumerate(script.calls):
        function = {"index": index, "name": name, "arguments": jsonx.loads("".join(arguments))}
        yield line({"tool_calls": [{"function": function}]})
    counts = {}
    if script.prompt is not None:
        counts = {"prompt_eval_count": script.prompt, "eval_count": script.completion}
    yield line({}, done=True, done_reason=script.finish, **counts)


# --- what a client asks, and what it reads


@dataclass(frozen=True)
class Read:
    """What a whole stream came to. key: what must not change inside it. usage: (prompt, completion)."""

    text: str
    thoughts: str
    calls: tuple
    finish: str
    key: tuple
    usage: tuple | None


def chat_fields(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}


ASKED = {
    "chat": ("openai", "chat", chat_fields(stream=True, stream_options={"include_usage": True})),
    "completions": (
        "openai",
        "completions",
        {"model": "m", "prompt": "Once", "stream": True, "stream_options": {"include_usage": True}},
    ),
    "messages": ("anthropic", "messages", chat_fields(stream=True, max_tokens=1000)),
    "ollama_chat": ("ollama", "ollama_chat", chat_fields()),
    "ollama_generate": ("ollama", "ollama_generate", {"model": "m", "prompt": "hi"}),
    "ollama_raw": ("ollama", "ollama_generate", {"model": "m", "prompt": "Once", "raw": True}),
    "responses": ("responses", "responses", {"model": "m", "input": "hi", "stream": True}),
}
TEXTS = ("completions", "ollama_raw")
"""Ways to ask for the rest of a text: nothing thinks there, and Anthropic has none."""


def call_of(way, **more):
    door, operation, fields = ASKED[way]
    call = DOORS[door].read_call(operation, jsonx.dumps({**fields, **more}))
    call.rescue = True
    return call


def shape(way, backend):
    """How the stream of such a backend looks to such a call."""
    return {"completions": way in TEXTS, "generate": way in (*TEXTS, "ollama_generate")} if backend else {}


def read(way, out):
    """Asserts that the stream is one sound answer."""
    if way in ("chat", "completions"):
        return _read_chunks(out)
    if way == "messages":
        return _read_message(out)
    return _read_response(out) if way == "responses" else _read_lines(out)


def _read_chunks(out):
    *events, last, empty = out.split(b"\n\n")
    assert (last, empty) == (b"data: [DONE]", b"")
    chunks = [jsonx.loads(event.removeprefix(b"data: ")) for event in events if event.startswith(b"data: ")]
    keys = {(chunk["id"], chunk["created"], chunk["object"], chunk["model"]) for chunk in chunks}
    assert len(keys) == 1 and chunks[0]["model"] == "m"
    assert len({chunk.get("system_fingerprint") for chunk in chunks}) == 1
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    deltas = [choice.get("delta", {"content": choice.get("text")}) for choice in choices]
    if "delta" in choices[0]:
        assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"] and "role" in deltas[0]
    finishes = [choice["finish_reason"] for choice in choices]
    assert finishes[-1] and not any(finishes[:-1])
    calls = {}
    for delta in deltas:
        for part in delta.get("tool_calls", ()):
            call = calls.setdefault(part["index"], {"id": "", "name": "", "arguments": ""})
            call["id"] += part.get("id", "")
            call["name"] += part["function"].get("name", "")
            call["arguments"] += part["function"].get("arguments", "")
    assert sorted(calls) == list(range(len(calls)))
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert len(usages) <= 1
    return Read(
        "".join(delta.get("content") or "" for delta in deltas),
        "".join(delta.get("reasoning_content") or "" for delta in deltas),
        tuple((calls[index]["name"], calls[index]["arguments"]) for index in sorted(calls)),
        finishes[-1],
        keys.pop(),
        (usages[0]["prompt_tokens"], usages[0]["completion_tokens"]) if usages else None,
    )


def _read_message(out):
    message = message_of(out.replace(b'event: ping\ndata: {"type":"ping"}\n\n', b""))
    blocks, usage = message["content"], message["usage"]
    return Read(
        "".join(block["text"] for block in blocks if block["type"] == "text"),
        "".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        tuple((block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        message["stop_reason"],
        (message["id"], message["model"], *(block["type"] for block in blocks)),
        (usage["input_tokens"], usage["output_tokens"]),
    )


def _read_response(out):
    final = response_of(out)
    parts = parts_of(final["output"])
    usage = final["usage"]
    return Read(
        "".join(part.text for part in parts if type(part).__name__ == "Text"),
        "".join(part.text for part in parts if type(part).__name__ == "Reasoning"),
        tuple((part.name, part.arguments) for part in parts if type(part).__name__ == "ToolCall"),
        final["status"],
        (final["id"], *(item["type"] for item in final["output"])),
        usage and (usage["input_tokens"], usage["output_tokens"]),
    )


def _read_lines(out):
    assert out.endswith(b"\n")
    lines = [jsonx.loads(line) for line in out[:-1].split(b"\n")]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert {line["model"] for line in lines} == {"m"}
    assert len({"message" in line for line in lines}) == 1
    said = [line.get("message", {"content": line.get("response"), **line}) for line in lines]
    calls = [call["function"] for part in said for call in part.get("tool_calls", ())]
    assert [call["index"] for call in calls] == list(range(len(calls)))
    return Read(
        "".join(part["content"] for part in said),
        "".join(part.get("thinking", "") for part in said),
        tuple((call["name"], jsonx.dumps(call["arguments"]).decode()) for call in calls),
        lines[-1]["done_reason"],
        (),
        (lines[-1].get("prompt_eval_count"), lines[-1].get("eval_count")),
    )
