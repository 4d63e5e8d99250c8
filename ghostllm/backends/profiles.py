"""What differs between the servers that speak OpenAI's dialect, as data.

Sources: the servers' own documentation and code at vLLM 0.32, llama.cpp b11434, transformers 5.23, LM Studio
0.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ghostllm.api.openai.traits import EXTRAS, Traits
from ghostllm.backends import observation
from ghostllm.ports import Looks

ANY = object()
"""In `Fields.neutral`: any value is harmless, since the member never changes an answer."""

LABELS: Mapping[str, Any] = {
    "user": ANY,
    "metadata": ANY,
    "safety_identifier": ANY,
    "prompt_cache_key": ANY,
    "prompt_cache_options": ANY,
    "prompt_cache_retention": ANY,
}
"""Members that tell a provider about the request and ask nothing of the model."""


@dataclass(slots=True, frozen=True)
class Fields:
    """The request members that a server acts on, for one that refuses or ignores all others.

    neutral: members that are left out when they say what would happen anyway, by value (a tuple of values, or
    ANY); another value is an error, because the server would ignore the wish. renamed: members it knows by
    another name.
    """

    accepted: frozenset[str]
    neutral: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, frozen=True, kw_only=True)
class Profile:
    """One kind of server.

    kind: as in the configuration. label: for people. paths: by operation, below the base URL that SDKs mean
    (`…/v1`); an operation that is not there, the server does not have. inventory: its list of models, below
    the same base. passes: how the paths begin that it has beside these (`message.Passage`). fields: by
    operation; without an entry every member may be sent. include_usage: usage in a stream has to be asked
    for. other_reasoning: it may call thinking `reasoning` instead of `reasoning_content`. traits: what it can
    do with a call that came in another dialect. looks: where it tells of itself.
    """

    kind: str
    label: str
    paths: Mapping[str, str] = field(default_factory=lambda: ALL_PATHS)
    inventory: str = "/models"
    passes: tuple[str, ...] = ()
    fields: Mapping[str, Fields] = field(default_factory=dict)
    include_usage: bool = True
    other_reasoning: bool = False
    traits: Traits = Traits()
    looks: Looks = observation.NO_LOOKS


ALL_PATHS: Mapping[str, str] = MappingProxyType(
    {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}
)

COUNTING_PATHS = MappingProxyType({**ALL_PATHS, "count_tokens": "/messages/count_tokens"})

_TRANSFORMERS_CHAT = Fields(
    accepted=frozenset((
        "messages", "model", "stream", "max_tokens", "temperature", "top_p", "frequency_penalty",
        "logit_bias", "seed", "stop", "tools", "generation_config", "chat_template_kwargs",
    )),
    neutral={
        **LABELS,
        "n": (1,),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "presence_penalty": (0,),
        "parallel_tool_calls": (True,),
        "tool_choice": ("auto",),
        "response_format": ({"type": "text"},),
        "modalities": (["text"],),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "verbosity": ("medium",),
        "stream_options": ANY,  # usage comes in every stream, on the chunk with the finish reason
    },
    renamed={"max_completion_tokens": "max_tokens"},
)  # fmt: skip

_TRANSFORMERS_COMPLETIONS = Fields(
    accepted=frozenset((
        "prompt", "model", "stream", "max_tokens", "temperature", "top_p", "frequency_penalty", "logit_bias",
        "seed", "stop", "suffix", "generation_config",
    )),
    neutral={
        **LABELS,
        "n": (1,),
        "best_of": (1,),
        "echo": (False,),
        "presence_penalty": (0,),
        "stream_options": ANY,
    },
)  # fmt: skip

_LEVELS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}

_NO_THINKING: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
"""What the templates of Qwen, GLM and others read; those that have no such switch ignore it."""

_GOES_ON: Mapping[str, Any] = {
    "continue_final_message": True,
    "add_generation_prompt": False,
    **_NO_THINKING,
}
"""vLLM and SGLang: a last message of the assistant's stays open. A text that has begun is not thought about
any more, and a server that expects thoughts would take the rest of it for some.
"""

_TEMPLATE_EFFORTS: Mapping[str, Mapping[str, Any]] = {
    "none": _NO_THINKING,
    **{
        effort: {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": level}}
        for effort, level in _LEVELS.items()
    },
}
_VLLM_EFFORTS: Mapping[str, Mapping[str, Any]] = {
    "none": _NO_THINKING,
    **{
        effort: {"reasoning_effort": level, "chat_template_kwargs": {"enable_thinking": True}}
        for effort, level in _LEVELS.items()
    },
}

_CLOUD = Traits(
    label="an OpenAI-compatible server",
    extras={},
    developer=False,  # OpenAI takes `system` for it, and most others know only that
    result_images=False,
    allowed_tools=False,
    labels=False,
)
_LOCAL = replace(
    _CLOUD,
    token_limit="max_tokens",  # the name that every version of every local server knows
    system_anywhere=False,
    flat_text=True,
    files=False,
    custom_tools=False,
)

OPENAI = Profile(
    kind="openai",
    label="OpenAI-compatible server",
    passes=("/audio/", "/images/", "/moderations", "/rerank", "/files", "/batches"),
    other_reasoning=True,
    traits=_CLOUD,
)

OWN = replace(OPENAI, looks=observation.OWN_LOOKS)
"""Such a server on a network of one's own: no provider is reached over plain HTTP."""

