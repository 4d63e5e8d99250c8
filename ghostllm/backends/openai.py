"""Backends that speak OpenAI's dialect: calls are passed to them as the client wrote them, those of other
doors go by way of the neutral form.

The differences between servers are in `profiles`; here is what all of them share.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ghostllm import jsonx
from ghostllm.api.doors import DOORS, neutral
from ghostllm.api.ids import mint
from ghostllm.api.openai.failures import CONTEXT_CODE, answered, read_words
from ghostllm.api.openai.passthrough import PassThrough, choices_of
from ghostllm.api.raw import RawAnswer
from ghostllm.api.splice import edit
from ghostllm.backends import observation
from ghostllm.backends.profiles import ALL_PATHS, ANY, Fields, Profile
from ghostllm.errors import (
    ContextLengthExceeded,
    GhostError,
    UnsupportedParameter,
    UnsupportedValue,
    UpstreamProtocolError,
)
from ghostllm.message import Buffers, Call, Pairs, Passage, UpstreamRequest
from ghostllm.ports import Answer, Looks, ModelInfo

if TYPE_CHECKING:  # and where they are needed: see api.openai.door
    from ghostllm.api.openai.answer_reader import ChatReader, CompletionReader
    from ghostllm.api.translation import Neutral

RETRY_AFTER_LIMIT = 86_400.0  # seconds; a server that asks for more asks for "never"
SECRET_LENGTH = 8  # shorter header values are words, not secrets

_ORIGIN = re.compile(r"(?<=://)[^/\s]+")


class OpenAIBackend:
    """Implements ports.Translator. name: of the backend, for messages. headers: sent with every request to
    it.

    url: the backend's; it and the key and the header values are blotted out of any message of the backend
    that is passed on. event_limit: bytes of the largest stream event. mint: makes an id that begins with its
    argument. clock: seconds since 1970.
    """

    def __init__(
        self,
        profile: Profile,
        name: str,
        *,
        api_key: str | None = None,
        headers: Pairs = (),
        url: str = "",
        event_limit: int = 8 << 20,
        mint: Callable[[str], str] = mint,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._mint = mint
        self._clock = clock
        self.profile = profile
        self.name = name
        self._label = f"backend {name!r}"
        self._event_limit = event_limit
        credentials: Pairs = ((b"authorization", b"Bearer " + api_key.encode()),) if api_key else ()
        configured = {name for name, _ in headers}
        common = (*(pair for pair in credentials if pair[0] not in configured), *headers)
        identity = (b"accept-encoding", b"identity")
        json = (b"content-type", b"application/json")
        self._whole_headers: Pairs = (json, (b"accept", b"application/json"), identity, *common)
        self._stream_headers: Pairs = (json, (b"accept", b"text/event-stream"), identity, *common)
        self._get_headers: Pairs = self._whole_headers[1:]
        self._verbatim = _verbatim(profile)
        self._look_headers: Pairs = (*observation.HEADERS, *common)
        values = [api_key or "", *(value.decode("latin-1") for _, value in headers), *_ORIGIN.findall(url)]
        secrets = sorted({value for value in values if len(value) >= SECRET_LENGTH}, key=len, reverse=True)
        self._secret = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def __repr__(self) -> str:
        return f"<OpenAIBackend {self.name} ({self.profile.kind})>"

    def prepare(self, call: Call, model: str, extra: Mapping[str, Any]) -> tuple[UpstreamRequest, Answer]:
        """See ports.Translator. A call of the same dialect takes one pass over the body, and none if nothing
        in it has to change.
        """
        path = self._verbatim.get(call.operation)
        if path and not call.stream and model == call.model and call.door == "openai" and not extra:
            return UpstreamRequest("POST", path, self._whole_headers, [call.body]), self._passing(call, 1)
        if isinstance(call, Passage):
            return self._passed(call, model), RawAnswer()
        if call.operation == "count_tokens":
            return self._counted(call, model), RawAnswer()
        if call.door != "openai" or self._is_forced(call, extra):
            return self._translated(call, model, extra)
        path = path or self._path(call.operation)
        changes = dict(extra)
        drop: set[str] = set()
        if model != call.model:
            changes["model"] = model
        if call.stream and self.profile.include_usage:
            _ask_for_usage(call.fields, changes)
        fields = self.profile.fields.get(call.operation)
        if fields is not None:
            _restrict(fields, call.fields, changes, drop, self.profile.label)
        body: Buffers = [call.body]
        if changes or drop:
            body = edit(call.body, call.fields, changes, drop)
        request = UpstreamRequest("POST", path, self._headers(call.stream), body)
        return request, self._passing(call, choices_of(call, extra) if call.stream else 1)

    def _passing(self, call: Call, choices: int) -> PassThrough:
        if call.rescue and call.stream and choices == 1:
            from ghostllm.api.openai.kept import KeptPassThrough

            return KeptPassThrough(
                call,
                backend=self._label,
                limit=self._event_limit,
                blot=self._blotted,
                other_reasoning=self.profile.other_reasoning,
            )
        return PassThrough(
            call,
            backend=self._label,
            limit=self._event_limit,
            choices=choices,
            blot=self._blotted,
            other_reasoning=self.profile.other_reasoning,
        )

    def resume(
        self, call: Call, model: str, extra: Mapping[str, Any], broken: Answer
    ) -> tuple[UpstreamRequest, Answer]:
        """See ports.Translator. Raises CannotContinue."""
        from ghostllm.api import rescue
        from ghostllm.api.openai import request_writer

        members = self.profile.traits.continues
        server = rescue.Server(
            label=self._label,
            prepare=lambda call, extra: self.prepare(call, model, extra),
            adapt=None if members is None else lambda body: request_writer.merge(body, members),
            thoughts=bool(self.profile.traits.reasoning),
            created=int(self._clock()),
            mint=self._mint,
        )
        return rescue.resume(call, extra, broken, server)

    def _counted(self, call: Call, model: str) -> UpstreamRequest:
        """Servers that count do so for Anthropic's requests."""
        path = self._path(call.operation)
        if call.door == "anthropic":
            body = edit(call.body, call.fields, {"model": model}, set())
        else:
            from ghostllm.api.anthropic.request_writer import write_request as write_messages
            from ghostllm.api.canonical import Conversation

            asked = neutral(call, {})
            assert isinstance(asked, Conversation)
            body = [jsonx.dumps(write_messages(asked, model, 1))]
        return UpstreamRequest("POST", path, self._headers(False), body)

    def passes(self, path: str) -> bool:
        return path.startswith(self.profile.passes)

    def _passed(self, call: Passage, model: str) -> UpstreamRequest:
        body: Buffers = [call.body] if call.body else []
        if model != call.model:
            if call.span is not None:
                view = memoryview(call.body)  # audio is not copied for the sake of a name
                body = [view[: call.span[0]], model.encode(), view[call.span[1] :]]
            else:
                body = edit(call.body, call.fields, {"model": model}, set())
        headers: Pairs = ((b"accept", b"*/*"), *self._get_headers[1:])
        if call.body:
            headers = ((b"content-type", call.content_type), *headers)
        return UpstreamRequest(call.method, call.path, headers, body)

    def _translated(self, call: Call, model: str, extra: Mapping[str, Any]) -> tuple[UpstreamRequest, Answer]:
        """By way of the neutral form. Raises RequestError, UnsupportedParameter, UnsupportedValue with the
        member at fault.
        """
        from ghostllm.api.canonical import Conversation, Embeddings
        from ghostllm.api.openai import request_writer
        from ghostllm.api.translation import translation
        from ghostllm.backends.vectors import VectorsAnswer

        dialect = DOORS[call.door]
        asked = neutral(call, extra)
        if isinstance(asked, Embeddings):
            written = request_writer.write_embeddings(replace(asked, model=model))
            return self._post("embeddings", written), VectorsAnswer(call, asked, self._label, self._blotted)
        if asked.sampling.n not in (None, 1):
            raise UnsupportedParameter("one answer a request is given here: n must be 1", param="n")
        traits = self.profile.traits
        if isinstance(asked, Conversation):
            wanted = replace(asked, model=model, wants_usage=True)
            request = self._post("chat", request_writer.write_request(wanted, traits))
        else:
            continued = replace(asked, model=model, wants_usage=True)
            request = self._post("completions", request_writer.write_continuation(continued, traits))
        writer = dialect.writer(call, int(self._clock()), self._mint)
        return request, translation(call, self._reader(asked), writer)

    def _reader(self, asked: Neutral) -> ChatReader | CompletionReader:
        from ghostllm.api.canonical import Conversation
        from ghostllm.api.openai import request_writer
        from ghostllm.api.openai.answer_reader import ChatReader, CompletionReader

        if not isinstance(asked, Conversation):
            return CompletionReader(backend=self._label, limit=self._event_limit, blot=self._blotted)
        return ChatReader(
            backend=self._label,
            limit=self._event_limit,
            mint=lambda: self._mint("call_"),
            blot=self._blotted,
            forced=request_writer.forced_names(asked, self.profile.traits),
            single=asked.parallel_tool_calls is False,
        )

    def _is_forced(self, call: Call, extra: Mapping[str, Any]) -> bool:
        """Whether the server has to be helped to a call that must be made. A choice that is an object is
        read to find out: the server does not understand any.
        """
        if not self.profile.traits.forced_by_format or call.operation != "chat":
            return False
        choice = extra.get("tool_choice", call.fields.get("tool_choice"))
        return choice == "required" or isinstance(choice, dict)

    def _post(self, operation: str, written: dict[str, Any]) -> UpstreamRequest:
        path = self._path(operation)
        fields = self.profile.fields.get(operation)
        if fields is not None:
            changes: dict[str, Any] = {}
            drop: set[str] = set()
            _restrict(fields, written, changes, drop, self.profile.label)
            kept = {name: value for name, value in written.items() if name not in drop}
            written = {**kept, **changes}
        headers = self._headers(written.get("stream") is True)
        return UpstreamRequest("POST", path, headers, [jsonx.dumps(written)])

    def _path(self, operation: str) -> str:
        path = self.profile.paths.get(operation)
        if path is None:
            raise UnsupportedValue(f"{self.profile.label} does not serve {operation}", param="model")
        return path

    def _headers(self, stream: bool) -> Pairs:
        return self._stream_headers if stream else self._whole_headers

    def failure(self, status: int, headers: dict[bytes, bytes], body: bytes) -> GhostError:
        """See ports.Translator. The backend's words are passed on without its secrets."""
        words = read_words(body)
        words = replace(words, message=self._blotted(words.message))
        error = answered(status, words, self._label, retry_after=retry_after(headers, self._clock()))
        if error.code == CONTEXT_CODE:
            return ContextLengthExceeded(error.message, param=error.param)
        return error

    def inventory_request(self) -> UpstreamRequest:
        return UpstreamRequest("GET", self.profile.inventory, self._get_headers)

    def inventory(self, body: bytes) -> list[ModelInfo]:
        """`{"data": [{"id", …}]}` with what each server adds. Raises UpstreamProtocolError."""
        try:
            listing = jsonx.loads(body)
        except jsonx.DecodeError as error:
            raise UpstreamProtocolError(f"{self._label}: its model list is not JSON: {error}") from None
        data = listing.get("data") if isinstance(listing, dict) else listing
        if data is None and isinstance(listing, dict) and "data" in listing:
            data = []
        if not isinstance(data, list):
            raise UpstreamProtocolError(f"{self._label}: its model list has no `data`")
        return [_model(item) for item in data if isinstance(item, dict) and _is_name(item.get("id"))]

    def looks(self) -> Looks:
        return self.profile.looks

    def look_request(self, path: str, *, keyed: bool = False) -> UpstreamRequest:
        return UpstreamRequest("GET", path, self._look_headers if keyed else observation.HEADERS)

    def _blotted(self, message: str) -> str:
        return self._secret.sub("***", message) if self._secret is not None else message


