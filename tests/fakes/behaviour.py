"""The vocabulary in which tests say what an upstream does to a request. Plain data: it travels as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

TEXT = ("Hello", ",", " wörld", " 🙂", ' "quoted\\"', "!")
"""The default answer: multi-byte characters and characters that JSON escapes."""

PROMPT_TOKENS = 11


@dataclass(kw_only=True)
class Behaviour:
    """What to do with a request. Fields left alone mean an ordinary, sound answer in the kind's format.

    Which requests: POSTs, or exactly `path`; of `model` (top-level member of the body) where that is set.
    Behaviours are taken in order, each for `times` requests (None: for ever).
    """

    model: str | None = None
    path: str | None = None
    times: int | None = 1

    # Before the answer.
    reset: bool = False
    """RST as soon as the request is there."""
    close: bool = False
    """FIN as soon as the request is there."""
    hang: bool = False
    """Never a byte: until the client goes."""
    gate: str | None = None
    """Wait here, before the head, until the control port releases this name."""
    delay: float = 0.0
    """Seconds before the head."""
    interim: list[int] = field(default_factory=list)
    """1xx heads sent before the real one."""

    # An answer that is not generation.
    status: int = 200
    """With anything but 200, an error in the kind's own shape, unless `body` says otherwise."""
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    """The whole body, sent as it is."""
    content_type: str | None = None
    message: str = "the fake was told to fail"
    code: str | int | None = None

    # Generation.
    tokens: int | list[str] = field(default_factory=lambda: list(TEXT))
    token_delay: float = 0.0
    finish: str | None = "stop"
    """The finish reason; None sends none."""
    usage: str = "asked"
    """asked, always, never, or in_choices: in the chunk that has the finish reason."""
    done: bool = True
    """`data: [DONE]` (where the kind sends one), or Ollama's last line."""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    """Of {"name", "arguments"}, arguments as JSON text."""
    fragment: int = 4
    """Characters of arguments in each streamed fragment."""
    interleaved: bool = False
    """Fragments of parallel calls take turns."""
    reasoning: str = ""
    prefill: str | None = None
    """A request that ends with the beginning of the answer (as the kind knows it) is answered with the rest.
    None: where the kind does so by itself. continue: it does. refuse: 400, in the kind's own words. echo: it
    repeats the beginning first. restart: it begins anew.
    """
    prompt_tokens: int = PROMPT_TOKENS
    """As the usage says; what of the answer came with the request is added."""
    dimensions: int = 8
    extra_members: dict[str, Any] = field(default_factory=dict)
    """Added to whole answers and to every stream chunk."""
    comment: bool = False
    """An SSE comment before each token."""
    newline: str = "\n"
    """The line end of SSE."""

    # How it travels.
    framing: str = "chunked"
    """Of streams: chunked, or close (the end of the connection ends the body). Whole answers have a length,
    unless this is close."""
    whole_chunked: bool = False
    """Whole answers are chunked too."""
    drip: int = 0
    """Bytes in each write; 0: one write for each event."""
    drip_delay: float = 0.0
    together: bool = False
    """The head and everything else in one write."""
    extra: str = ""
    """Bytes after the answer, on the same connection."""
    hang_up: bool = False
    """Close the connection after the answer without having said so."""

    # Faults inside the answer. `at`: how many tokens have gone out before it.
    at: int = 0
    fault: str | None = None
    """stall: silence until the client goes. wait: nothing but the gate below. fin, rst: the connection ends.
    bad_chunk: a chunk size that is none. bad_json: an event whose JSON breaks off. bad_event: bytes that are
    no event. error: an error object in the stream, then the end. oversized: one event of `size` bytes. end:
    the body ends soundly there, without finish reason and terminator.
    """
    fault_gate: str = ""
    """Before the fault, wait until this name is released: a test can make sure that what came before it has
    arrived, as a fault in the same read may take the rest of the read with it.
    """
    size: int = 0
    cut_after_bytes: int | None = None
    """End the connection (RST if `fault` is rst, else FIN) after so many bytes of the framed body."""

    @classmethod
    def of(cls, data: dict[str, Any]) -> Behaviour:
        known = {item.name for item in fields(cls)}
        unknown = set(data) - known
        if unknown:
            raise ValueError(f"no such behaviour: {', '.join(sorted(unknown))}")
        return cls(**data)

    @property
    def words(self) -> list[str]:
        return (
            self.tokens if isinstance(self.tokens, list) else [f" tok{index}" for index in range(self.tokens)]
        )

    @property
    def text(self) -> str:
        return "".join(self.words)

    def matches(self, method: str, path: str, model: str | None) -> bool:
        if self.path is None:
            return method == "POST" and self.model in (None, model)
        return self.path == path and self.model in (None, model)
