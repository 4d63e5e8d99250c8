"""Answers in this process's memory: the least recently used go when there are too many bytes of them."""

from __future__ import annotations

from collections import OrderedDict
from fnmatch import fnmatchcase
from math import inf

from ghostllm.api.recording import Recording
from ghostllm.cache.key import parts_of

ENTRY = 512
"""Bytes of memory that an entry takes besides its key's text and its value: the dict's share, the times."""


class Found:
    """age: seconds since it was made."""

    __slots__ = ("age", "value")

    def __init__(self, value: Recording, age: float) -> None:
        self.value = value
        self.age = age


class Entry:
    __slots__ = ("expires", "made", "size", "value")

    def __init__(self, value: Recording, made: float, expires: float, size: int) -> None:
        self.value = value
        self.made = made
        self.expires = expires
        self.size = size


class MemoryCache:
    """limit: bytes, all overhead counted. size never exceeds it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the least recently used first
        self._hits = self._misses = self._stored = self._evicted = self._expired = self._too_large = 0

    def __repr__(self) -> str:
        return f"<MemoryCache {len(self._entries)} entries, {self.size} of {self.limit} B>"

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now: float) -> Found | None:
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            return None
        if entry.expires <= now:
            self._drop(key)
            self._expired += 1
            self._misses += 1
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return Found(entry.value, max(0.0, now - entry.made))

    def put(self, key: str, value: Recording, now: float, ttl: float, age: float = 0.0) -> bool:
        """ttl: seconds from its making; 0: no end. age: seconds that have passed of them. False: it is too
        large, or too old, and an older one is gone all the same.
        """
        if key in self._entries:
            self._drop(key)
        size = ENTRY + len(key) + value.size
        if size > self.limit or (ttl and age >= ttl):
            self._too_large += size > self.limit
            return False
        self._entries[key] = Entry(value, now - age, now - age + ttl if ttl else inf, size)
        self.size += size
        self._stored += 1
        while self.size > self.limit:
            _, oldest = self._entries.popitem(last=False)
            self.size -= oldest.size
            self._evicted += 1
        return True

    def flush(self, pattern: str = "*", tenant: str = "*") -> int:
        """Forgets the answers of models whose names match (fnmatch), of one tenant (its digest) or of all:
        how many.
        """
        keys = [key for key in self._entries if _matches(key, pattern, tenant)]
        for key in keys:
            self._drop(key)
        return len(keys)

    def resize(self, limit: int) -> None:
        self.limit = limit
        while self.size > limit:
            self.size -= self._entries.popitem(last=False)[1].size
            self._evicted += 1

    def stats(self) -> dict[str, int]:
        return {
            "entries": len(self._entries), "bytes": self.size, "limit_bytes": self.limit, "hits": self._hits,
            "misses": self._misses, "stored": self._stored, "evicted": self._evicted,
            "expired": self._expired, "too_large": self._too_large,
        }  # fmt: skip

    def _drop(self, key: str) -> None:
        self.size -= self._entries.pop(key).size


def _matches(key: str, pattern: str, tenant: str) -> bool:
    model, whose = parts_of(key)
    return tenant in ("*", whose) and fnmatchcase(model, pattern)
