"""Answers that nodes share: the store behind each one's memory."""

from __future__ import annotations

from typing import cast

from ghostllm.cluster.away import Away
from ghostllm.cluster.link import Link

PAGE = 500  # keys looked at in one step of a flush


class AnswerStore:
    """Implements cache.answers.Store. Away: it has nothing and keeps nothing."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._prefix = link.prefix + "answer:"

    def __repr__(self) -> str:
        return f"<AnswerStore {self._link!r}>"

    async def get(self, key: str) -> bytes | None:
        try:
            return cast("bytes | None", await self._link.ask("GET", self._prefix + key))
        except Away:
            return None

    def put(self, key: str, value: bytes, ttl: float) -> None:
        """ttl: seconds; 0: no end."""
        end = ("PX", max(1, round(ttl * 1000))) if ttl else ()
        self._link.send("SET", self._prefix + key, value, *end)

    async def flush(self, pattern: str = "*", tenant: str = "*") -> int:
        """Forgets the answers of models whose names match, as fnmatch has it, of one tenant (its digest) or
        of all: how many.
        """
        cursor, count = b"0", 0
        models = pattern.replace("\\", "\\\\").replace("[!", "[^")
        match = f"{_literal(self._prefix)}{models} {tenant} *"
        try:
            while True:
                cursor, keys = await self._link.ask("SCAN", cursor, "MATCH", match, "COUNT", PAGE)
                if keys:
                    count += await self._link.ask("UNLINK", *keys)
                if cursor == b"0":
                    return count
        except Away:
            return count


def _literal(text: str) -> str:
    """For Redis's patterns."""
    return "".join("\\" + character if character in "*?[]\\^" else character for character in text)