def _verbatim(profile: Profile) -> dict[str, str]:
    """The paths of the operations whose bodies the server takes as OpenAI has them."""
    paths = {name: path for name, path in profile.paths.items() if name in ALL_PATHS}
    if profile.traits.forced_by_format:
        paths.pop("chat", None)
    return {name: path for name, path in paths.items() if name not in profile.fields}


def retry_after(headers: Mapping[bytes, bytes], now: float) -> float | None:
    """Seconds until the server wants to be asked again: `retry-after-ms`, or `retry-after` in seconds or as a
    date (RFC 9110, 10.2.3), taken against the answer's own Date where it has one. now: seconds since 1970.
    """
    seconds = _number(headers.get(b"retry-after-ms"))
    if seconds is not None:
        seconds /= 1000
    else:
        value = headers.get(b"retry-after")
        seconds = _number(value)
        if seconds is None and (at := _date(value)) is not None:
            seconds = at - (_date(headers.get(b"date")) or now)
    return None if seconds is None else min(max(seconds, 0.0), RETRY_AFTER_LIMIT)


def _number(value: bytes | None) -> float | None:
    try:
        number = float(value or b"")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(value: bytes | None) -> float | None:
    from email.utils import parsedate_to_datetime  # here: few servers send one, and none at the start

    try:
        return parsedate_to_datetime((value or b"").decode("latin-1")).timestamp()
    except (ValueError, OverflowError):
        return None


