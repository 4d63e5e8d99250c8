"""Embeddings of an OpenAI-compatible server, for clients of other dialects."""

from __future__ import annotations

from collections.abc import Callable

from ghostllm.api.canonical import Embeddings
from ghostllm.api.doors import DOORS
from ghostllm.api.openai.vectors import read_embeddings
from ghostllm.errors import GhostError, UpstreamProtocolError
from ghostllm.message import Call, Usage


class VectorsAnswer:
    """A `ports.Answer` of an embeddings call of another door, which is never a stream."""

    __slots__ = ("_asked", "_blot", "_call", "_label", "committed", "complete", "fault", "usage")

    def __init__(self, call: Call, asked: Embeddings, label: str, blot: Callable[[str], str]) -> None:
        self._call = call
        self._asked = asked
        self._label = label
        self._blot = blot
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
        vectors = read_embeddings(
            body, len(asked.inputs), asked.dimensions, self.usage, self._label, self._blot
        )
        self.committed = self.complete = True
        return DOORS[self._call.door].write_embeddings(self._call, vectors, self.usage)
