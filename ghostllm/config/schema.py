"""The configuration as frozen dataclasses: every key, its type, default, limits and meaning, written once.

A field is `name: Annotated[type, "meaning", constraints…] = default`. The loader builds these classes from
TOML or YAML, `ghostllm schema` prints them as JSON Schema, and a test holds `ghostllm.example.toml` against
them. Times are seconds (0 = no limit), sizes are bytes. This module reads nothing and checks nothing by
itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ghostllm.config.constraints import Count, Form, Hidden, Pattern, Range, SecretText
from ghostllm.config.finding import Discovery
from ghostllm.config.identity import Anonymous, JwtIssuer, KeyAccess, Role
from ghostllm.config.kinds import Balance, Kind, ModelName, Name, Number, Seconds, Secret, Size, Weight
from ghostllm.config.money import Budget, LimitsConfig, Price, RateLimits, TeamConfig, UsageConfig
from ghostllm.config.outbound import Outbound
from ghostllm.config.remember import Cache, ModelCache, Redis
from ghostllm.config.traffic import (
    BUILT_IN_TIMEOUTS,
    Capability,
    Fallback,
    Routing,
    SplitConfig,
    StickyBy,
    TargetConfig,
    Timeouts,
)


@dataclass(slots=True, frozen=True, kw_only=True)
class Limits:
    """Bounds of what is taken from clients and from backends, in bytes or in numbers."""

    head_bytes: Annotated[Size, "Largest request head (request line and header fields); above: 431."] = 32_768
    header_count: Annotated[Size, "Most header fields in a request; above: 431."] = 100
    target_bytes: Annotated[Size, "Longest request target (path and query); above: 414."] = 8_192
    body_bytes: Annotated[Size, "Largest request body, also after decompression; above: 413."] = 33_554_432
    connections: Annotated[Size, "Most client connections at one time; above: 503 and close."] = 10_000
    connections_per_address: Annotated[
        Number,
        "Most of them from one address, of IPv6 its /64; 0 = no limit; above: 429 and close. This machine "
        "and trusted proxies do not count.",
    ] = 1_000
    streams_per_address: Annotated[
        Number, "Most requests in flight of one address, counted the same way; 0 = no limit; above: 429."
    ] = 1_000
    json_depth: Annotated[
        int, Range(8, 200), "Deepest nesting of arrays and objects in a request's JSON; deeper: 400."
    ] = 128
    client_rate: Annotated[
        Number,
        "Least bytes a second that a body must come in at, and an answer be taken at, on average, once its "
        "time limit (timeouts.body, timeouts.write) has passed; 0 = none; below: 408, and close.",
    ] = 1_024
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
    trusted_proxies: Annotated[
        tuple[Annotated[str, Form("network")], ...],
        "Networks of proxies in front: what they say of a client's address is believed, and nobody else.",
    ] = ()
    forwarded: Annotated[
        Literal["x-forwarded-for", "forwarded"],
        'Where they say it: "x-forwarded-for" or "forwarded". Not the other: it may be the client\'s own.',
    ] = "x-forwarded-for"
    proxy_protocol: Annotated[
        bool, "They begin each connection with the PROXY protocol (version 1 or 2), which names the client."
    ] = False
    limits: Annotated[Limits, "Bounds of sizes and numbers."] = field(default_factory=Limits)
    timeouts: Annotated[ServerTimeouts, "Time limits towards clients, in seconds; 0 = none."] = field(
        default_factory=ServerTimeouts
    )
    cors: Annotated[Cors, "Cross-origin requests from browsers."] = field(default_factory=Cors)


@dataclass(slots=True, frozen=True, kw_only=True)
class Admin:
    """The admin API."""

    listen: Annotated[
        tuple[Annotated[str, Form("listen")], ...],
        "Addresses of its own, where nothing else answers; empty: those of the server.",
    ] = ()


@dataclass(slots=True, frozen=True, kw_only=True)
class Log:
    """What is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], "Least severity that is written."] = "info"
    format: Annotated[
        Literal["auto", "json", "text"], '"auto": text on a terminal, JSON lines elsewhere.'
    ] = "auto"
    access: Annotated[bool, "One record for each request."] = True


