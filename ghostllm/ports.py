"""The Protocols where layers meet. Whoever needs something says here what; whoever has it need not be
imported.

The server (net) calls an `Application`; the application (gateway) answers through a `Responder`. Backends
prepare upstream requests and read the answers; observers see every exchange at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ghostllm.errors import GhostError
from ghostllm.message import (
    Body,
    Call,
    Exchange,
    Identity,
    Pairs,
    Parameters,
    Request,
    UpstreamRequest,
    Usage,
)


class Flow(Protocol):
    """A source of bytes that can be told to wait: an upstream connection, paused while its client reads
    slowly.
    """

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Work(Protocol):
    """What has been begun for a client and is of no use without it."""

    def cancel(self) -> object: ...


class Responder(Protocol):
    """The way back to one client, whatever its HTTP version. Either `respond` once, or `begin`, `write`…,
    `end`, or `fail`.

    The exchange's outcome is set before its last call here: that one closes the books. Nothing here blocks:
    `write` hands its data, which is never empty, over and returns. Framing (length, chunks, connection close)
    and the exchange's own header fields are the server's. After the client has left every call is a no-op.
    """

    def respond(self, status: int, headers: Pairs, body: bytes) -> None: ...
    def begin(self, status: int, headers: Pairs) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self, *, close: bool = False) -> None: ...
    def fail(self, error: GhostError) -> None:
        """Tells the client of `error`; an answer that has begun is broken off instead."""

    def run(self, work: Coroutine[Any, Any, None]) -> Work:
        """Runs a handler that has to wait. What it raises is told to the client."""

    def attach(self, source: Flow) -> None:
        """Pause and resume `source` as the client's socket fills and drains."""


Handler = Callable[[Exchange, Responder], "Work | None"]
"""Begins to answer. The answer ends through the responder, at once or later; in that case the work is
returned, to be cancelled when the client leaves. Raises GhostError for the client.
"""


class Application(Protocol):
    """What the server needs to know of the gateway."""

    def open(self, request: Request, now: float) -> tuple[Exchange, Handler | None]:
        """Called with the head, before the body is read: route and identity. No handler: refused, see
        exchange.error.
        """

    def malformed(self, error: GhostError, peer: str, now: float) -> Exchange:
        """An exchange for bytes that never became a request."""

    def render(self, exchange: Exchange) -> tuple[int, Pairs, bytes]:
        """The answer that tells the client of exchange.error: status, headers, body."""

    def closed(self, exchange: Exchange) -> None:
        """The exchange is over, however it ended; called exactly once for each."""


class Door(Protocol):
    """A front-door dialect: how its calls are read and its errors told. The modules of `api` are doors."""

    STREAM_HEADERS: Pairs
    WHOLE_HEADERS: Pairs

    def read_call(self, operation: str, body: Body) -> Call:
        """Raises RequestError naming the field that is wrong."""

    def status(self, error: GhostError) -> int:
        """The HTTP status that tells this dialect's clients of the error."""

    def render_error(self, error: GhostError) -> bytes:
        """The body of an error answer."""

    def error_headers(self, error: GhostError) -> Pairs:
        """The header fields that clients of this dialect read off an error answer."""


class Answer(Protocol):
    """Reads one backend's answer to one call and gives what the client of the call's door must get. Pure: no
    I/O.

    usage: filled as the figures come by. committed: the first content (text, reasoning, a tool fragment) has
    come by. complete: the answer's own end (finish reason or terminator) has been seen.
    """

    usage: Usage
    committed: bool
    complete: bool

    @property
    def fault(self) -> GhostError | None:
        """What is wrong behind the bytes that `feed` gave last: those are sound, the rest is lost."""

    def feed(self, data: bytes) -> bytes:
        """Stream bytes in, as cut by the network; whole client events out (b"" while there are none).

        Raises UpstreamAnswered for an error the backend reports inside its stream, UpstreamProtocolError for
        anything that is not its dialect. What was returned before stays valid.
        """

    def finish(self) -> bytes:
        """The upstream body ended soundly: the client's terminator. Raises UpstreamCut if the answer is not
        whole.
        """

    def whole(self, body: bytes) -> bytes:
        """A complete non-stream body in, the client's body out. Raises UpstreamProtocolError (not JSON,
        empty).
        """

    def broken(self, error: GhostError) -> bytes:
        """The end of a stream that has begun and cannot go on: the error, as the client expects it there."""


