"""What travels through the gateway: the request as it came, the call it makes, and the Exchange that
remembers both.

Names: a *client* sends a *request* to a front *door* (a dialect); the gateway makes a plan of *attempts*,
each one an *upstream* exchange with a *backend*. Times are seconds of the monotonic clock unless
said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from ghostllm.errors import GhostError

# Some of the dataclasses here have an `__init__` that is written out: every request makes one, and what
# `dataclass` writes stays Python where this module is compiled. Not those that others derive from: mypyc
# would have the derived ones take the same arguments.

Pairs = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names in lower case."""

Body = bytes | bytearray
Buffers = list[bytes | bytearray | memoryview]


class Request:
    """One HTTP request. Header names are lower-case bytes; repeated fields are joined with `, `.

    target: path and query as sent, still percent-encoded. minor: HTTP/1.x minor version. content_length:
    declared body length, None when absent. chunked: the body came chunked. body: the whole body, decoded from
    its framing (not from its Content-Encoding). peer: address of the client, for logs and limits.
    """

    __slots__ = ("body", "chunked", "content_length", "headers", "method", "minor", "path", "peer", "query")

    def __init__(self, method: str, target: str, headers: dict[bytes, bytes], minor: int = 1) -> None:
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.minor = minor
        self.content_length: int | None = None
        self.chunked = False
        self.body: Body = b""
        self.peer = ""

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} {len(self.body)} B from {self.peer or '?'}>"


@dataclass(slots=True, init=False)
class Usage:
    """Token counts of one answer. None means that nobody said; 0 means that somebody said zero.

    prompt includes cached tokens and those written to the cache (OpenAI's meaning). estimated: not the
    backend's own figures. partial: the answer was cut or cancelled, so the counts are what was spent until
    then.
    """

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    estimated: bool = False
    partial: bool = False

    def __init__(
        self,
        prompt: int | None = None,
        completion: int | None = None,
        cached: int | None = None,
        cache_write: int | None = None,
        reasoning: int | None = None,
        estimated: bool = False,
        partial: bool = False,
    ) -> None:
        self.prompt = prompt
        self.completion = completion
        self.cached = cached
        self.cache_write = cache_write
        self.reasoning = reasoning
        self.estimated = estimated
        self.partial = partial

    def copy(self) -> Usage:
        return Usage(
            self.prompt,
            self.completion,
            self.cached,
            self.cache_write,
            self.reasoning,
            self.estimated,
            self.partial,
        )

    @property
    def known(self) -> bool:
        return self.prompt is not None or self.completion is not None


@dataclass(slots=True, frozen=True)
class Identity:
    """Who asks. models: patterns (fnmatch) of model names this key may use; empty means all. manage: it may
    have models pulled, copied and deleted, and use the admin API. weight, priority: its claim in a queue.
    team: whom its use is counted for beside itself, "" for none. limits: the name of its limits, "" for its
    own. roles: by name; none: it stands for whoever nothing is known of.
    """

    key: str = "anonymous"
    models: tuple[str, ...] = ()
    manage: bool = False
    weight: float = 1.0
    priority: int = 0
    team: str = ""
    limits: str = ""
    roles: tuple[str, ...] = ()

    @property
    def confined(self) -> bool:
        """Whether there are models that it may not use for something that it may do."""
        return bool(self.models)

    def may(self, group: str, model: str | None = None) -> bool:
        """Whether it may do what a group of routes means (config.identity.Group; "" for what all may), with
        `model`; None: with any. Without roles only `manage` and `models` tell.
        """
        if not self.manage and (":" in group or group == "metrics"):
            return False
        return model is None or not self.models or any(fnmatchcase(model, one) for one in self.models)


ANONYMOUS = Identity()


