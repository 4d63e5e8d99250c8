"""How fast a client moves bytes, one way or the other, and when that is too slow to wait for.

A limit on silence alone would let a byte now and then hold a connection for ever; a limit on the average
alone would let who was fast once be silent for hours. So there are both.
"""

from __future__ import annotations


class Pace:
    """Of one body that is being received. Looked at by the sweep: bytes cost nothing as they move. Times are
    the loop's.
    """

    __slots__ = ("_began", "_moved", "_moved_at")

    def __init__(self, now: float) -> None:
        self._began = self._moved_at = now
        self._moved = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._moved} B since {self._began:.1f}>"

    def note(self, now: float, moved: int) -> None:
        """moved: bytes since the beginning."""
        if moved > self._moved:
            self._moved, self._moved_at = moved, now

    def slow(self, now: float, limit: float, rate: int) -> bool:
        """limit: seconds without any; after as many in all, `rate` bytes a second are expected on average. 0:
        none of either.
        """
        if not limit:
            return False
        if now - self._moved_at > limit:
            return True
        return rate > 0 and now - self._began > limit + self._moved / rate


class Drain(Pace):
    """Of what waits to be sent. left: how much that is."""

    __slots__ = ("_left",)

    def __init__(self, now: float, left: int) -> None:
        super().__init__(now)
        self._left = left

    def note_left(self, now: float, left: int) -> None:
        """More may have come meanwhile: that is no progress, and undoes none."""
        if left < self._left:
            self.note(now, self._moved + self._left - left)
        self._left = left
