"""Ollama, spoken to in its own language. What goes over the wire is `api.ollama`; here is which of it for
which call.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.api import rescue
from ghostllm.api.canonical import Conversation, Embeddings
from ghostllm.api.doors import DOORS, neutral
from ghostllm.api.ids import mint
from ghostllm.api.ollama import failures, request_writer
from ghostllm.api.ollama.answer_reader import AnswerReader, Malformed, read_embeddings
from ghostllm.api.ollama.kept import KeptLines
from ghostllm.api.ollama.listing import read_entries
from ghostllm.api.ollama.passthrough import EmbedPassThrough, LinesPassThrough
from ghostllm.api.raw import RawAnswer
from ghostllm.api.schema_check import check_for
from ghostllm.api.splice import edit
from ghostllm.api.translation import translation
from ghostllm.backends import observation
from ghostllm.backends.openai import retry_after
from ghostllm.errors import GhostError, UnsupportedValue, UpstreamProtocolError
from ghostllm.message import Buffers, Call, Pairs, Passage, UpstreamRequest, Usage
from ghostllm.ports import Answer, Looks, ModelInfo

CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "completion": ("chat", "completions", "embeddings"),  # it asks nothing of a model that is to embed
    "embedding": ("embeddings",),
    "tools": ("tools",),
    "vision": ("vision",),
}
"""What Ollama calls a capability, and what we call it. The others (insert, thinking, …) change nothing in
routing.
"""


class OllamaBackend:
    """A `ports.Translator` for the Ollama server `name`.

    api_key: sent as a bearer token. headers: sent with every request. event_limit: bytes of the largest line
    of a stream. mint: makes an id that begins with its argument. clock: seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None = None,
        headers: Pairs = (),
        event_limit: int = 8 << 20,
        mint: Callable[[str], str] = mint,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._label = f"backend {name!r}"
        self._event_limit = event_limit
        self._mint = mint
        self._clock = clock
        if api_key and not any(field == b"authorization" for field, _ in headers):
            headers = ((b"authorization", b"Bearer " + api_key.encode()), *headers)
        self._look_headers: Pairs = (*observation.HEADERS, *headers)
        common: Pairs = ((b"accept-encoding", b"identity"), *headers)
        content = (b"content-type", b"application/json")
        self._get_headers: Pairs = ((b"accept", b"application/json"), *common)
        self._whole_headers: Pairs = (content, *self._get_headers)
        self._stream_headers: Pairs = (content, (b"accept", b"application/x-ndjson"), *common)

    def __repr__(self) -> str:
        return f"<OllamaBackend {self.name}>"

    def prepare(self, call: Call, model: str, extra: Mapping[str, Any]) -> tuple[UpstreamRequest, Answer]:
        """Raises RequestError, UnsupportedParameter, UnsupportedValue with the member at fault."""
        if call.operation == "count_tokens":
            raise UnsupportedValue("Ollama does not count tokens", param="model")
        if isinstance(call, Passage):
            return self._managed(call, model), RawAnswer()
        if call.door == "ollama":
            return self._passed(call, model)
        dialect = DOORS[call.door]
        asked = neutral(call, extra)
        if isinstance(asked, Embeddings):
            request = request_writer.embed_request(asked, model)
            return self._post(request), EmbeddingsAnswer(call, asked, self._label)
        check = None
        if isinstance(asked, Conversation):
            request = request_writer.chat_request(asked, model)
            check = check_for(asked, self._label)
        else:
            request = request_writer.generate_request(asked, model)
        reader = AnswerReader(request, lambda: self._mint("call_"), self._event_limit, self._label)
        writer = dialect.writer(call, int(self._clock()), self._mint)
        return self._post(request), translation(call, reader, writer, check)

    def resume(
        self, call: Call, model: str, extra: Mapping[str, Any], broken: Answer
    ) -> tuple[UpstreamRequest, Answer]:
        """See ports.Translator. Raises CannotContinue."""
        server = rescue.Server(
            label=self._label,
            prepare=lambda call, extra: self.prepare(call, model, extra),
            adapt=request_writer.stop_thinking,
            thoughts=True,
            created=int(self._clock()),
            mint=self._mint,
        )
        return rescue.resume(call, extra, broken, server)

    def _post(self, request: request_writer.OllamaRequest) -> UpstreamRequest:
        headers = self._stream_headers if request.body.get("stream") else self._whole_headers
        return UpstreamRequest("POST", request.path, headers, [jsonx.dumps(request.body)])

    def _passed(self, call: Call, model: str) -> tuple[UpstreamRequest, Answer]:
        """As the client wrote it, and with what Ollama does by itself: a prompt that is too long is cut, as
        its clients know it.
        """
        edits = request_writer.changes(call.parameters, call)
        if model != call.model:
            edits["model"] = model
        body: Buffers = edit(call.body, call.fields, edits) if edits else [call.body]
        headers = self._stream_headers if call.stream else self._whole_headers
        request = UpstreamRequest("POST", f"/api/{call.form}", headers, body)
        if call.operation == "embeddings":
            return request, EmbedPassThrough(call, backend=self._label)
        kept = call.rescue and call.stream
        answer = (KeptLines if kept else LinesPassThrough)(call, backend=self._label, limit=self._event_limit)
        return request, answer

    def passes(self, path: str) -> bool:
        return path.startswith("/api/")

    def _managed(self, call: Passage, model: str) -> UpstreamRequest:
        """`pull`, `delete`, `copy`. The answer of a pull tells the progress, a line each."""
        name = "source" if call.path == "/api/copy" else "model"
        members = {member: value for member, value in call.fields.items() if member != "name"}
        body = jsonx.dumps({**members, name: model})
        return UpstreamRequest(call.method, call.path, self._stream_headers, [body])

    # --- the server's models, for clients of its own dialect

    def ps_request(self) -> UpstreamRequest:
        """Asks for the models in memory; `api.ollama.listing.read_entries` reads the answer."""
        return UpstreamRequest("GET", "/api/ps", self._get_headers)

    def show_request(self, model: str, *, verbose: bool = False) -> UpstreamRequest:
        return self._about("POST", "/api/show", {"model": model, "verbose": verbose})

    def _about(
        self, method: str, path: str, members: Mapping[str, Any], *, stream: bool = False
    ) -> UpstreamRequest:
        headers = self._stream_headers if stream else self._whole_headers
        return UpstreamRequest(method, path, headers, [jsonx.dumps(members)])

    def failure(self, status: int, headers: dict[bytes, bytes], body: bytes) -> GhostError:
        return failures.answered(status, body, self._label, retry_after(headers, self._clock()))

    def inventory_request(self) -> UpstreamRequest:
        return UpstreamRequest("GET", "/api/tags", self._get_headers)

    def inventory(self, body: bytes) -> list[ModelInfo]:
        return [_model(entry) for entry in read_entries(body, self._label).values()]

    def looks(self) -> Looks:
        return observation.OLLAMA_LOOKS

    def look_request(self, path: str, *, keyed: bool = False) -> UpstreamRequest:
        return UpstreamRequest("GET", path, self._look_headers if keyed else observation.HEADERS)


