"""Answers that are passed on without being understood: speech, images, files."""

from __future__ import annotations

from ghostllm.errors import GhostError
from ghostllm.message import Usage


class RawAnswer:
    """Implements ports.Answer. The end of the body is the end of the answer: HTTP's framing is all there is
    to tell a whole one by, so one that breaks has no end at all.
    """

    __slots__ = ("committed", "complete", "fault", "usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.committed = False
        self.complete = False
        self.fault: GhostError | None = None

    def feed(self, data: bytes) -> bytes:
        self.committed = True
        return data

    def finish(self) -> bytes:
        self.complete = True
        return b""

    def whole(self, body: bytes) -> bytes:
        return body

    def broken(self, error: GhostError) -> bytes:
        return b""
