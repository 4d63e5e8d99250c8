"""The fragments of tool calls in an answer, put in order: numbered as they appear, id and name once.

Servers leave out the index (older llama.cpp, Gemini), give every call index 0, repeat id and name with each
fragment, mint another id for each (older vLLM), or send whole calls at once. What begins a call is a name;
what has none belongs to one that has begun.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ghostllm import jsonx
from ghostllm.api.canonical import Event, ToolCallDelta
from ghostllm.errors import UpstreamProtocolError


class _Call:
    """waiting: fragments of the arguments that came before the name. sent: the call's beginning is out."""

    __slots__ = ("custom", "id", "name", "number", "sent", "waiting")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.custom = False
        self.waiting: list[str] = []
        self.sent = False
        self.number = -1


class Calls:
    """The calls of one answer. mint: makes an id. source: how errors name the server. single: only the first
    call is wanted: parallel ones were ruled out, and not every server knows how.

    count: calls whose beginning has been given.
    """

    __slots__ = ("_calls", "_last", "_mint", "_places", "_single", "_source", "count")

    def __init__(self, mint: Callable[[], str], source: str, *, single: bool = False) -> None:
        self.count = 0
        self._mint = mint
        self._source = source
        self._single = single
        self._calls: list[_Call] = []
        self._places: dict[int, _Call] = {}  # by the server's index
        self._last: _Call | None = None

    def read(self, fragments: list[Any]) -> list[Event]:
        """The events of a `tool_calls` member. Raises UpstreamProtocolError."""
        out: list[Event] = []
        for fragment in fragments:
            if not isinstance(fragment, dict):
                raise UpstreamProtocolError(f"{self._source} sent a tool call that is not an object")
            self._fragment(fragment, out)
        return out

    def make(self, name: str, arguments: dict[str, Any]) -> ToolCallDelta:
        """A whole call that came by another way."""
        number, self.count = self.count, self.count + 1
        return ToolCallDelta(number, jsonx.dumps(arguments).decode(), self._mint(), name)

    def flush(self) -> list[Event]:
        """What still waited, at the end of the answer. Raises UpstreamProtocolError for a nameless call."""
        out: list[Event] = []
        for call in self._calls:
            if not call.sent and (call.name or call.id or call.waiting):
                if not call.name:
                    raise UpstreamProtocolError(f"{self._source} sent a tool call without a function's name")
                self._begin(call, out)
        return out

    def _fragment(self, fragment: dict[str, Any], out: list[Event]) -> None:
        custom = fragment.get("custom")
        inner = custom if isinstance(custom, dict) else fragment.get("function")
        inner = inner if isinstance(inner, dict) else {}
        identity, name = _word(fragment.get("id")), _word(inner.get("name"))
        call = self._find(fragment.get("index"), identity, name)
        call.custom = call.custom or isinstance(custom, dict)
        call.id = call.id or identity
        call.name = call.name or name
        text = _arguments(inner.get("input") if call.custom else inner.get("arguments"))
        if call.sent:
            if text and call.number >= 0:
                out.append(ToolCallDelta(call.number, text, custom=call.custom))
            return
        if text:
            call.waiting.append(text)
        if call.name and (call.id or call.waiting):
            self._begin(call, out)

    def _find(self, index: Any, identity: str, name: str) -> _Call:
        """The call that a fragment belongs to, new or begun."""
        numbered = type(index) is int
        known = self._places.get(index) if numbered else self._last
        if not numbered and identity:
            known = next((call for call in self._calls if call.id == identity), known)
        if known is None or (known.name and name and not _is_repeated(known, identity, name, numbered)):
            known = _Call()
            self._calls.append(known)
            if numbered:
                self._places[index] = known
        self._last = known
        return known

    def _begin(self, call: _Call, out: list[Event]) -> None:
        call.sent = True
        text, call.waiting = "".join(call.waiting), []
        if self.count and self._single:
            return  # and no number: its fragments are not wanted either
        call.number, self.count = self.count, self.count + 1
        out.append(ToolCallDelta(call.number, text, call.id or self._mint(), call.name, call.custom))


def _is_repeated(call: _Call, identity: str, name: str, numbered: bool) -> bool:
    """Whether a named fragment goes on with `call`, instead of beginning another at the same place."""
    if identity and call.id:
        return identity == call.id
    return numbered and name == call.name


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: Any) -> str:
    """Text as it is; an object, as some servers send it, as its JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else jsonx.dumps(value).decode()