class Translator(Protocol):
    """Prepares calls for one backend, and judges what it answers."""

    def prepare(self, call: Call, model: str, extra: Mapping[str, Any]) -> tuple[UpstreamRequest, Answer]:
        """The request for upstream model `model`, with the top-level members `extra` set in the call's JSON.

        Raises UnsupportedParameter or UnsupportedValue for what this backend cannot do.
        """

    def resume(
        self, call: Call, model: str, extra: Mapping[str, Any], broken: Answer
    ) -> tuple[UpstreamRequest, Answer]:
        """As `prepare`, to go on with a stream of which the client has been given a part: all that `broken`
        gave out so far. The new answer's bytes go on in the client's stream; its usage is that of the whole.

        Raises CannotContinue. `call.rescue` was set when `broken` was prepared.
        """

    def passes(self, path: str) -> bool:
        """Whether this server has the path (below `/v1`) of a `Passage`."""

    def failure(self, status: int, headers: dict[bytes, bytes], body: bytes) -> GhostError:
        """The error behind a non-2xx answer: the request's fault (not retryable) or the backend's
        (retryable).
        """

    def inventory_request(self) -> UpstreamRequest:
        """Asks for the backend's models."""

    def inventory(self, body: bytes) -> list[ModelInfo]:
        """The models in that answer. Raises UpstreamProtocolError."""

    def looks(self) -> Looks:
        """Where to look beside the traffic whether the server is there and how busy it is."""

    def look_request(self, path: str, *, keyed: bool = False) -> UpstreamRequest:
        """Asks for one of those pages. keyed: with the backend's key and header fields, for a server that has
        asked for one.
        """


@runtime_checkable
class ModelServer(Translator, Protocol):
    """A backend whose server manages models: Ollama."""

    def show_request(self, model: str, *, verbose: bool = False) -> UpstreamRequest: ...
    def ps_request(self) -> UpstreamRequest: ...


@dataclass(slots=True, frozen=True)
class ModelInfo:
    """A model that a backend says it has. context: tokens; capabilities: of chat, completions, embeddings,
    tools, vision.

    Empty capabilities mean that the backend did not say. details: its own entry of the model, where the
    dialect of a door is that of the backend and shows more.
    """

    id: str
    created: int | None = None
    owner: str = ""
    context: int | None = None
    capabilities: frozenset[str] = frozenset()
    details: Mapping[str, Any] | None = field(default=None, hash=False)


@dataclass(slots=True, frozen=True, kw_only=True)
class Observed:
    """What a server says of itself. None: it does not say.

    running, waiting: requests being computed and queued, whoever sent them. kv_usage: share of its KV cache
    in use, 0 to 1. cache_tokens: tokens that its prefix cache holds, 0 where it has none. started: when its
    process began; the unit is the server's own, so only a change means something. loaded: models in memory.
    slots: requests it computes at one time. sleeping: its model is out of memory until a request comes.
    """

    running: int | None = None
    waiting: int | None = None
    kv_usage: float | None = None
    cache_tokens: int | None = None
    started: float | None = None
    loaded: frozenset[str] | None = None
    slots: int | None = None
    sleeping: bool | None = None


@dataclass(slots=True, frozen=True)
class Page:
    """One page on which a server tells of its load.

    path: at the server's root, which is what stands before `/v1`. read: takes the header fields and the body
    of a 200 answer, whatever they are, and raises nothing. spare: asked only where the page before it is not
    there, and only while the server works for us anyway: it would keep one awake that sleeps when idle.
    """

    path: str
    read: Callable[[Mapping[bytes, bytes], bytes], Observed]
    spare: bool = False


@dataclass(slots=True, frozen=True)
class Looks:
    """probe: path, likewise at the root, that a server answers quickly and for nothing as long as it lives;
    "": it has none, and the list of models has to do. pages: asked in this order.
    """

    probe: str = ""
    pages: tuple[Page, ...] = ()


class Pending(Protocol):
    """Somebody who cannot be told yet: something has to be fetched first."""

    async def settle(self) -> Identity:
        """Raises GhostError for the client."""


class Authenticator(Protocol):
    def identify(self, headers: dict[bytes, bytes], peer: str = "") -> Identity | Pending:
        """Who asks. peer: the client's address. Raises GhostError for the client."""


class Accounts(Protocol):
    """How much who may use, and what was used. limited: there is something to be asked before a call. active:
    there is something to be told after it.
    """

    limited: bool
    active: bool

    def reserve(
        self, exchange: Exchange, model: str, parameters: Parameters | None
    ) -> Coroutine[Any, Any, None] | None:
        """Before the exchange's call is sent anywhere, once: books what it may use. model: as the
        configuration names it, "" for none of it. parameters: the model's. Raises GhostError for the client;
        so does what is given back, which has to be awaited where other nodes have a say.
        """

    def closed(self, exchange: Exchange) -> None:
        """The exchange is over, however it ended: settles what was booked, and writes it down."""


class KeptAnswer(Protocol):
    """An answer that can be given again. usage: what a request that gets it is told to have used."""

    @property
    def usage(self) -> Usage: ...

    def replay(self, call: Call, created: int, mint: Callable[[str], str]) -> bytes:
        """The answer to `call`: its whole stream, or its body. created: seconds since 1970; mint: a new id,
        given how it begins. Raises ValueError if it cannot be given in that form.
        """


class Recalled(Protocol):
    """An answer that was found. age: seconds since it was made."""

    @property
    def age(self) -> float: ...

    @property
    def value(self) -> KeptAnswer: ...


class CacheQuestion(Protocol):
    """What the cache has to do with one request. state: "hit", "miss" or "bypass". look: it may be answered
    from the cache; keep: its answer may be kept.
    """

    @property
    def state(self) -> str: ...

    @property
    def look(self) -> bool: ...

    @property
    def keep(self) -> bool: ...