VLLM = Profile(
    kind="vllm",
    label="vLLM",
    paths=COUNTING_PATHS,
    passes=("/audio/transcriptions", "/audio/translations", "/rerank"),
    looks=observation.VLLM_LOOKS,
    other_reasoning=True,
    traits=replace(
        _LOCAL,
        label="vLLM",
        extras=EXTRAS,
        efforts=_VLLM_EFFORTS,
        budget="thinking_token_budget",
        continues=_GOES_ON,
    ),
)

LLAMACPP = Profile(
    kind="llamacpp",
    label="llama.cpp",
    paths=COUNTING_PATHS,
    passes=("/audio/transcriptions", "/rerank"),
    looks=observation.LLAMACPP_LOOKS,
    traits=replace(
        _LOCAL,
        label="llama.cpp",
        extras={**EXTRAS, "repetition_penalty": "repeat_penalty"},
        efforts=_TEMPLATE_EFFORTS,
        budget="thinking_budget_tokens",
        forced_by_format=True,  # it answers 200 without a call, to "required" and to a name
        continues=_NO_THINKING,  # it goes on by itself, but newer ones refuse to while thinking is on
    ),
)

LMSTUDIO = Profile(
    kind="lmstudio",
    label="LM Studio",
    looks=observation.LMSTUDIO_LOOKS,
    other_reasoning=True,
    traits=replace(
        _LOCAL,
        label="LM Studio",
        extras={"top_k": "top_k", "repetition_penalty": "repeat_penalty"},
        named_choice=False,
    ),
)

TRANSFORMERS = Profile(
    kind="transformers",
    label="transformers serve",
    passes=("/audio/transcriptions",),
    looks=observation.TRANSFORMERS_LOOKS,
    paths=MappingProxyType({name: path for name, path in ALL_PATHS.items() if name != "embeddings"}),
    fields={"chat": _TRANSFORMERS_CHAT, "completions": _TRANSFORMERS_COMPLETIONS},
    include_usage=False,
    traits=replace(
        _LOCAL,
        label="transformers serve",
        efforts=_TEMPLATE_EFFORTS,
        reasoning="",
        tool_choice=False,
        named_choice=False,
    ),
)

PROFILES: Mapping[str, Profile] = {
    profile.kind: profile for profile in (OPENAI, VLLM, LLAMACPP, LMSTUDIO, TRANSFORMERS)
}