@dataclass(slots=True, frozen=True, kw_only=True)
class State:
    """What is made at run time and outlives a request."""

    file: Annotated[str, "An SQLite file, made if it is not there; empty: in memory, gone at the end."] = ""
    key_secret: Annotated[
        Secret | None,
        "Keys made at run time are hashed with it, 32 bytes or more. Unset: with one that the file keeps.",
    ] = None
    responses: Annotated[
        Seconds, "A response of /v1/responses is kept this long for the next turn, in seconds."
    ] = 2_592_000.0
    audit: Annotated[Size, "Actions of operators that are remembered; of more, the oldest goes."] = 10_000


@dataclass(slots=True, frozen=True, kw_only=True)
class Reload:
    """Reading this configuration again while the gateway runs."""

    watch: Annotated[
        Seconds, "Look this often, in seconds, whether the file has changed, and apply it; 0 = never."
    ] = 0.0


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
    weight: Annotated[
        Weight, 'Share of requests; counts under every way but "failover" and "round_robin".'
    ] = 1.0
    timeouts: Annotated[Timeouts, "Time limits for this backend."] = field(default_factory=Timeouts)
    max_inflight: Annotated[Number, "Most requests at one time; further ones wait; 0 = no limit."] = 0
    swap: Annotated[
        Number,
        "It holds one model at a time: requests for that one in a row while others wait; 0 = any at once.",
    ] = 0
    cache_tokens: Annotated[
        Number, "smart: tokens that its prefix cache holds, where it does not say; 0 = a middling guess."
    ] = 0
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
class ModelConfig:
    """A model as clients see it."""

    name: Annotated[
        ModelName, "What clients ask for; unique among names and aliases. One * stands for any text."
    ]
    aliases: Annotated[tuple[ModelName, ...], "Further names of the same model."] = ()
    targets: Annotated[tuple[TargetConfig, ...], Count(1), "Where it is served, in order of preference."]
    balance: Annotated[Balance | None, "How requests spread over the targets; unset: routing.balance."] = None
    sticky: Annotated[
        StickyBy, 'balance = "sticky": what stays with its target: conversation, key, or "header:NAME".'
    ] = "conversation"
    max_inflight: Annotated[Number, "Most requests at one time, over all its targets; 0 = no limit."] = 0
    rescue: Annotated[
        bool | None, "A stream that breaks goes on at another target; unset: routing.rescue."
    ] = None
    coalesce: Annotated[bool, "Identical requests in flight share one call to a backend."] = False
    cache: Annotated[ModelCache, "What is kept of its answers, where it is not as `cache` says."] = field(
        default_factory=ModelCache
    )
    context: Annotated[Size | None, "Tokens of context, where the backends do not say."] = None
    capabilities: Annotated[
        tuple[Capability, ...], "What it can do, where the backends do not say; empty: what is asked for."
    ] = ()
    fallback: Annotated[Fallback, "Models to be asked instead where this one cannot answer."] = field(
        default_factory=Fallback
    )
    split: Annotated[SplitConfig, "Sharing its requests between variants."] = field(
        default_factory=SplitConfig
    )
    timeouts: Annotated[Timeouts, "Time limits for this model; they win over the backend's."] = field(
        default_factory=Timeouts
    )
    defaults: Annotated[Mapping[str, Any], "Request parameters used where the client sends none."] = field(
        default_factory=dict
    )
    forced: Annotated[Mapping[str, Any], "Request parameters that replace the client's."] = field(
        default_factory=dict
    )
    limits: Annotated[RateLimits, "Of all that ask for it together."] = field(default_factory=RateLimits)
    budget: Annotated[Budget, "Of all that is spent on it."] = field(default_factory=Budget)
    price: Annotated[Price, "What a million of its tokens cost."] = field(default_factory=Price)


