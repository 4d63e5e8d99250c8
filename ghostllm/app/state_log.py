"""What the log is told when the state file cannot be written or read: at once, and from then on in sums."""

from __future__ import annotations

import time
from collections.abc import Callable

from ghostllm.observe.log import Logger

SECONDS = 10.0
"""Between two lines: a full disk refuses twenty batches a second."""


class StateLog:
    """Called from the state's own thread, too: the log takes records from any."""

    def __init__(self, log: Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._records = 0  # since the last line
        self._next = 0.0

    def __call__(self, reason: str, records: int) -> None:
        """See Database: records is 0 where a read failed."""
        self._records += records
        now = self._clock()
        if now < self._next:
            return
        self._next = now + SECONDS
        told, self._records = self._records, 0
        self._log.error("state not written" if told else "state not read", reason=reason, records=told)
