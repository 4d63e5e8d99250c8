"""Ollama's requests to the neutral form, for backends of other dialects. The way back is in `request_writer`.

After the reference of `POST /api/chat`, `/api/generate` and `/api/embed`. What only an Ollama server can do
(a template of the client's own, a context of token ids) is refused by name; what tells it how to compute
(`num_ctx`, `keep_alive`) becomes extensions under the same names, for the backend to ignore knowingly.
Options that Ollama itself does not know are passed over, as it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm.api.canonical import (
    Continuation,
    Conversation,
    Embeddings,
    FunctionTool,
    Message,
    Part,
    ResponseFormat,
    Sampling,
    Text,
)
from ghostllm.api.members import Members, kind
from ghostllm.api.ollama.message_reader import images, read_messages
from ghostllm.api.ollama.request_writer import OPTIONS, TOP_LOGPROBS_LIMIT
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue

KEPT = ("keep_alive", "truncate", "shift")
"""Top-level members without a neutral meaning."""

NEUTRAL_OPTIONS = frozenset(("num_predict", "repeat_penalty"))
"""Of the options that are Ollama's own, those with a place in the neutral form."""

EFFORTS = {True: "medium", False: "none", "low": "low", "medium": "medium", "high": "high", "max": "max"}
"""`think` as an effort. "medium": what models with levels do when they are told to think and not how much."""

PICTURES = ("width", "height", "steps")
"""Of `/api/generate` with a model that paints."""


def read_chat(fields: Mapping[str, Any]) -> Conversation:
    """Raises RequestError, UnsupportedValue, UnsupportedParameter with the path of the member."""
    body = Members(fields)
    messages = tuple(read_messages(body))
    if not messages:
        raise RequestError("messages must have at least one message", param="messages")
    return _conversation(body, messages, tuple(_tool(member) for member in body.objects("tools")))


def read_generate(fields: Mapping[str, Any]) -> Conversation | Continuation:
    """One turn of a chat; with `raw` or a `suffix`, a text to go on with. Raises as `read_chat` does."""
    body = Members(fields)
    _refuse(body, ("template", "context", *PICTURES), "only an Ollama server can do")
    if continues(fields):
        return _continuation(body)
    prompt = body.required_text("prompt")
    parts: list[Part] = [Text(prompt)] if prompt else []
    parts += images(body)
    if not parts:
        raise RequestError("prompt must not be empty", param="prompt")
    said = [Message("user", tuple(parts))]
    if system := body.text("system"):
        said.insert(0, Message("system", (Text(system),)))
    return _conversation(body, tuple(said), ())


def continues(fields: Mapping[str, Any]) -> bool:
    """Whether a generate request is no chat: its prompt goes to the model as it is, or has a gap to fill."""
    return fields.get("raw") is True or bool(fields.get("suffix"))


def read_embed(fields: Mapping[str, Any], key: str = "input") -> Embeddings:
    """key: "prompt" in `/api/embeddings`. Raises RequestError with the name of the member."""
    body = Members(fields)
    inputs = body.texts(key)
    if not inputs:
        raise RequestError(f"{key} must not be empty", param=key)
    dimensions = body.integer("dimensions")
    if dimensions is not None and dimensions < 1:
        raise RequestError("dimensions must be at least 1", param="dimensions")
    _, extensions = _options(body)
    return Embeddings(body.required_text("model"), inputs, dimensions, extensions=extensions)


def _conversation(
    body: Members, messages: tuple[Message, ...], tools: tuple[FunctionTool, ...]
) -> Conversation:
    sampling, extensions = _options(body)
    return Conversation(
        model=body.required_text("model"),
        messages=messages,
        tools=tools,
        response_format=_format(body),
        sampling=sampling,
        reasoning_effort=_effort(body),
        stream=body.boolean("stream") is not False,
        extensions=extensions,
    )


def _continuation(body: Members) -> Continuation:
    for name in ("system", "images", "format", "think"):
        if body.values.get(name):
            raise UnsupportedParameter(f"{name} goes with neither raw nor suffix", param=name)
    sampling, extensions = _options(body)
    return Continuation(
        model=body.required_text("model"),
        prompt=body.required_text("prompt"),
        suffix=body.text("suffix") or "",
        sampling=sampling,
        stream=body.boolean("stream") is not False,
        extensions=extensions,
    )


def _refuse(body: Members, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if body.values.get(name):
            raise UnsupportedParameter(f"{name} is what {why}", param=name)


# --- parameters


def _options(body: Members) -> tuple[Sampling, dict[str, Any]]:
    """The sampling, and what has no neutral place: it keeps its name."""
    options = body.object("options") or Members({}, "options")
    logprobs = bool(body.boolean("logprobs"))
    limit = options.integer("num_predict")
    seed = options.integer("seed")
    sampling = Sampling(
        temperature=options.number("temperature"),
        top_p=options.number("top_p"),
        top_k=options.integer("top_k"),
        min_p=options.number("min_p"),
        presence_penalty=options.number("presence_penalty"),
        frequency_penalty=options.number("frequency_penalty"),
        repetition_penalty=options.number("repeat_penalty"),
        seed=seed if seed is None or seed >= 0 else None,  # -1: another one each time
        stop=options.texts("stop"),
        max_tokens=limit if limit is None or limit > 0 else None,  # -1, -2 and 0 are no limit
        logprobs=logprobs,
        top_logprobs=_top_logprobs(body) if logprobs else None,
    )
    extensions = {name: value for name in KEPT if (value := body.values.get(name)) is not None}
    extensions.update(
        (name, value)
        for name, value in options.values.items()
        if name in OPTIONS and name not in NEUTRAL_OPTIONS and value is not None
    )
    return sampling, extensions


def _top_logprobs(body: Members) -> int | None:
    count = body.integer("top_logprobs")
    if count is not None and not 0 <= count <= TOP_LOGPROBS_LIMIT:
        raise RequestError(f"top_logprobs must be 0 to {TOP_LOGPROBS_LIMIT}", param="top_logprobs")
    return count


def _effort(body: Members) -> str | None:
    think = body.values.get("think")
    if think is None:
        return None
    if not isinstance(think, bool | str):
        raise body.wrong("think", "true, false, or one of low, medium, high, max")
    effort = EFFORTS.get(think)
    if effort is None:
        raise UnsupportedValue(
            f"think must be true, false, or one of low, medium, high, max, not {think!r}", param="think"
        )
    return effort


def _format(body: Members) -> ResponseFormat | None:
    """ "json", or a schema; "" is what clients send that always send the member."""
    wanted = body.values.get("format")
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return ResponseFormat("json_object")
    if not isinstance(wanted, dict):
        found = repr(wanted) if isinstance(wanted, str) else kind(wanted)
        raise RequestError(f'format must be "json" or a JSON Schema, not {found}', param="format")
    return ResponseFormat("json_schema", schema=wanted)


def _tool(member: Members) -> FunctionTool:
    """`type` may be missing: there is one kind."""
    if (named := member.text("type")) not in (None, "", "function"):
        raise UnsupportedValue(
            f"{member.param('type')} must be 'function', not {named!r}", param=member.param("type")
        )
    function = Members(member.raw("function"), member.param("function"))
    parameters = function.object("parameters")
    return FunctionTool(
        function.required_text("name"),
        function.text("description") or "",
        parameters.values if parameters else None,
    )
