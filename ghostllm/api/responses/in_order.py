"""Neutral events in an order in which no two items overlap.

Other dialects interleave the fragments of their tool calls; a response's items follow one another. So what
comes while a call is open waits behind it: the fragments of another call, or text. That a call is over its
braces tell.
"""

from __future__ import annotations

from collections import deque

from ghostllm.api.anthropic.call_block import CallBlock
from ghostllm.api.canonical import Event, ToolCallDelta


class InOrder:
    """What it gives has the id and the name of each call in its first fragment."""

    __slots__ = ("_calls", "_head", "_waiting")

    def __init__(self) -> None:
        self._calls: dict[int, CallBlock] = {}
        self._head: tuple[int, CallBlock] | None = None  # whose turn it is
        self._waiting: deque[tuple[int, CallBlock] | Event] = deque()

    def __repr__(self) -> str:
        return f"<InOrder head={self._head} waiting={len(self._waiting)}>"

    @property
    def calling(self) -> bool:
        """Whether a call is open."""
        return self._head is not None

    def take(self, event: Event) -> list[Event]:
        """The events whose turn it is now. What follows a call that is over is dropped."""
        out: list[Event] = []
        if not isinstance(event, ToolCallDelta):
            if self._is_blocked():
                self._waiting.append(event)
            else:
                out.append(event)
            return out
        call = self._calls.get(event.index)
        if call is None:
            call = self._calls[event.index] = CallBlock(event.custom)
            if self._is_blocked():
                self._waiting.append((event.index, call))
            else:
                self._head = (event.index, call)
        call.take(event)
        if self._head is not None and self._head[1] is call:
            self._give(out)
            if self._waiting:
                self._drain(out, force=False)
        return out

    def rest(self) -> list[Event]:
        """Everything that waits: nothing follows. Calls may lack an id or a name."""
        out: list[Event] = []
        self._drain(out, force=True)
        return out

    def _is_blocked(self) -> bool:
        if self._head is not None and self._head[1].whole:
            self._pass_on()
        return self._head is not None

    def _pass_on(self) -> None:
        assert self._head is not None
        self._head[1].over = True
        self._head = None

    def _drain(self, out: list[Event], *, force: bool) -> None:
        while self._head is not None and (force or self._head[1].whole):
            self._give(out, force=force)
            self._pass_on()
            while self._waiting and self._head is None:
                item = self._waiting.popleft()
                if isinstance(item, tuple):
                    self._head = item
                    self._give(out)
                else:
                    out.append(item)

    def _give(self, out: list[Event], *, force: bool = False) -> None:
        """What is there of the head. It can begin when id and name are known."""
        assert self._head is not None
        index, call = self._head
        if call.opened:
            if text := call.taken():
                out.append(ToolCallDelta(index, text))
        elif force or (call.id and call.name):
            call.opened = True
            out.append(ToolCallDelta(index, call.taken(), call.id, call.name, call.custom))