@dataclass(slots=True, frozen=True, kw_only=True)
class KeyConfig(KeyAccess):
    """One API key that clients may use. Exactly one of key and hash is set."""

    name: Annotated[Name, "Unique; what logs and metrics show instead of the key."]
    key: Annotated[Secret | None, "The key itself, best as env:NAME or file:PATH."] = None
    hash: Annotated[
        Annotated[str, Pattern("sha256:[0-9a-fA-F]{64}", '"sha256:" and 64 hexadecimal digits')]
        | Literal[""],
        Hidden(),
        'Its SHA-256 instead: "sha256:<hex>".',
    ] = ""
    models: Annotated[
        tuple[ModelName, ...], "Names or patterns (*, ?, [..]) of models it may use; empty: all."
    ] = ()
    manage: Annotated[
        bool, 'Short for roles = ["admin"]: it may also manage models and use the admin API.'
    ] = False
    weight: Annotated[float, Range(0.01), "Its share of a queue, against the other keys'."] = 1.0
    priority: Annotated[int, "In a queue, higher ones go first, whatever the shares."] = 0
    limits: Annotated[RateLimits, "What may be asked for with it."] = field(default_factory=RateLimits)
    budget: Annotated[Budget, "What may be spent with it."] = field(default_factory=Budget)


@dataclass(slots=True, frozen=True, kw_only=True)
class Config:
    """Everything. Immutable: a reload builds another one."""

    server: Annotated[Server, "The listening side."] = field(default_factory=Server)
    admin: Annotated[Admin, "The admin API."] = field(default_factory=Admin)
    log: Annotated[Log, "What is written to standard error."] = field(default_factory=Log)
    routing: Annotated[Routing, "How targets are chosen and failures retried."] = field(
        default_factory=Routing
    )
    discovery: Annotated[Discovery, "Finding LLM servers without being told."] = field(
        default_factory=Discovery
    )
    state: Annotated[State, "What is made at run time and outlives a request."] = field(default_factory=State)
    reload: Annotated[Reload, "Reading this configuration again while the gateway runs."] = field(
        default_factory=Reload
    )
    outbound: Annotated[Outbound, "What is fetched from addresses that somebody else has chosen."] = field(
        default_factory=Outbound
    )
    cache: Annotated[Cache, "Answers that are kept and given again to identical requests."] = field(
        default_factory=Cache
    )
    redis: Annotated[Redis, 'A Redis or Valkey server that several nodes share (extra "redis").'] = field(
        default_factory=Redis
    )
    backends: Annotated[tuple[BackendConfig, ...], "LLM servers and GGUF files behind the gateway."] = ()
    models: Annotated[
        tuple[ModelConfig, ...],
        "Models as clients see them; without any, every backend's own are served and same names are pooled.",
    ] = ()
    keys: Annotated[tuple[KeyConfig, ...], "API keys of clients; without any, no key is asked for."] = ()
    teams: Annotated[tuple[TeamConfig, ...], "Teams whose keys share limits and a budget."] = ()
    limits: Annotated[
        tuple[LimitsConfig, ...], "Limits by name, for keys made at run time and for clients with tokens."
    ] = ()
    address_limits: Annotated[
        RateLimits, "Of each client's address, whatever its key; of IPv6, of the /64 around it."
    ] = field(default_factory=RateLimits)
    usage: Annotated[UsageConfig, "What is remembered of the requests, and by which calendar."] = field(
        default_factory=UsageConfig
    )
    roles: Annotated[
        tuple[Role, ...], "What keys and tokens may do, beside the roles admin, operator, user and viewer."
    ] = ()
    jwt: Annotated[tuple[JwtIssuer, ...], 'Issuers whose tokens are taken as keys (extra "jwt").'] = ()
    anonymous: Annotated[
        tuple[Anonymous, ...], "Clients that need no key, by where they are; the first that fits decides."
    ] = ()
    timeouts: Annotated[Timeouts, "Time limits towards backends, for all that set none of their own."] = (
        BUILT_IN_TIMEOUTS
    )
