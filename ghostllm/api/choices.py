"""Several answers of one choice each, as the one answer with several choices that the client asked for (`n`),
where a backend gives one at a time. Both are in OpenAI's shape: no other door asks for more than one.

Figures are added up, the prompt's too: it was read once for each answer, and that is what was spent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ghostllm import jsonx
from ghostllm.api.openai import events
from ghostllm.api.openai.events import LAST_EVENT
from ghostllm.errors import UpstreamProtocolError
from ghostllm.message import Body

EVENT_LIMIT = 64 << 20  # bytes; what comes here has passed the limit of its own answer before
_SOURCE = "one of the answers"


def merge_whole(bodies: Sequence[Body]) -> bytes:
    """Whole answers of one choice each as one: its id, time and model are those of the first.

    Raises UpstreamProtocolError for a body that is no such answer, ValueError for no bodies at all.
    """
    if not bodies:
        raise ValueError("there is nothing to merge")
    answers = [_answer(bytes(body)) for body in bodies]
    merged = dict(answers[0])
    merged["choices"] = [{**answer["choices"][0], "index": index} for index, answer in enumerate(answers)]
    merged.pop("usage", None)
    if (usage := _total([answer.get("usage") for answer in answers])) is not None:
        merged["usage"] = usage
    return jsonx.dumps(merged)


class Interleave:
    """Streams of one choice each as one stream. Events go out as they come, with the index of their stream.

    count: how many streams. usage: the client asked for it. over: the terminator has been given, or an error.
    """

    __slots__ = ("_count", "_ended", "_frame", "_held", "_usage", "_usages", "over")

    def __init__(self, count: int, *, usage: bool) -> None:
        self.over = False
        self._count = count
        self._usage = usage
        self._held = [events.Held(EVENT_LIMIT, _SOURCE) for _ in range(count)]
        self._usages: list[Any] = [None] * count
        self._ended: set[int] = set()
        self._frame: dict[str, Any] = {}  # id, time, model… of the first chunk that came

    def __repr__(self) -> str:
        return f"<Interleave {len(self._ended)} of {self._count} ended>"

    def feed(self, stream: int, data: bytes) -> bytes:
        """The client's events for bytes of stream 0, 1, …; the terminator with the last stream's own.

        Raises UpstreamProtocolError for what is no event of a chat or completions stream.
        """
        if self.over or stream in self._ended:
            return b""
        out: list[bytes] = []
        block = self._held[stream].feed(data)
        for event in events.split(block) if block else ():
            out.append(self._event(stream, event))
            if self.over or stream in self._ended:
                break
        return b"".join(out)

    def _event(self, stream: int, event: bytes) -> bytes:
        payload = events.data_of(event)
        if payload is None:
            return event  # a comment: it keeps the connection alive
        if payload.strip() == events.DONE:
            self._ended.add(stream)
            return self._end() if len(self._ended) == self._count else b""
        chunk = events.parse(payload, _SOURCE)
        if events.is_error(chunk):
            self.over = True  # one choice less is not the answer that was asked for
            return event
        if not self._frame:
            self._frame = {name: chunk[name] for name in chunk if name not in ("choices", "usage")}
        if isinstance(usage := chunk.get("usage"), dict):
            self._usages[stream] = usage  # cumulative: the last one counts
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise UpstreamProtocolError(f"{_SOURCE} has an event without choices")
        return self._relabelled(stream, chunk, choices) if choices else b""

    def _relabelled(self, stream: int, chunk: dict[str, Any], choices: list[dict[str, Any]]) -> bytes:
        """One id for all: clients take a change of it for another answer."""
        shown = dict(chunk)
        for name in ("id", "created"):
            if name in self._frame:
                shown[name] = self._frame[name]
        shown["choices"] = [{**choice, "index": stream} for choice in choices]
        shown.pop("usage", None)
        if self._usage:
            shown["usage"] = None
        return b"data: " + jsonx.dumps(shown) + b"\n\n"

    def _end(self) -> bytes:
        self.over = True
        usage = _total(self._usages) if self._usage else None
        if usage is None:
            return LAST_EVENT
        return b"data: " + jsonx.dumps({**self._frame, "choices": [], "usage": usage}) + b"\n\n" + LAST_EVENT


def _answer(body: bytes) -> dict[str, Any]:
    answer = events.parse_whole(body, _SOURCE)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise UpstreamProtocolError(f"{_SOURCE} has not exactly one choice")
    result: dict[str, Any] = answer
    return result


def _total(usages: Sequence[Any]) -> dict[str, Any] | None:
    """The sum of usage objects, members of members too. None unless every answer said its figures."""
    known = [usage for usage in usages if isinstance(usage, Mapping)]
    return _sum(known) if known and len(known) == len(usages) else None


def _sum(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for each in objects:
        for name, value in each.items():
            known = total.get(name)
            if isinstance(value, Mapping):
                total[name] = _sum([known, value] if isinstance(known, Mapping) else [value])
            elif _is_number(value) and _is_number(known):
                total[name] = known + value
            elif known is None:
                total[name] = value
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
