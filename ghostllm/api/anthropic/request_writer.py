"""The neutral form to a request of Anthropic's `POST /v1/messages`.

Nothing is dropped silently: what Anthropic cannot do is refused by name, and what makes no difference to the
answer is listed in IGNORED. Whether a model takes a parameter is the backend's to say: that changes from one
model to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.api import forced_call
from ghostllm.api.anthropic.message_writer import write_messages
from ghostllm.api.canonical import Conversation, FunctionTool, ResponseFormat, Sampling
from ghostllm.api.openai import request_reader, request_writer
from ghostllm.errors import RequestError, UnsupportedParameter, UnsupportedValue
from ghostllm.message import Parameters

IGNORED: Mapping[str, str] = {
    **request_writer.IGNORED,  # Ollama's, which say how a server of one's own computes
    "user": "a label for the provider's abuse checks",
    "safety_identifier": "a label for the provider's abuse checks",
    "prompt_cache_key": "a hint for the provider's cache; Anthropic's is told by cache_control",
    "prompt_cache_retention": "a hint for the provider's cache",
    "prompt_cache_options": "a hint for the provider's cache",
}
"""Members that change nothing in the answer, and why. Labels in `metadata` other than the user's id, and
`name` of a message, are of this sort too.
"""

NEUTRAL_VALUES: Mapping[str, tuple[Any, ...]] = {
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "verbosity": ("medium",),
}
"""Members that are harmless with these values (they ask for what happens anyway) and refused with any other.
"""

PASSED = (
    "thinking", "cache_control", "container", "context_management", "inference_geo", "speed", "diagnostics",
    "user_profile_id",
)  # fmt: skip
"""Anthropic's own members, passed as they are; `output_config` is one of them, too, and is added to."""

EFFORT = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}

_LACKING: Mapping[str, float] = {
    "min_p": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
}
"""Sampling that Anthropic has not, and the value of each that asks for none of it."""


def write_request(conversation: Conversation, model: str, max_tokens_default: int) -> dict[str, Any]:
    """max_tokens_default: bound of an answer whose request has none, which Anthropic requires.

    Raises UnsupportedParameter, UnsupportedValue, RequestError with the path of the member.
    """
    system, messages = write_messages(conversation.messages)
    body: dict[str, Any] = {"model": model, "max_tokens": 0, "messages": messages}
    if system:
        body["system"] = system[0]["text"] if len(system) == 1 else system
    body.update(_extensions(conversation.extensions))
    body.update(_tools(conversation))
    body.update(_sampling(conversation.sampling))
    budget = _reason(conversation, body)
    body["max_tokens"] = _max_tokens(conversation.sampling.max_tokens, budget, max_tokens_default)
    if (wanted := _format(conversation.response_format)) is not None:
        _configure(body, "format", wanted)
    user = conversation.metadata.get("user_id") or conversation.metadata.get("user")
    if user:
        body["metadata"] = {"user_id": user}
    if conversation.stream:
        body["stream"] = True
    return body


def stop_thinking(body: dict[str, Any]) -> None:
    """For a request that ends with the beginning of its answer: Anthropic refuses to think then."""
    if "thinking" in body:
        body["thinking"] = {"type": "disabled"}