class EmbeddingsAnswer:
    """A `ports.Answer` of an `/api/embed` call, which is never a stream."""

    __slots__ = ("_asked", "_call", "_label", "committed", "complete", "fault", "usage")

    def __init__(self, call: Call, asked: Embeddings, label: str) -> None:
        self._call = call
        self._asked = asked
        self._label = label
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None

    def feed(self, data: bytes) -> bytes:
        raise UpstreamProtocolError(f"{self._label} streamed embeddings")

    def finish(self) -> bytes:
        raise UpstreamProtocolError(f"{self._label} streamed embeddings")

    def broken(self, error: GhostError) -> bytes:
        raise error  # there is no stream that could break

    def whole(self, body: bytes) -> bytes:
        asked = self._asked
        try:
            vectors = read_embeddings(body, len(asked.inputs), asked.dimensions, self.usage)
        except Malformed as error:
            raise UpstreamProtocolError(f"{self._label} sent {error}") from None
        self.committed = self.complete = True
        return DOORS[self._call.door].write_embeddings(self._call, vectors, self.usage)


def _model(item: dict[str, Any]) -> ModelInfo:
    """Newer servers say capabilities and context in `/api/tags`; of older ones both stay unknown."""
    said = item.get("capabilities")
    capabilities = (
        (word for known in said for word in CAPABILITIES.get(known, ())) if isinstance(said, list) else ()
    )
    details = item.get("details")
    context = item.get("context_length") or (
        details.get("context_length") if isinstance(details, dict) else None
    )
    return ModelInfo(
        item.get("model") or item["name"],
        created=_seconds(item.get("modified_at")),
        owner="ollama",
        context=context if isinstance(context, int) else None,
        capabilities=frozenset(capabilities),
        details=item,
    )


def _seconds(stamp: Any) -> int | None:
    """RFC 3339 with nanoseconds, as Go writes it."""
    try:
        return int(datetime.datetime.fromisoformat(stamp).timestamp())
    except (TypeError, ValueError):
        return None
