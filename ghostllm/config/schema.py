"""The configuration as frozen dataclasses: every key, its type, default, limits and meaning, written once.

A field is `name: Annotated[type, "meaning", constraints…] = default`. The loader builds these classes from
TOML or YAML, `ghostllm schema` prints them as JSON Schema, and a test holds `ghostllm.example.toml` against
them. Times are seconds (0 = no limit), sizes are bytes. This module reads nothing and checks nothing by
itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ghostllm.config.constraints import Count, Form, Pattern, Range, SecretText

Kind = Literal[
    "ollama", "openai", "anthropic", "vllm", "llamacpp", "transformers", "lmstudio", "gguf", "auto"
]  # fmt: skip
Balance = Literal["failover", "round_robin", "weighted", "least_requests"]

Seconds = Annotated[float, Range(0)]
Size = Annotated[int, Range(1)]
Number = Annotated[int, Range(0)]
Weight = Annotated[float, Range(0)]
Name = Annotated[str, Pattern("[!-~]+", "a name of printable ASCII characters without spaces")]
ModelName = Annotated[str, Pattern(r"[^\s\x00-\x1f\x7f]+", "a name without spaces and control characters")]


class Secret:
    """A value that is used and never shown: repr, str and format give its origin or stars.

    origin: where it was read (`env:NAME`, `file:PATH`, or "" for a literal), which may be shown.
    """

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "") -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.origin or '***'})"

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._value.encode("utf-8", "replace"), other._value.encode("utf-8", "replace")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._value))


@dataclass(slots=True, frozen=True, kw_only=True)
class Limits:
    """Bounds of what is taken from clients and from backends, in bytes or in numbers."""

    head_bytes: Annotated[Size, "Largest request head (request line and header fields); above: 431."] = 32_768
    header_count: Annotated[Size, "Most header fields in a request; above: 431."] = 100
    target_bytes: Annotated[Size, "Longest request target (path and query); above: 414."] = 8_192
    body_bytes: Annotated[Size, "Largest request body, also after decompression; above: 413."] = 33_554_432
    connections: Annotated[Size, "Most client connections at one time; above: 503 and close."] = 10_000
    pipeline_bytes: Annotated[
        Size, "Most bytes read ahead on a connection while its request is being answered."
    ] = 65_536
    event_bytes: Annotated[Size, "Largest single stream event (or line) taken from a backend."] = 8_388_608
    answer_bytes: Annotated[Size, "Largest whole, non-streamed answer taken from a backend."] = 67_108_864


@dataclass(slots=True, frozen=True, kw_only=True)
class ServerTimeouts:
    """Time limits towards clients."""

    header: Annotated[
        Seconds, "From the first byte of a request (or the connection's start) to its whole head."
    ] = 10.0
    idle: Annotated[Seconds, "A kept-alive connection without a request is closed after this."] = 75.0
    body: Annotated[Seconds, "Longest wait for the next piece of a request body."] = 30.0
    write: Annotated[Seconds, "Longest time a client may take nothing of what is written to it."] = 60.0
    drain: Annotated[Seconds, "At shutdown, requests in flight get this long to finish; 0 waits for all."] = (
        30.0
    )


@dataclass(slots=True, frozen=True, kw_only=True)
class Cors:
    """Cross-origin requests from browsers. Without origins no CORS header is sent at all."""

    origins: Annotated[
        tuple[Annotated[str, Form("origin")], ...],
        'Allowed origins, exactly as browsers send them; "*" for all.',
    ] = ()
    headers: Annotated[
        tuple[Annotated[str, Pattern(r"\*|[!#$%&'*+.^_`|~0-9A-Za-z-]+", 'a header name or "*"')], ...],
        'Request headers that scripts may send; "*" allows whatever they ask for.',
    ] = ("*",)
    max_age: Annotated[Number, "Seconds a browser may remember the answer to a preflight."] = 600
    credentials: Annotated[bool, 'Allow cookies and HTTP authentication; needs exact origins, not "*".'] = (
        False
    )


@dataclass(slots=True, frozen=True, kw_only=True)
class Server:
    """The listening side."""

    listen: Annotated[
        tuple[Annotated[str, Form("listen")], ...],
        Count(1),
        'Addresses to listen on: "127.0.0.1:8080", "[::1]:8080", "localhost:8080".',
    ] = ("127.0.0.1:8080", "[::1]:8080")
    insecure: Annotated[
        bool, "Listen beyond this machine although no [[keys]] are set: anyone may then use it."
    ] = False
    limits: Annotated[Limits, "Bounds of sizes and numbers."] = field(default_factory=Limits)
    timeouts: Annotated[ServerTimeouts, "Time limits towards clients, in seconds; 0 = none."] = field(
        default_factory=ServerTimeouts
    )
    cors: Annotated[Cors, "Cross-origin requests from browsers."] = field(default_factory=Cors)


@dataclass(slots=True, frozen=True, kw_only=True)
class Log:
    """What is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], "Least severity that is written."] = "info"
    format: Annotated[
        Literal["auto", "json", "text"], '"auto": text on a terminal, JSON lines elsewhere.'
    ] = "auto"
    access: Annotated[bool, "One record for each request."] = True