@dataclass(slots=True, frozen=True)
class Parameters:
    """What the configuration says of a model's requests, as members of OpenAI's. defaults: where the client
    says nothing. forced: whatever it says.
    """

    defaults: Mapping[str, Any]
    forced: Mapping[str, Any]

    def over(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The members to set in a request that has `fields`."""
        absent = {name: value for name, value in self.defaults.items() if name not in fields}
        return {**absent, **self.forced}


@dataclass(slots=True)
class Call:
    """What the client asks of a model, as its door understood it.

    operation: "chat", "completions", "embeddings", "count_tokens" or "passage". fields: the parsed JSON body,
    to read and never to change. body: its bytes, to be passed on. wants_usage: the client asked for usage in
    its stream (outside streams: always true). parameters: of the model that it turned out to ask for. form:
    which of its dialect's ways to ask for the operation, where there are several. elapsed: gives the seconds
    that the call has taken so far, for dialects whose answers tell them.
    """

    door: str
    operation: str
    model: str
    body: Body
    fields: dict[str, Any]
    stream: bool = False
    wants_usage: bool = True
    parameters: Parameters | None = None
    form: str = ""
    elapsed: Callable[[], float] | None = None
    rescue: bool = False
    """Its answer keeps what it told the client, so that another backend can go on with it (`told`)."""


@dataclass(slots=True, kw_only=True)
class Passage(Call):
    """A request of OpenAI's API that is no chat: passed to a backend that has its path, answer and all.

    path: below `/v1`, with its query. model: "" where the path has none. span: start and end of the model's
    name in a multipart body.
    """

    method: str
    path: str
    content_type: bytes = b""
    span: tuple[int, int] | None = None


@dataclass(slots=True, init=False)
class UpstreamRequest:
    """One HTTP request to a backend, ready but for connection-level fields (Host, Content-Length,
    Connection).

    path: below the backend's base path, with its leading slash. body: buffers that are written one after the
    other.
    """

    method: str
    path: str
    headers: Pairs = ()
    body: Buffers = field(default_factory=list)

    def __init__(self, method: str, path: str, headers: Pairs = (), body: Buffers | None = None) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = [] if body is None else body


@dataclass(slots=True, init=False)
class Attempt:
    """One try on one target. why: the reason for this target, in short words. purpose: "first", "retry" (the
    same target once more), "failover" (another one), "rescue" (goes on with a stream that broke) or
    "fallback" (another model). first_token, ended: times. usage: what it spent, where that is known and not
    the exchange's. outcome: "ok", "cancelled", or the code of the error that ended it.
    """

    backend: str
    model: str
    started: float
    why: str = ""
    purpose: str = "first"
    status: int | None = None
    first_token: float | None = None
    ended: float | None = None
    usage: Usage | None = None
    outcome: str = "open"
    error: str | None = None

    def __init__(
        self,
        backend: str,
        model: str,
        started: float,
        why: str = "",
        purpose: str = "first",
        status: int | None = None,
        first_token: float | None = None,
        ended: float | None = None,
        usage: Usage | None = None,
        outcome: str = "open",
        error: str | None = None,
    ) -> None:
        self.backend = backend
        self.model = model
        self.started = started
        self.why = why
        self.purpose = purpose
        self.status = status
        self.first_token = first_token
        self.ended = ended
        self.usage = usage
        self.outcome = outcome
        self.error = error


class Plan(Protocol):
    """What was decided about a request before it was sent anywhere, to be told when somebody asks."""

    @property
    def name(self) -> str:
        """Of the model that is to answer."""

    def told(self) -> dict[str, Any]:
        """JSON: model, policy, the targets in their order with reasons, those refused with theirs."""


NO_USAGE = Usage()
"""What an exchange has until an attempt counts. Shared: replaced, never changed."""


class Exchange:
    """The one object that travels with a request, from its first byte to its log line.

    id_field: the header line that tells both sides the request's id. fields: header lines that every answer
    to it carries, that one among them. headers: the other fields that every answer to it carries. door: the
    dialect of the client. group: what it does, as far as permissions tell requests apart. received,
    committed, finished: marks of the timeline (whole head seen; first content handed to the client; last byte
    handed over). status is what the client saw. outcome: "ok",
    "error" (before the answer), "broken" (inside it) or "cancelled" (the client left). plan: the last one
    that was made. queued: seconds spent waiting for a turn. rescued: how often another backend went on with
    its stream. arm: of a split model, which variant it got. booking: what was reserved for it, until it is
    settled (ports.Accounts). cache: "" while it has not been asked, else "hit", "miss" or "bypass"; age:
    seconds since the answer of a hit was made.
    """

    age = 0.0
    arm = ""
    backend: str | None = None
    booking: object | None = None
    bytes_out = 0
    cache = ""
    call: Call | None = None
    committed: float | None = None
    door = "openai"
    error: GhostError | None = None
    finished: float | None = None
    group = ""
    headers: Pairs = ()
    identity = ANONYMOUS
    outcome = "open"
    queued = 0.0
    rescued = 0
    route = ""
    status = 0
    usage = NO_USAGE

    def __init__(self, request: Request, request_id: str, received: float) -> None:
        self.request = request
        self.request_id = request_id
        self.id_field = self.fields = b"x-request-id: %b\r\n" % request_id.encode()
        self.received = received
        self.attempts: list[Attempt] = []
        self.plan: Plan | None = None  # here, as mypyc knows no default of a class for a Protocol of its own

    def __repr__(self) -> str:
        request = self.request
        return f"<Exchange {self.request_id} {request.method} {request.path} {self.outcome} {self.status}>"