class Recorder(Protocol):
    def take(self, data: bytes) -> None:
        """A piece of what the client is given, in order."""


class AnswerCache(Protocol):
    """Answers that are given again. `now`: seconds of the monotonic clock."""

    @property
    def shared(self) -> bool:
        """Whether `fetch` can find what `find` does not."""

    def ask(self, exchange: Exchange, model: str, kinds: tuple[str, ...], cache: Any) -> CacheQuestion | None:
        """For a call whose model and parameters are settled. kinds: of the backends behind the model. cache:
        what the configuration says of its answers (ModelCache), if anything. None: of such calls no answer is
        ever kept. Raises GhostError where only the cache may answer, and never will;
        so do the next two where it has nothing.
        """

    def find(self, question: Any, now: float) -> Recalled | None: ...

    async def fetch(self, question: Any, now: float) -> Recalled | None: ...

    def recorder(self) -> Recorder: ...

    def keep(self, question: Any, exchange: Exchange, recorder: Any, now: float) -> bool:
        """Once the client has its whole answer. question, recorder: of this cache. False: it is not kept."""


class Observer(Protocol):
    """Sees every exchange at its beginning and, once, at its end."""

    def opened(self, exchange: Exchange) -> None: ...

    def finished(self, exchange: Exchange) -> None: ...


class History(Protocol):
    """The requests of late. Values are JSON; what they hold is told in `observe.timeline`."""

    @property
    def keep(self) -> int:
        """How many that are over can be remembered; 0: none."""

    def find(self, request_id: str) -> dict[str, Any] | None:
        """All that is known of a request, its plan and its timeline. None: not kept, or not any more."""

    def latest(
        self, limit: int, *, outcome: str | None = None, model: str | None = None, key: str | None = None
    ) -> list[dict[str, Any]]:
        """Short rows, the newest first. outcome: as an exchange has it, or "failed"."""


class Configurations(Protocol):
    """The configuration that holds, those before it, and the way to another one. Values are JSON without
    secrets. how: who asks for it, for the log and the history. A change: path, change (added, removed,
    changed), before, after.
    """

    def effective(self) -> dict[str, Any]:
        """number, file, time, how, and config: every key."""

    def history(self) -> list[dict[str, Any]]:
        """Of the last ten: number, file, time, how, current, changes. The newest first."""

    async def difference(self) -> dict[str, Any]:
        """What a reload would do: changes, needs_restart. Raises ConfigError."""

    async def reload(self, how: str) -> dict[str, Any]:
        """Reads the file again: applied, changes, needs_restart. Raises ConfigError, having changed
        nothing.
        """

    async def rollback(self, how: str, to: int | None = None) -> dict[str, Any]:
        """Goes back to the one before, or to a number of the history. As `reload`; also raises NotFound."""


class CacheOperations(Protocol):
    """What the admin API shows of the cache, and has it do. Values are JSON."""

    def figures(self) -> dict[str, Any]:
        """backend, and unless that is "off": entries, bytes, hits, misses and what else is counted."""

    async def flush(self, models: str, key: str, team: str) -> dict[str, Any]:
        """Forgets answers of the models that match, of one key's or team's requests or ("") of anybody's.
        flushed: how many; complete: the shared store has heard of it. Raises NotFound where there is no
        cache.
        """


class Operations(Protocol):
    """What the admin API shows of a running gateway, and has it do. Values are JSON."""

    def status(self) -> dict[str, Any]:
        """The whole: state (ready, not ready, draining), what it is, and counts of what it has and does."""

    def backends(self) -> list[dict[str, Any]]:
        """Of each: name, kind, state (up, down, unknown, draining), breaker (closed, open, half-open),
        in_flight, waiting, weight, why (short words), and whatever else is known.
        """

    def models(self) -> list[dict[str, Any]]:
        """Of each: name, balance, and targets with how they stand: backend, model, weight, state, why."""

    def splits(self) -> list[dict[str, Any]]:
        """Of each split model: model, by, arms (name, share, counts), canary (state, step, why) or null."""

    def drain(self, name: str, on: bool) -> None:
        """Whether the backend is to get no new requests. Raises NotFound."""

    async def probe(self, name: str) -> dict[str, Any]:
        """Looks at the backend now, and gives what was found. Raises NotFound."""


class Keys(Protocol):
    """API keys, as the admin API hands them out and takes them back. Values are JSON; of a key: id, name,
    state (active, expired, revoked), roles, team, models, limits, created, expires, revoked, last_used
    (seconds since 1970 or null), source (made, configuration). by: who asks; nobody gives away more than they
    have.
    """

    def keys(self) -> list[dict[str, Any]]:
        """All of them."""

    async def create(self, by: Identity, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """A new one, with the key itself as `key`; whether it outlives the process as `kept`; whether other
        gateways know of it as `shared` (yes, later, no, or null). Raises GhostError for the client.
        """

    async def rotate(self, by: Identity, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """The same under a name that has one, which goes on for a while. Raises GhostError for the client."""

    async def revoke(self, by: Identity, which: str) -> list[dict[str, Any]]:
        """Ends the key of an id, or all of a name, and gives them. Raises NotFound."""
