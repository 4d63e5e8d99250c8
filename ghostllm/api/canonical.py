"""The neutral chat form: what every dialect is parsed to, and rendered from, when client and backend differ.

A request is a `Conversation` (or a `Continuation` of plain text, or `Embeddings`); an answer is a series of
events, and a whole answer is nothing but its events put together (`Fold`), so that streams and whole bodies
share one path. The forms hold what two dialects share: OpenAI chat and Responses, Anthropic messages, Ollama.
Whatever only the client's own dialect knows stays in `extensions` under its own name, for the backend to map,
to ignore knowingly, or to refuse. Absent is None (or empty), never a default of ours: the model's own
settings rule what the client left open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ghostllm.message import Usage

# --- what is said


@dataclass(slots=True, frozen=True)
class Text:
    text: str


@dataclass(slots=True, frozen=True)
class Image:
    """Either `data` (base64, of media type `media_type`) or `url`. detail: OpenAI's low, high, auto."""

    data: str = ""
    media_type: str = ""
    url: str = ""
    detail: str = ""


@dataclass(slots=True, frozen=True)
class Audio:
    """data: base64. format: wav, mp3."""

    data: str
    format: str


@dataclass(slots=True, frozen=True)
class File:
    """One of `data` (base64 or data URL, as the client gave it), `url` and `file_id` (a file stored at the
    provider).
    """

    data: str = ""
    url: str = ""
    file_id: str = ""
    filename: str = ""
    media_type: str = ""


@dataclass(slots=True, frozen=True)
class Refusal:
    """The model declined, in these words."""

    text: str


@dataclass(slots=True, frozen=True)
class Reasoning:
    """The model's thinking. signature: the provider's proof of it (Anthropic), to be returned unchanged.

    redacted: thinking that the provider shows only in sealed form (Anthropic's redacted_thinking, OpenAI's
    encrypted_content); then `text` is empty.
    """

    text: str
    signature: str = ""
    redacted: str = ""


@dataclass(slots=True, frozen=True)
class ToolCall:
    """arguments: JSON text exactly as the model wrote it; of a custom tool, its free-form input."""

    id: str
    name: str
    arguments: str
    custom: bool = False


@dataclass(slots=True, frozen=True)
class ToolResult:
    """What the call `id` gave. name: the tool's, where the dialect says it. error: the tool failed."""

    id: str
    parts: tuple[Text | Image, ...]
    name: str = ""
    error: bool = False


Part = Text | Image | Audio | File | Refusal | Reasoning | ToolCall | ToolResult
Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(slots=True, frozen=True)
class Message:
    """One turn. A "tool" message holds ToolResult parts only. name: of the participant, where given."""

    role: Role
    parts: tuple[Part, ...]
    name: str = ""


# --- what is asked


@dataclass(slots=True, frozen=True)
class FunctionTool:
    """parameters: JSON Schema of the arguments; None when the function takes none."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(slots=True, frozen=True)
class CustomTool:
    """A tool with free-form input. format: OpenAI's description of it (text or a grammar)."""

    name: str
    description: str = ""
    format: Mapping[str, Any] | None = None


Tool = FunctionTool | CustomTool


@dataclass(slots=True, frozen=True)
class ToolChoice:
    """names: the tools that may be called; empty means all. A named choice is "required" with one name."""

    mode: Literal["none", "auto", "required"]
    names: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class ResponseFormat:
    """schema: of kind "json_schema", with the name that the client gave it."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    description: str = ""


@dataclass(slots=True, frozen=True)
class Sampling:
    """max_tokens bounds the answer, reasoning included. logit_bias: by token id. n: answers wanted."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    logit_bias: Mapping[str, float] = field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int | None = None


@dataclass(slots=True, frozen=True)
class Conversation:
    """A chat request.

    model: the name the client used. reasoning_effort: none, minimal, low, medium, high, xhigh, max.
    reasoning_budget: tokens the model may think. metadata: the client's own labels. extensions: members of
    the client's request without a neutral meaning, under their names.
    """

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    sampling: Sampling = Sampling()
    reasoning_effort: str | None = None
    reasoning_budget: int | None = None
    stream: bool = False
    wants_usage: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Continuation:
    """A text to go on with, outside any chat template (OpenAI completions).

    suffix: the text after the gap to fill. echo: the answer begins with the prompt. sampling.top_logprobs:
    how many alternatives beside each token.
    """

    model: str
    prompt: str
    suffix: str = ""
    echo: bool = False
    sampling: Sampling = Sampling()
    stream: bool = False
    wants_usage: bool = True
    extensions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Embeddings:
    """Texts to embed. base64: the client wants little-endian float32 in base64, not lists of numbers."""

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None
    base64: bool = False
    extensions: Mapping[str, Any] = field(default_factory=dict)