@dataclass(slots=True, frozen=True, kw_only=True)
class Timeouts:
    """Time limits of one upstream exchange, in seconds; 0 = none, None = inherit.

    The nearest level that sets a limit wins: model, backend, global, built-in.
    """

    connect: Annotated[Seconds | None, "To connect, TLS handshake included."] = None
    head: Annotated[Seconds | None, "From the request's last byte to the head of the answer."] = None
    first_token: Annotated[
        Seconds | None, "From the request's last byte to the first content of a stream."
    ] = None
    idle: Annotated[Seconds | None, "Longest silence within an answer."] = None
    total: Annotated[
        Seconds | None,
        "The whole exchange. Bounds a stream only where set on its model or backend: long answers are fine.",
    ] = None


BUILT_IN_TIMEOUTS = Timeouts(connect=5.0, head=300.0, first_token=300.0, idle=120.0, total=600.0)


@dataclass(slots=True, frozen=True, kw_only=True)
class Routing:
    """How targets are chosen and failures retried."""

    attempts: Annotated[Size, "Most tries for one request, the first included."] = 3
    backoff: Annotated[Seconds, "Wait before the second try on the same target; doubles, with jitter."] = 0.2
    backoff_max: Annotated[Seconds, "Longest wait between two tries."] = 5.0
    retry_after_max: Annotated[Seconds, "A backend's Retry-After above this is not waited for."] = 20.0
    refresh: Annotated[Seconds, "Between two looks at each backend's list of models; 0 = only at start."] = (
        30.0
    )
    balance: Annotated[
        Balance, "How requests spread over a model's targets, where the model does not say."
    ] = "failover"


@dataclass(slots=True, frozen=True, kw_only=True)
class Discovery:
    """Finding LLM servers without being told."""

    local: Annotated[bool, "Look for servers on this machine when no backend is configured."] = True
    timeout: Annotated[Seconds, "Longest wait for a candidate's answer, in seconds."] = 0.5


@dataclass(slots=True, frozen=True, kw_only=True)
class State:
    """What is made at run time and outlives a request."""

    file: Annotated[str, "An SQLite file, made if it is not there; empty: in memory, gone at the end."] = ""
    responses: Annotated[
        Seconds, "A response of /v1/responses is kept this long for the next turn, in seconds."
    ] = 2_592_000.0


@dataclass(slots=True, frozen=True, kw_only=True)
class BackendConfig:
    """One LLM server, or one GGUF file that GhostLLM runs itself."""

    name: Annotated[Name, "Unique; used in targets, logs and metrics."]
    kind: Annotated[Kind, '"auto" asks the server what it is; "openai" is any compatible server.'] = "auto"
    url: Annotated[
        Annotated[str, Form("url")] | Literal[""],
        'Where it is. OpenAI-style: the base that SDKs mean ("/v1" added to a bare host). Ollama: its root.',
    ] = ""
    api_key: Annotated[
        Secret | None, "Sent as bearer token to this backend only. Best as env:NAME or file:PATH."
    ] = None
    headers: Annotated[
        Mapping[str, Annotated[str, SecretText()]],
        "Further header fields for this backend; a value may be env:NAME or file:PATH.",
    ] = field(default_factory=dict, repr=False)
    weight: Annotated[Weight, 'Share of requests under balance = "weighted".'] = 1.0
    timeouts: Annotated[Timeouts, "Time limits for this backend."] = field(default_factory=Timeouts)
    max_inflight: Annotated[Number, "Most requests at one time; 0 = no limit."] = 0
    max_connections: Annotated[Size, "Most connections kept or in use."] = 256
    idle_connection: Annotated[Seconds, "A connection unused this long is closed, in seconds."] = 60.0
    tls_verify: Annotated[bool, "Check the server's certificate."] = True
    tls_ca: Annotated[
        str, Form("file"), "PEM file of certificate authorities to trust instead of the system's."
    ] = ""
    path: Annotated[str, Form("file"), "gguf: the model file."] = ""
    context: Annotated[Size, "gguf: tokens of context for each request."] = 4_096
    parallel: Annotated[Size, "gguf: requests computed at the same time."] = 4
    threads: Annotated[Number, "gguf: CPU threads; 0 = choose."] = 0
    gpu_layers: Annotated[int, Range(-1), "gguf: layers put on the GPU; -1 = all."] = -1
    start: Annotated[
        Literal["first_use", "start"], "gguf: load on the first request, or with the gateway."
    ] = "first_use"
    load_timeout: Annotated[Seconds, "gguf: longest time loading may take, in seconds."] = 120.0


