"""Backends that speak Anthropic's dialect: Anthropic itself, and servers that offer `/v1/messages`. What goes
over the wire is `api.anthropic`; here is which of it for which call.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from ghostllm import jsonx
from ghostllm.api import rescue
from ghostllm.api.anthropic import failures
from ghostllm.api.anthropic.answer_reader import MessagesReader
from ghostllm.api.anthropic.kept import KeptMessages
from ghostllm.api.anthropic.message_reader import OWN_SIGNATURE
from ghostllm.api.anthropic.passthrough import MessagesPassThrough
from ghostllm.api.anthropic.request_writer import changes, stop_thinking, write_request
from ghostllm.api.canonical import Conversation
from ghostllm.api.doors import DOORS, neutral
from ghostllm.api.ids import mint
from ghostllm.api.raw import RawAnswer
from ghostllm.api.splice import edit
from ghostllm.api.translation import translation
from ghostllm.backends import observation
from ghostllm.backends.openai import SECRET_LENGTH, retry_after
from ghostllm.errors import GhostError, UnsupportedValue, UpstreamProtocolError
from ghostllm.message import Buffers, Call, Pairs, UpstreamRequest
from ghostllm.ports import Answer, Looks, ModelInfo

VERSION = (b"anthropic-version", b"2023-06-01")

MAX_TOKENS = 8192
"""Bound of an answer where neither the client nor the model's configuration sets one: Anthropic requires it.
Every model of theirs that is still served can write that much.
"""

OWN = OWN_SIGNATURE.encode()
"""Thinking of another model in the history: Anthropic would refuse a signature that is not its own."""

PATHS = {"chat": "/v1/messages", "count_tokens": "/v1/messages/count_tokens"}
COUNTED = frozenset(("model", "messages", "system", "tools", "tool_choice", "thinking"))
"""What a request to count may have: anything else is an unknown member there."""

INVENTORY = "/v1/models?limit=1000"
"""1000 is the most that Anthropic lists at once, and far more than there is."""


class AnthropicBackend:
    """A `ports.Translator` for the server `name`.

    api_key: sent as `x-api-key`. headers: sent with every request; they win over the key. max_tokens: see
    MAX_TOKENS. event_limit: bytes of the largest stream event. mint: makes an id that begins with its
    argument. clock: seconds since 1970. Key and header values are blotted out of any message of the backend
    that is passed on.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None = None,
        headers: Pairs = (),
        max_tokens: int = MAX_TOKENS,
        event_limit: int = 8 << 20,
        mint: Callable[[str], str] = mint,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._label = f"backend {name!r}"
        self._max_tokens = max_tokens
        self._event_limit = event_limit
        self._mint = mint
        self._clock = clock
        configured = {field for field, _ in headers}
        if api_key and not configured & {b"x-api-key", b"authorization"}:
            headers = ((b"x-api-key", api_key.encode()), *headers)
        version: Pairs = () if VERSION[0] in configured else (VERSION,)
        common: Pairs = ((b"accept-encoding", b"identity"), *headers)
        whole: Pairs = ((b"content-type", b"application/json"), (b"accept", b"application/json"), *common)
        stream: Pairs = ((b"content-type", b"application/json"), (b"accept", b"text/event-stream"), *common)
        self._own_headers = {False: (*whole, *version), True: (*stream, *version)}
        self._get_headers: Pairs = (*whole[1:], *version)
        secrets = [value.decode("latin-1") for _, value in headers if len(value) >= SECRET_LENGTH]
        secrets.sort(key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def __repr__(self) -> str:
        return f"<AnthropicBackend {self.name}>"

    def prepare(self, call: Call, model: str, extra: Mapping[str, Any]) -> tuple[UpstreamRequest, Answer]:
        """Raises RequestError, UnsupportedParameter, UnsupportedValue with the member at fault."""
        if call.door == "anthropic" and OWN not in call.body:
            return self._passed(call, model, self._path(call.operation))
        asked = neutral(call, extra)
        if not isinstance(asked, Conversation):
            raise UnsupportedValue(f"Anthropic does not serve {call.operation}", param="model")
        written = write_request(asked, model, self._max_tokens)
        if call.operation == "count_tokens":
            return self._counted(written)
        headers = self._own_headers[asked.stream]
        request = UpstreamRequest("POST", PATHS["chat"], headers, [jsonx.dumps(written)])
        reader = MessagesReader(
            backend=self._label,
            limit=self._event_limit,
            single=asked.parallel_tool_calls is False,
            blot=self._blotted,
        )
        writer = DOORS[call.door].writer(call, int(self._clock()), self._mint)
        return request, translation(call, reader, writer)

    def resume(
        self, call: Call, model: str, extra: Mapping[str, Any], broken: Answer
    ) -> tuple[UpstreamRequest, Answer]:
        """See ports.Translator. Raises CannotContinue."""
        server = rescue.Server(
            label=self._label,
            prepare=lambda call, extra: self.prepare(call, model, extra),
            adapt=stop_thinking,
            thoughts=False,  # without their signatures, and before a text that is not its own
            created=int(self._clock()),
            mint=self._mint,
        )
        return rescue.resume(call, extra, broken, server)

    def _counted(self, written: dict[str, Any]) -> tuple[UpstreamRequest, Answer]:
        body = {name: value for name, value in written.items() if name in COUNTED}
        path, headers = PATHS["count_tokens"], self._own_headers[False]
        return UpstreamRequest("POST", path, headers, [jsonx.dumps(body)]), RawAnswer()

    def _path(self, operation: str) -> str:
        path = PATHS.get(operation)
        if path is None:
            raise UnsupportedValue(f"Anthropic does not serve {operation}", param="model")
        return path

    def _passed(self, call: Call, model: str, path: str) -> tuple[UpstreamRequest, Answer]:
        """As the client wrote it. The configured parameters are not for counting: there they would be unknown
        members.
        """
        edits = changes(call.parameters, call.fields) if call.operation == "chat" else {}
        if model != call.model:
            edits["model"] = model
        body: Buffers = edit(call.body, call.fields, edits) if edits else [call.body]
        headers = self._own_headers[call.stream]
        kept = call.rescue and call.stream
        answer = (KeptMessages if kept else MessagesPassThrough)(
            call, backend=self._label, limit=self._event_limit, blot=self._blotted
        )
        return UpstreamRequest("POST", path, headers, body), answer

    def passes(self, path: str) -> bool:
        """Nothing of OpenAI's API but what is translated."""
        return False

    def failure(self, status: int, headers: dict[bytes, bytes], body: bytes) -> GhostError:
        """See ports.Translator. The backend's words are passed on without its secrets."""
        after = retry_after(headers, self._clock())
        return failures.answered(status, body, self._label, retry_after=after, blot=self._blotted)

    def inventory_request(self) -> UpstreamRequest:
        return UpstreamRequest("GET", INVENTORY, self._get_headers)

    def inventory(self, body: bytes) -> list[ModelInfo]:
        """`{"data": [{"id", "created_at", "max_input_tokens", …}]}`, or OpenAI's list, as local servers have
        one for both dialects. Raises UpstreamProtocolError.
        """
        try:
            listing = jsonx.loads(body)
        except jsonx.DecodeError as error:
            raise UpstreamProtocolError(f"{self._label}: its model list is not JSON: {error}") from None
        data = listing.get("data") if isinstance(listing, dict) else None
        if not isinstance(data, list):
            raise UpstreamProtocolError(f"{self._label}: its model list has no `data`")
        return [_model(item) for item in data if isinstance(item, dict) and _is_name(item.get("id"))]

    def looks(self) -> Looks:
        return observation.NO_LOOKS

    def look_request(self, path: str, *, keyed: bool = False) -> UpstreamRequest:
        return UpstreamRequest("GET", path, self._get_headers if keyed else observation.HEADERS)

    def _blotted(self, message: str) -> str:
        return self._secret.sub("***", message) if self._secret is not None else message


def _model(item: dict[str, Any]) -> ModelInfo:
    context, owner = item.get("max_input_tokens"), item.get("owned_by")
    said = item.get("capabilities")
    vision = said.get("image_input") if isinstance(said, dict) else None
    capabilities: frozenset[str] = frozenset()
    if isinstance(vision, dict):  # servers that only have Anthropic's dialect say nothing of it
        sees = vision.get("supported") is True
        capabilities = frozenset(("chat", "tools", "vision") if sees else ("chat", "tools"))
    return ModelInfo(
        item["id"],
        created=_seconds(item.get("created_at"), item.get("created")),
        owner=owner if isinstance(owner, str) and owner else "anthropic",
        context=context if type(context) is int and context > 0 else None,
        capabilities=capabilities,
    )


def _seconds(stamp: Any, number: Any) -> int | None:
    """stamp: RFC 3339. number: seconds since 1970. What is not known, Anthropic dates to the year 1970."""
    try:
        seconds = int(datetime.datetime.fromisoformat(stamp).timestamp())
    except (TypeError, ValueError, OverflowError):
        seconds = number if type(number) is int else 0
    return seconds if seconds > 0 else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
