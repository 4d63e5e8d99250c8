"""Whether something that fails now and then is to be asked: not for a moment after a failure, then once to
see.
"""

from __future__ import annotations


class Circuit:
    """pause: seconds without a question after a failure."""

    __slots__ = ("_pause", "_trial", "_until", "closed")

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._until = 0.0
        self._trial = False
        self.closed = True

    def __repr__(self) -> str:
        return f"<Circuit {'closed' if self.closed else 'trial' if self._trial else 'open'}>"

    def admits(self, now: float) -> bool:
        """Whether it may be asked. True while it is open makes this question the trial: `worked`, `failed` or
        `abandoned` must follow.
        """
        if self.closed:
            return True
        if self._trial or now < self._until:
            return False
        self._trial = True
        return True

    def worked(self) -> bool:
        """Whether that is news."""
        self._trial = False
        was_closed, self.closed = self.closed, True
        return not was_closed

    def failed(self, now: float) -> bool:
        """Whether that is news."""
        self._trial = False
        self._until = now + self._pause
        was_closed, self.closed = self.closed, False
        return was_closed

    def abandoned(self) -> None:
        """Nobody knows how the question would have been answered."""
        self._trial = False