# --- what is answered


@dataclass(slots=True, frozen=True)
class TokenLogprob:
    """logprob: natural logarithm. bytes: UTF-8 of the token, which alone may be no character."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True, frozen=True)
class Start:
    """The answer begins; not content."""


@dataclass(slots=True, frozen=True)
class TextDelta:
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(slots=True, frozen=True)
class RefusalDelta:
    text: str


@dataclass(slots=True, frozen=True)
class ReasoningDelta:
    text: str
    signature: str = ""
    redacted: str = ""


@dataclass(slots=True, frozen=True)
class ToolCallDelta:
    """A fragment of tool call `index` (0, 1, … in order of appearance). id and name: in its first fragment
    only.
    """

    index: int
    arguments: str
    id: str = ""
    name: str = ""
    custom: bool = False


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause"]


@dataclass(slots=True, frozen=True)
class Finish:
    """The model is done. stop_sequence: which one it met, where the backend says so."""

    reason: FinishReason
    stop_sequence: str | None = None


@dataclass(slots=True, frozen=True)
class UsageEvent:
    """The final counts of the answer (cumulative, never a difference)."""

    usage: Usage


Event = Start | TextDelta | RefusalDelta | ReasoningDelta | ToolCallDelta | Finish | UsageEvent


@dataclass(slots=True, frozen=True)
class Answer:
    """A whole answer. parts: Reasoning, Text, Refusal, ToolCall, in the order they were begun."""

    parts: tuple[Part, ...]
    finish: Finish
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] = ()


class Fold:
    """Puts the events of one answer together."""

    __slots__ = ("_blocks", "_calls", "_finish", "_logprobs", "_usage")

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._blocks: list[_Block] = []
        self._calls: dict[int, _Block] = {}
        self._logprobs: list[TokenLogprob] = []
        self._finish: Finish | None = None
        self._usage = Usage()
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._block(Text).fragments.append(event.text)
            self._logprobs.extend(event.logprobs)
        elif isinstance(event, ToolCallDelta):
            self._call(event).fragments.append(event.arguments)
        elif isinstance(event, ReasoningDelta):
            self._reasoning(event)
        elif isinstance(event, RefusalDelta):
            self._block(Refusal).fragments.append(event.text)
        elif isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, UsageEvent):
            self._usage = event.usage

    def answer(self) -> Answer:
        """Raises ValueError when the answer has no end."""
        if self._finish is None:
            raise ValueError("the answer has no finish")
        parts = tuple(part for block in self._blocks if (part := block.part()) is not None)
        return Answer(parts, self._finish, self._usage, tuple(self._logprobs))

    def _block(self, kind: type) -> _Block:
        if not self._blocks or self._blocks[-1].kind is not kind:
            self._blocks.append(_Block(kind))
        return self._blocks[-1]

    def _reasoning(self, event: ReasoningDelta) -> None:
        last = self._blocks[-1] if self._blocks else None
        if event.redacted or (last and last.kind is Reasoning and (last.signature or last.redacted)):
            self._blocks.append(_Block(Reasoning))  # a signature closes its block, a sealed one stands alone
        block = self._block(Reasoning)
        block.fragments.append(event.text)
        block.signature += event.signature
        block.redacted += event.redacted

    def _call(self, event: ToolCallDelta) -> _Block:
        block = self._calls.get(event.index)
        if block is None:
            block = self._calls[event.index] = _Block(ToolCall)
            self._blocks.append(block)
        block.id = block.id or event.id
        block.name = block.name or event.name
        block.custom = block.custom or event.custom
        return block


class _Block:
    """A part in the making."""

    __slots__ = ("custom", "fragments", "id", "kind", "name", "redacted", "signature")

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.fragments: list[str] = []
        self.id = self.name = self.signature = self.redacted = ""
        self.custom = False

    def part(self) -> Part | None:
        """None for a block in which nothing was said."""
        text = "".join(self.fragments)
        if self.kind is ToolCall:
            return ToolCall(self.id, self.name, text, self.custom)
        if self.kind is Reasoning:
            if text or self.signature or self.redacted:
                return Reasoning(text, self.signature, self.redacted)
            return None
        if not text:
            return None
        return Text(text) if self.kind is Text else Refusal(text)