def _ask_for_usage(fields: Mapping[str, Any], changes: dict[str, Any]) -> None:
    options = changes.get("stream_options", fields.get("stream_options"))
    options = options if isinstance(options, dict) else {}
    if options.get("include_usage") is not True:
        changes["stream_options"] = {**options, "include_usage": True}


def _restrict(
    known: Fields, fields: Mapping[str, Any], changes: dict[str, Any], drop: set[str], label: str
) -> None:
    """Leaves out what says nothing, renames what has another name. Raises UnsupportedParameter for a wish
    that would be ignored.
    """
    for name, value in {**fields, **changes}.items():
        if name in known.accepted:
            continue
        changes.pop(name, None)
        drop.add(name)
        new = known.renamed.get(name)
        if new is not None:
            if value is not None:
                changes[new] = value
            continue
        neutral = known.neutral.get(name, ())
        if value is not None and neutral is not ANY and value not in neutral:
            raise UnsupportedParameter(
                f"{label} does not support {name}" + (f" = {value!r}"[:80] if neutral else ""), param=name
            )


def _model(item: dict[str, Any]) -> ModelInfo:
    meta = item.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    created = item.get("created")
    return ModelInfo(
        item["id"],
        created=int(created) if isinstance(created, int | float) and created > 0 else None,
        owner=item["owned_by"] if isinstance(item.get("owned_by"), str) else "",
        context=_first_count(
            item.get("max_model_len"),  # vLLM, SGLang
            meta.get("n_ctx"),  # llama.cpp: of one slot
            item.get("loaded_context_length"),  # LM Studio
            item.get("context_length"),  # OpenRouter, Together
            item.get("context_window"),  # Groq
            item.get("max_context_length"),  # LM Studio, Mistral
            meta.get("n_ctx_train"),
        ),
    )


def _first_count(*candidates: Any) -> int | None:
    return next((count for count in candidates if type(count) is int and count > 0), None)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)