def changes(parameters: Parameters | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The members to set in a request of Anthropic's own that has `fields`, for the parameters of its model:
    these are named as OpenAI names them.

    Raises UnsupportedParameter, UnsupportedValue, RequestError for a parameter that Anthropic has not.
    """
    if parameters is None:
        return {}
    defaults, forced = _renamed(parameters.defaults), _renamed(parameters.forced)
    wanted = {name: value for name, value in defaults.items() if fields.get(name) is None}
    wanted.update(forced)
    if "output_config" in defaults or "output_config" in forced:  # its members stand each for itself
        said = fields.get("output_config")
        levels = (defaults.get("output_config"), said, forced.get("output_config"))
        wanted["output_config"] = {
            name: value for level in levels if isinstance(level, dict) for name, value in level.items()
        }
    return wanted


def _renamed(members: Mapping[str, Any]) -> dict[str, Any]:
    if not members:
        return {}
    said = {"model": "", "messages": [{"role": "user", "content": "."}], **members}
    asked = request_reader.read_request(said)
    written = write_request(asked, "", 0)
    bounded = asked.sampling.max_tokens is not None
    return {
        name: value
        for name, value in written.items()
        if name not in ("model", "messages") and (name != "max_tokens" or bounded)
    }


# --- parameters


def _max_tokens(asked: int | None, budget: int, default: int) -> int:
    """The bound includes the thinking, so a budget comes on top of what is left open."""
    return default + budget if asked is None else asked


def _sampling(sampling: Sampling) -> dict[str, Any]:
    if sampling.n not in (None, 1):
        raise UnsupportedParameter("Anthropic gives one answer a request: n must be 1", param="n")
    if sampling.seed is not None:
        raise UnsupportedParameter("Anthropic has no seed: no two answers need be alike", param="seed")
    if sampling.logit_bias:
        raise UnsupportedParameter("Anthropic has no logit_bias", param="logit_bias")
    if sampling.logprobs or sampling.top_logprobs:
        name = "logprobs" if sampling.logprobs else "top_logprobs"
        raise UnsupportedParameter("Anthropic gives no logprobs", param=name)
    for name, harmless in _LACKING.items():
        if getattr(sampling, name) not in (None, harmless):
            raise UnsupportedParameter(f"Anthropic has no {name}", param=name)
    if sampling.temperature is not None and not 0 <= sampling.temperature <= 1:
        raise UnsupportedValue("Anthropic's temperature is 0 to 1", param="temperature")
    if any(not stop.strip() for stop in sampling.stop):
        raise UnsupportedValue("Anthropic stops at no sequence of white space alone", param="stop")
    options = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "stop_sequences": list(sampling.stop) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _extensions(extensions: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's own members among what only the client's dialect knows."""
    passed: dict[str, Any] = {}
    for name, value in extensions.items():
        if name in PASSED:
            passed[name] = value
        elif name == "output_config":
            if not isinstance(value, dict):
                raise RequestError("output_config must be an object", param="output_config")
            passed[name] = dict(value)
        elif name not in IGNORED and value not in NEUTRAL_VALUES.get(name, ()):
            if name in NEUTRAL_VALUES:
                shown = jsonx.dumps(value).decode()[:100]
                raise UnsupportedParameter(f"Anthropic cannot do {name}: {shown}", param=name)
            raise UnsupportedParameter(f"Anthropic has no {name}", param=name)
    return passed


def _reason(conversation: Conversation, body: dict[str, Any]) -> int:
    """Sets how much is thought before the answer; the tokens set aside for it. The client's own `thinking`
    stays.

    An effort asks for as much thinking as the model finds fit, unless a call is forced: Anthropic does not
    think before one.
    """
    effort, budget = conversation.reasoning_effort, conversation.reasoning_budget
    thinking = "thinking" not in body
    if effort == "none" or (effort is None and budget is not None and budget <= 0):
        if thinking:
            body["thinking"] = {"type": "disabled"}
        return 0
    if effort is not None:
        if effort not in EFFORT:
            raise UnsupportedValue(f"unknown reasoning_effort {effort!r}", param="reasoning_effort")
        _configure(body, "effort", EFFORT[effort])
    if not thinking:
        return 0
    if budget is not None and budget > 0:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        return budget
    if effort is not None and body.get("tool_choice", {}).get("type") not in ("any", "tool"):
        body["thinking"] = {"type": "adaptive"}
    return 0


def _format(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "json_object":
        raise UnsupportedParameter(
            "Anthropic answers in JSON of a schema only: use the type json_schema",
            param="response_format.type",
        )
    if wanted.schema is None:
        param = "response_format.json_schema.schema"
        raise RequestError(f"{param} is required", param=param)
    return {"type": "json_schema", "schema": wanted.schema}


def _configure(body: dict[str, Any], name: str, value: Any) -> None:
    body.setdefault("output_config", {})[name] = value


# --- tools


def _tools(conversation: Conversation) -> dict[str, Any]:
    """A choice that leaves all tools in the request leaves the provider's cache of them in use."""
    choice, single = conversation.tool_choice, conversation.parallel_tool_calls is False
    allowed = forced_call.callable_tools(conversation, "Anthropic")
    if not conversation.tools:
        return {}
    if choice is not None and choice.mode == "none":
        shown, chosen = _functions(conversation), {"type": "none"}
    elif choice is not None and choice.mode == "required" and len(choice.names) == 1:
        shown, chosen = _functions(conversation), {"type": "tool", "name": choice.names[0]}
    else:
        required = choice is not None and choice.mode == "required"
        shown, chosen = allowed, {"type": "any" if required else "auto"}
    written: dict[str, Any] = {"tools": [_tool(tool) for tool in shown]}
    if single and chosen["type"] != "none":
        written["tool_choice"] = {**chosen, "disable_parallel_tool_use": True}
    elif choice is not None:
        written["tool_choice"] = chosen
    return written


def _functions(conversation: Conversation) -> list[FunctionTool]:
    """All of them. Raises UnsupportedValue for tools of another kind."""
    for index, tool in enumerate(conversation.tools):
        if not isinstance(tool, FunctionTool):
            raise UnsupportedValue("Anthropic has function tools only", param=f"tools[{index}].type")
    return [tool for tool in conversation.tools if isinstance(tool, FunctionTool)]


def _tool(tool: FunctionTool) -> dict[str, Any]:
    member: dict[str, Any] = {"name": tool.name}
    if tool.description:
        member["description"] = tool.description
    if tool.parameters:
        member["input_schema"] = {"type": "object", **tool.parameters}
    else:
        member["input_schema"] = {"type": "object", "properties": {}}
    if tool.strict:
        member["strict"] = True
    return member
