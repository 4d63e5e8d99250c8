"""How many of something each address has at one time."""

from __future__ import annotations


class Census:
    """limit: the most that one address may have; 0: no limit."""

    __slots__ = ("_counts", "limit")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._counts: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Census {len(self._counts)} addresses, at most {self.limit} each>"

    def __len__(self) -> int:
        """Addresses that have any."""
        return len(self._counts)

    def take(self, place: str) -> bool:
        """One more, to be given back; False: it has as many as it may."""
        count = self._counts.get(place, 0)
        if self.limit and count >= self.limit:
            return False
        self._counts[place] = count + 1
        return True

    def give(self, place: str) -> None:
        count = self._counts[place] - 1
        if count:
            self._counts[place] = count
        else:
            del self._counts[place]
