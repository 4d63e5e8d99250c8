"""What looking at addresses again and again comes to. Pure.

A server that is busy misses a look, or answers it only in part and is then taken for another kind. So a
server is gone, or another one, only after several looks in a row that say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from ghostllm.routing.discovery.source import Server

MISSES = 3


class Sightings:
    """misses: looks in a row after which a server is gone."""

    def __init__(self, misses: int = MISSES) -> None:
        self._misses = misses
        self._known: dict[str, tuple[Server, int]] = {}  # by URL: what it is, looks missed in a row

    def __repr__(self) -> str:
        return f"<Sightings {len(self._known)} servers>"

    @property
    def servers(self) -> list[Server]:
        """Those that are there, the longest known first."""
        return [server for server, _ in self._known.values()]

    def look(self, seen: Iterable[Server]) -> list[Server]:
        """Takes what one look found; gives the servers that are new, or known as something else now."""
        by_url = {server.url: server for server in seen}
        for url, (server, missed) in list(self._known.items()):
            if (now := by_url.get(url)) is not None and now.kind == server.kind:
                self._known[url] = server, 0
            elif missed + 1 < self._misses:
                self._known[url] = server, missed + 1
            else:
                del self._known[url]
        new = [server for url, server in by_url.items() if url not in self._known]
        for server in new:
            self._known[server.url] = server, 0
        return new