@dataclass(slots=True, frozen=True, kw_only=True)
class TargetConfig:
    """One place where a model is served."""

    backend: Annotated[Name, "Name of a backend."]
    model: Annotated[ModelName | Literal[""], "What the model is called there; empty: the same."] = ""
    weight: Annotated[Weight, 'Share of requests under balance = "weighted".'] = 1.0


@dataclass(slots=True, frozen=True, kw_only=True)
class ModelConfig:
    """A model as clients see it."""

    name: Annotated[ModelName, "What clients ask for; unique among names and aliases."]
    aliases: Annotated[tuple[ModelName, ...], "Further names of the same model."] = ()
    targets: Annotated[tuple[TargetConfig, ...], Count(1), "Where it is served, in order of preference."]
    balance: Annotated[Balance | None, "How requests spread over the targets; unset: routing.balance."] = None
    timeouts: Annotated[Timeouts, "Time limits for this model; they win over the backend's."] = field(
        default_factory=Timeouts
    )
    defaults: Annotated[Mapping[str, Any], "Request parameters used where the client sends none."] = field(
        default_factory=dict
    )
    forced: Annotated[Mapping[str, Any], "Request parameters that replace the client's."] = field(
        default_factory=dict
    )


@dataclass(slots=True, frozen=True, kw_only=True)
class KeyConfig:
    """One API key that clients may use. Exactly one of key and hash is set."""

    name: Annotated[Name, "Unique; what logs and metrics show instead of the key."]
    key: Annotated[Secret | None, "The key itself, best as env:NAME or file:PATH."] = None
    hash: Annotated[
        Annotated[str, Pattern("sha256:[0-9a-fA-F]{64}", '"sha256:" and 64 hexadecimal digits')]
        | Literal[""],
        'Its SHA-256 instead: "sha256:<hex>".',
    ] = ""
    models: Annotated[
        tuple[ModelName, ...], "Names or patterns (*, ?, [..]) of models it may use; empty: all."
    ] = ()
    manage: Annotated[bool, "It may have models pulled, copied and deleted, on Ollama backends."] = False


@dataclass(slots=True, frozen=True, kw_only=True)
class Config:
    """Everything. Immutable: a reload builds another one."""

    server: Annotated[Server, "The listening side."] = field(default_factory=Server)
    log: Annotated[Log, "What is written to standard error."] = field(default_factory=Log)
    routing: Annotated[Routing, "How targets are chosen and failures retried."] = field(
        default_factory=Routing
    )
    discovery: Annotated[Discovery, "Finding LLM servers without being told."] = field(
        default_factory=Discovery
    )
    state: Annotated[State, "What is made at run time and outlives a request."] = field(default_factory=State)
    backends: Annotated[tuple[BackendConfig, ...], "LLM servers and GGUF files behind the gateway."] = ()
    models: Annotated[
        tuple[ModelConfig, ...],
        "Models as clients see them; without any, every backend's own are served and same names are pooled.",
    ] = ()
    keys: Annotated[tuple[KeyConfig, ...], "API keys of clients; without any, no key is asked for."] = ()
    timeouts: Annotated[Timeouts, "Time limits towards backends, for all that set none of their own."] = (
        BUILT_IN_TIMEOUTS
    )
