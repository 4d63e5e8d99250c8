"""The neutral form to Ollama's native requests: `/api/chat`, `/api/generate`, `/api/embed`.

Native, because Ollama's OpenAI routes drop parameters silently and cut long prompts at the front. Nothing is
dropped silently here: what Ollama cannot do is refused by name, and what makes no difference to the answer is
listed in IGNORED. Every request says `truncate: false, shift: false`, so that a prompt that does not fit is
an error instead of a shorter prompt.

A forced tool call (`tool_choice` required or named), which Ollama ignores, is made by constraining the output
(`api.forced_call`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ghostllm import jsonx
from ghostllm.api import forced_call
from ghostllm.api.canonical import (
    Continuation,
    Conversation,
    Embeddings,
    FunctionTool,
    ResponseFormat,
    Sampling,
)
from ghostllm.api.json_schema import inline, narrow
from ghostllm.api.ollama.messages import write_messages
from ghostllm.api.openai import request_reader, text_reader
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue
from ghostllm.message import Call, Parameters

IGNORED = {
    "user": "a label for the provider's abuse checks",
    "safety_identifier": "a label for the provider's abuse checks",
    "prompt_cache_key": "a hint for the provider's cache; Ollama finds shared prefixes by itself",
    "prompt_cache_retention": "a hint for the provider's cache",
    "prompt_cache_options": "a hint for the provider's cache",
}
"""Members that change nothing in a local model's answer, and why. `metadata`, and `name` of a message, are of
this sort too.
"""

NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "best_of": (1,),
    "stream": (False,),  # of embeddings, which never are
}
"""Members that are harmless with these values (they ask for what happens anyway) and refused with any other.
"""

OPTIONS = frozenset((
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "num_keep", "num_predict",
    "typical_p", "repeat_last_n", "repeat_penalty",
))  # fmt: skip
"""Ollama's own options that may be given as members of the request (or as defaults of a model in the
configuration).
"""

PASSED = ("keep_alive", "think", "truncate", "shift")
"""Ollama's own top-level members, passed as they are; the last two overrule our `false`."""

EFFORT: Mapping[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}

TOP_LOGPROBS_LIMIT = 20


@dataclass(slots=True, frozen=True)
class OllamaRequest:
    """forced: names of the functions of which one must be called; empty when none must. offered: tools were
    given, and nothing has been answered yet.

    single: at most one tool call is wanted. echo: text that the answer begins with.
    """

    path: str
    body: dict[str, Any]
    forced: tuple[str, ...] = ()
    offered: bool = False
    single: bool = False
    echo: str = ""


def chat_request(conversation: Conversation, model: str) -> OllamaRequest:
    """Raises UnsupportedParameter, UnsupportedValue, RequestError with the path of the member."""
    tools = forced_call.callable_tools(conversation, "Ollama")
    choice = conversation.tool_choice
    forced = choice is not None and choice.mode == "required"
    messages = conversation.messages
    if forced:
        messages = forced_call.told(messages, tools)
    body: dict[str, Any] = {
        "model": model,
        "messages": write_messages(messages),
        "stream": conversation.stream,
        **_common(conversation.sampling, conversation.extensions),
    }
    if forced:
        body["format"] = forced_call.schema(tools)
    else:
        if tools:
            body["tools"] = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]
        if (wanted := _format(conversation.response_format)) is not None:
            body["format"] = wanted
    if "think" not in body and (think := _think(conversation)) is not None:
        body["think"] = think
    return OllamaRequest(
        "/api/chat",
        body,
        forced=tuple(tool.name for tool in tools) if forced else (),
        offered=bool(tools) and conversation.messages[-1].role != "assistant",  # a text may be at its end
        single=conversation.parallel_tool_calls is False,
    )


def stop_thinking(body: dict[str, Any]) -> None:
    """For a chat that ends with the beginning of its answer. Ollama goes on with that by itself; where it
    thinks first, it would take the rest for thoughts.
    """
    body["think"] = False


def generate_request(continuation: Continuation, model: str) -> OllamaRequest:
    """Raw, so that the text goes on where the prompt ends, as on any completions server: no template, no
    system text, no thinking. A suffix needs the model's insert template, which Ollama leaves out in raw mode.
    """
    if continuation.echo and continuation.sampling.logprobs:
        raise UnsupportedParameter("Ollama gives no logprobs of the prompt", param="echo")
    body: dict[str, Any] = {
        "model": model,
        "prompt": continuation.prompt,
        "stream": continuation.stream,
        "think": False,
        **_common(continuation.sampling, continuation.extensions),
    }
    if continuation.suffix:
        body["suffix"] = continuation.suffix
    else:
        body["raw"] = True
    return OllamaRequest("/api/generate", body, echo=continuation.prompt if continuation.echo else "")


def embed_request(embeddings: Embeddings, model: str) -> OllamaRequest:
    options, passed = _extensions(embeddings.extensions)
    passed.pop("shift", None)
    body: dict[str, Any] = {"model": model, "input": list(embeddings.inputs), "truncate": False, **passed}
    if embeddings.dimensions is not None:
        body["dimensions"] = embeddings.dimensions
    if options:
        body["options"] = options
    return OllamaRequest("/api/embed", body)


