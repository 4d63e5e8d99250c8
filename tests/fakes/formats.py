"""Byte-true answers of OpenAI and of the servers that speak its API, as they are seen on the wire."""

from __future__ import annotations

import base64
import json
import struct
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from tests.fakes.behaviour import PROMPT_TOKENS as PROMPT_TOKENS
from tests.fakes.behaviour import Behaviour

CREATED = 1_790_000_000
CACHED_TOKENS = 4
REASONING_FIELD = {"vllm": "reasoning", "lmstudio": "reasoning", "llamacpp": "reasoning_content",
                   "transformers": "reasoning_content", "openai": "reasoning"}  # fmt: skip


class Stream(NamedTuple):
    """One streamed answer: events before the first token, one for each token, events after the last."""

    opening: list[bytes]
    tokens: list[bytes]
    closing: list[bytes]
    content_type: str


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def pretty(value: Any) -> bytes:
    """As api.openai.com prints its whole answers."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def deltas(kind: str, b: Behaviour) -> list[dict[str, Any]]:
    """The answer cut into stream deltas: reasoning, text, then tool calls."""
    found: list[dict[str, Any]] = []
    if b.reasoning:
        found.append({REASONING_FIELD[kind]: b.reasoning})
    if not b.tool_calls:
        return found + [{"content": word} for word in b.words]
    calls = []
    for index, call in enumerate(b.tool_calls):
        text = call["arguments"]
        opening = {"index": index, "id": f"call_{index:04d}", "type": "function",
                   "function": {"name": call["name"], "arguments": ""}}  # fmt: skip
        cuts = [text[at : at + b.fragment] for at in range(0, len(text), b.fragment)]
        calls.append([opening, *({"index": index, "function": {"arguments": cut}} for cut in cuts)])
    turns = chain.from_iterable(zip_longest(*calls)) if b.interleaved else chain.from_iterable(calls)
    return found + [{"tool_calls": [fragment]} for fragment in turns if fragment is not None]


def completion_tokens(kind: str, b: Behaviour) -> int:
    return len(deltas(kind, b))


def usage(kind: str, b: Behaviour) -> dict[str, Any]:
    spent = completion_tokens(kind, b)
    counts: dict[str, Any] = {"prompt_tokens": b.prompt_tokens, "completion_tokens": spent,
                              "total_tokens": b.prompt_tokens + spent}  # fmt: skip
    if kind in ("openai", "llamacpp"):
        counts["prompt_tokens_details"] = {"cached_tokens": CACHED_TOKENS}
    if kind == "openai":
        counts["prompt_tokens_details"]["audio_tokens"] = 0
        counts["completion_tokens_details"] = {"reasoning_tokens": 0, "audio_tokens": 0,
                                               "accepted_prediction_tokens": 0,
                                               "rejected_prediction_tokens": 0}  # fmt: skip
    return counts


def finish_reason(b: Behaviour) -> str | None:
    return "tool_calls" if b.tool_calls and b.finish == "stop" else b.finish


# --- streams


def stream(kind: str, operation: str, number: int, request: dict[str, Any], b: Behaviour) -> Stream:
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    if kind == "transformers":
        mode = "never" if b.usage == "never" else "in_choices"
    elif kind == "llamacpp" and operation == "completions" and b.usage == "asked":
        mode = "in_choices"
    elif b.usage == "asked":
        mode = "chunk" if asked else "never"
    else:
        mode = {"always": "chunk"}.get(b.usage, b.usage)
    event = _Events(kind, operation, number, request, b, nulls=kind == "openai" and mode == "chunk")
    finish = finish_reason(b)
    closing = []
    if finish is not None:
        extra = {"usage": usage(kind, b)} if mode == "in_choices" else {}
        closing.append(event.finish(finish, extra))
    if mode == "chunk":
        closing.append(event.counts())
    if b.done and kind != "transformers":
        closing.append(event.line(b"[DONE]"))
    return Stream(event.opening(), event.tokens(), closing, event.content_type)


class _Events:
    """Makes the SSE events of one answer."""

    def __init__(self, kind: str, operation: str, number: int, request: dict[str, Any], b: Behaviour,
                 *, nulls: bool) -> None:  # fmt: skip
        self._kind, self._operation, self._b, self._nulls = kind, operation, b, nulls
        self._chat = operation == "chat"
        model = str(request.get("model", "default"))
        identity: dict[str, Any] = {
            "id": f"{'chatcmpl' if self._chat or kind == 'llamacpp' else 'cmpl'}-{number:08d}",
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": CREATED,
            "model": model + "@main" if kind == "transformers" else model,
        }
        if kind == "openai":
            identity |= {"service_tier": "default", "system_fingerprint": "fp_560af6e559"}
        if kind == "llamacpp":
            identity["system_fingerprint"] = "b11434-0a1b2c3d"
        self._identity = identity | b.extra_members
        plain = kind in ("openai", "vllm", "transformers")
        self.content_type = "text/event-stream; charset=utf-8" if plain else "text/event-stream"

    def line(self, data: bytes) -> bytes:
        end = self._b.newline.encode()
        return b"data: " + data + end + end

    def chunk(self, choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        nulls = {"usage": None} if self._nulls else {}
        return self.line(compact({**self._identity, "choices": choices, **nulls, **more}))

    def _choice(self, delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
        if not self._chat:
            return {"index": 0, "text": delta.get("content", ""), "logprobs": None, "finish_reason": finish}
        choice: dict[str, Any] = {"index": 0, "delta": delta}
        if self._kind in ("openai", "vllm", "lmstudio"):
            choice["logprobs"] = None
        if finish is not None or self._kind != "transformers":
            choice["finish_reason"] = finish
        if self._kind == "vllm":
            choice["token_ids"] = None
        return choice

    def opening(self) -> list[bytes]:
        if not self._chat:
            return []
        content = None if self._b.tool_calls or self._kind == "llamacpp" else ""
        first: dict[str, Any] = {"role": "assistant", "content": content}
        if self._kind == "openai":
            first["refusal"] = None
        if self._kind == "transformers":
            first = {"role": "assistant"}
        return [self.chunk([self._choice(first, None)], {})]

    def tokens(self) -> list[bytes]:
        events = [self.chunk([self._choice(delta, None)], {}) for delta in deltas(self._kind, self._b)]
        end = self._b.newline.encode()
        return [b": keepalive" + end + end + event for event in events] if self._b.comment else events

    def finish(self, reason: str, more: dict[str, Any]) -> bytes:
        return self.chunk([self._choice({}, reason)], more)

    def counts(self) -> bytes:
        more: dict[str, Any] = {"usage": usage(self._kind, self._b)}
        if self._kind == "llamacpp":
            more["timings"] = {"prompt_n": self._b.prompt_tokens, "prompt_ms": 12.5, "predicted_ms": 40.25}
        return self.chunk([], more)


# --- whole answers


def whole(kind: str, operation: str, number: int, request: dict[str, Any], b: Behaviour) -> bytes:
    if operation == "embeddings":
        return embeddings(kind, request, b)
    model = str(request.get("model", "default"))
    chat = operation == "chat"
    if chat:
        message: dict[str, Any] = {"role": "assistant", "content": None if b.tool_calls else b.text}
        if b.reasoning:
            message[REASONING_FIELD[kind]] = b.reasoning
        if b.tool_calls:
            message["tool_calls"] = [
                {"id": f"call_{index:04d}", "type": "function",
                 "function": {"name": call["name"], "arguments": call["arguments"]}}
                for index, call in enumerate(b.tool_calls)
            ]  # fmt: skip
        if kind == "openai":
            message |= {"refusal": None, "annotations": []}
        choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None}
    else:
        choice = {"text": b.text, "index": 0, "logprobs": None}
    choice["finish_reason"] = finish_reason(b)
    answer: dict[str, Any] = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{number:08d}",
        "object": "chat.completion" if chat else "text_completion",
        "created": CREATED,
        "model": model + "@main" if kind == "transformers" else model,
        "choices": [choice],
    }
    if b.usage != "never":
        answer["usage"] = usage(kind, b)
    if kind == "openai":
        answer |= {"service_tier": "default", "system_fingerprint": "fp_560af6e559"}
    if kind == "llamacpp":
        answer["timings"] = {"prompt_n": b.prompt_tokens, "predicted_ms": 40.25}
    answer |= b.extra_members
    return pretty(answer) if kind == "openai" else compact(answer)


def vector(index: int, dimensions: int) -> list[float]:
    """The embedding of the index-th input: values that float32 holds exactly."""
    return [(index * dimensions + at - 3) / 16 for at in range(dimensions)]


def inputs(value: Any) -> int:
    """How many inputs an embeddings request has; a list of numbers is one tokenised input."""
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1


def embeddings(kind: str, request: dict[str, Any], b: Behaviour) -> bytes:
    data = []
    for index in range(inputs(request.get("input"))):
        values = vector(index, request.get("dimensions") or b.dimensions)
        embedding: Any = values
        if request.get("encoding_format") == "base64":
            embedding = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    answer = {"object": "list", "data": data, "model": request.get("model", "default"),
              "usage": {"prompt_tokens": 5, "total_tokens": 5}, **b.extra_members}  # fmt: skip
    return pretty(answer) if kind == "openai" else compact(answer)


# --- errors and inventory

TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
         404: "not_found_error", 429: "rate_limit_error", 503: "unavailable_error"}  # fmt: skip


def error_object(kind: str, status: int, message: str, code: str | int | None) -> dict[str, Any]:
    """What the kind puts under `error`."""
    if kind == "openai":
        word = TYPES.get(status, "server_error")
        return {"message": message, "type": word, "param": None, "code": code}
    if kind == "vllm":
        word = (
            "NotFoundError" if status == 404 else "BadRequestError" if status < 500 else "InternalServerError"
        )
        return {"message": message, "type": word, "param": None, "code": status if code is None else code}
    word = TYPES.get(status, "server_error")
    return {"code": status if code is None else code, "message": message, "type": word}


def error_body(kind: str, status: int, message: str, code: str | int | None) -> bytes:
    if kind == "transformers":
        return compact({"detail": message})
    error = error_object(kind, status, message, code)
    return pretty({"error": error}) if kind == "openai" else compact({"error": error})


def error_event(kind: str, b: Behaviour) -> bytes:
    return b"data: " + compact({"error": error_object(kind, 500, b.message, b.code)}) + b"\n\n"


def models(kind: str, names: list[str]) -> bytes:
    owner = {"vllm": "vllm", "llamacpp": "llamacpp", "lmstudio": "organization_owner"}.get(kind, "system")
    data: list[dict[str, Any]] = []
    for name in names:
        item: dict[str, Any] = {"id": name, "object": "model", "created": CREATED, "owned_by": owner}
        if kind == "vllm":
            item |= {"root": name, "parent": None, "max_model_len": 2048, "permission": []}
        if kind == "llamacpp":
            item["meta"] = {"n_ctx_train": 2048, "n_ctx": 4096, "n_params": 134515008, "size": 142000000}
        data.append(item)
    listing: dict[str, Any] = {"object": "list", "data": data}
    if kind == "llamacpp":
        listing["models"] = [{"name": name, "model": name, "capabilities": ["completion"]} for name in names]
    return compact(listing)


def lmstudio_models(names: list[str]) -> bytes:
    """`/api/v0/models`: nothing is loaded."""
    data = [{"id": name, "object": "model", "type": "llm", "publisher": "p", "arch": "llama",
             "state": "not-loaded", "max_context_length": 2048} for name in names]  # fmt: skip
    return compact({"object": "list", "data": data})


def metrics(running: int, started: float) -> bytes:
    """`/metrics` of vLLM, as far as load goes. started: seconds since 1970."""
    return f"""\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds {started:.2f}
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="fake-model"}} {running:.1f}
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="fake-model"}} 0.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="fake-model"}} 0.25
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{{block_size="16",enable_prefix_caching="True",engine="0",num_gpu_blocks="573"}} 1.0
""".encode()
