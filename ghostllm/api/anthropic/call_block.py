"""A tool call on its way into a stream of Anthropic's dialect, where a block must end before the next begins.

Other dialects interleave the fragments of their calls, so a call may have to wait for the one before it; that
one is over when its arguments are, which the braces tell.
"""

from __future__ import annotations

import re

from ghostllm.api.canonical import ToolCallDelta

_MARKS = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
"""What opens and closes in JSON; an escape is taken as one, so that a quotation mark in it is none."""


class CallBlock:
    """waiting: fragments that are not written yet. opened: its block has begun. begun: so have its arguments.
    over: its block has ended.
    """

    __slots__ = (
        "_depth", "_ended", "_quoted", "_unread", "begun", "custom", "id", "name", "opened", "over",
        "waiting",
    )  # fmt: skip

    def __init__(self, custom: bool) -> None:
        self.id = self.name = ""
        self.custom = custom
        self.waiting: list[str] = []
        self.opened = self.begun = self.over = False
        self._unread: list[str] = []
        self._depth = 0
        self._quoted = False
        self._ended = False

    def __repr__(self) -> str:
        state = "over" if self.over else "opened" if self.opened else "waiting"
        return f"<CallBlock {self.id or '?'} {self.name or '?'} {state}>"

    def take(self, event: ToolCallDelta) -> None:
        """What follows a block that is over cannot be part of its arguments, and is dropped."""
        self.id = self.id or event.id
        self.name = self.name or event.name
        if event.arguments and not self.over:
            self.waiting.append(event.arguments)
            self._unread.append(event.arguments)

    def taken(self) -> str:
        """The fragments that waited, as one."""
        text, self.waiting = "".join(self.waiting), []
        return text

    @property
    def whole(self) -> bool:
        """Id and name are known, and the arguments are an object (or array) that is closed. Nothing tells the
        end of free-form input.
        """
        if self._unread and not self._ended and not self.custom:
            text, self._unread = "".join(self._unread), []
            end = 0
            for mark in _MARKS.finditer(text):
                self._read(mark[0])
                end = mark.end()
            if end < len(text) and text.endswith("\\"):
                self._unread = ["\\"]  # half an escape
        return self._ended and bool(self.id and self.name)

    def _read(self, mark: str) -> None:
        if mark == '"':
            self._quoted = not self._quoted
        elif self._quoted:
            return
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            self._depth -= 1
            self._ended = self._ended or self._depth == 0