def changes(parameters: Parameters | None, call: Call) -> dict[str, Any]:
    """The members to set in a request of Ollama's own for the parameters of its model: these are named as
    OpenAI names them, and most are options here, which stand each for itself.

    Raises UnsupportedParameter, UnsupportedValue, RequestError for a parameter that Ollama has not.
    """
    if parameters is None:
        return {}
    embeds = call.operation == "embeddings"
    defaults, forced = _renamed(parameters.defaults, embeds), _renamed(parameters.forced, embeds)
    wanted = {name: value for name, value in defaults.items() if call.fields.get(name) is None}
    wanted.update(forced)
    if "options" in defaults or "options" in forced:
        levels = (defaults.get("options"), call.fields.get("options"), forced.get("options"))
        wanted["options"] = {
            name: value for level in levels if isinstance(level, dict) for name, value in level.items()
        }
    return wanted


def _renamed(members: Mapping[str, Any], embeds: bool) -> dict[str, Any]:
    """Without `truncate` and `shift` where the parameters do not speak of them: what the client gets of an
    Ollama server is what it would do by itself.
    """
    if not members:
        return {}
    if embeds:
        written = embed_request(text_reader.read_embeddings({"model": ".", "input": ".", **members}), "").body
    else:
        said = {"model": ".", "messages": [{"role": "user", "content": "."}], **members}
        written = chat_request(request_reader.read_request(said), "").body
    left_out = {"model", "messages", "input", "stream", *({"truncate", "shift"} - set(members))}
    return {name: value for name, value in written.items() if name not in left_out}


# --- parameters


def _common(sampling: Sampling, extensions: Mapping[str, Any]) -> dict[str, Any]:
    """What chat and generate share: options, logprobs, limits of the prompt."""
    if sampling.n not in (None, 1):
        raise UnsupportedParameter("Ollama gives one answer a request: n must be 1", param="n")
    if sampling.logit_bias:
        raise UnsupportedParameter("Ollama has no logit_bias", param="logit_bias")
    options, passed = _extensions(extensions)
    options.update(_sampling_options(sampling))
    body: dict[str, Any] = {"truncate": False, "shift": False, **passed}
    if options:
        body["options"] = options
    if sampling.top_logprobs and not sampling.logprobs:
        raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs")
    if sampling.logprobs:
        body["logprobs"] = True
        if sampling.top_logprobs is not None:
            if not 0 <= sampling.top_logprobs <= TOP_LOGPROBS_LIMIT:
                raise UnsupportedValue(
                    f"top_logprobs must be 0 to {TOP_LOGPROBS_LIMIT}", param="top_logprobs"
                )
            body["top_logprobs"] = sampling.top_logprobs
    return body


def _sampling_options(sampling: Sampling) -> dict[str, Any]:
    """Only what the client set: the rest is the Modelfile's."""
    if sampling.max_tokens == 0:  # Ollama reads 0 as "no limit"
        raise UnsupportedValue("Ollama cannot answer with no tokens at all", param="max_tokens")
    options = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repeat_penalty": sampling.repetition_penalty,
        "seed": sampling.seed,
        "num_predict": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _extensions(extensions: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options and the top-level members of Ollama's among what only the client's dialect knows."""
    options: dict[str, Any] = {}
    passed: dict[str, Any] = {}
    for name, value in extensions.items():
        if name in OPTIONS:
            options[name] = value
        elif name in PASSED:
            passed[name] = value
        elif name == "options":
            if not isinstance(value, dict):
                raise RequestError("options must be an object", param="options")
            options = {**value, **options}
        elif name not in IGNORED and value not in NEUTRAL_VALUES.get(name, ()):
            if name in NEUTRAL_VALUES:
                raise UnsupportedParameter(f"Ollama cannot do {name}: {_shown(value)}", param=name)
            raise UnsupportedParameter(f"Ollama has no {name}", param=name)
    return options, passed


def _shown(value: Any) -> str:
    return jsonx.dumps(value).decode()[:100]


def _think(conversation: Conversation) -> bool | str | None:
    effort = conversation.reasoning_effort
    if effort is None:
        budget = conversation.reasoning_budget
        return None if budget is None else budget > 0
    if effort not in EFFORT:
        raise UnsupportedValue(f"unknown reasoning_effort {effort!r}", param="reasoning_effort")
    return EFFORT[effort]


def _format(wanted: ResponseFormat | None) -> Any:
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json_object" or wanted.schema is None:
        return "json"
    return inline(wanted.schema, "response_format.json_schema.schema")


# --- tools


def _tool(tool: FunctionTool, param: str) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    parameters = narrow(inline(tool.parameters or {}, f"{param}.function.parameters"))
    function["parameters"] = {"type": "object", "properties": {}, **parameters}
    return {"type": "function", "function": function}
