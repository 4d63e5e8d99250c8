"""What is seen from outside: the log, the access record of each request, the metrics.
 Nothing in the request path imports this package: exchanges are handed to the observer at their end. Records
are made on the event loop, where they cost a microsecond or two, and written by a side thread that does
nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from ghostllm.config.schema import Log
from ghostllm.observe.access import AccessLog
from ghostllm.observe.lag import LoopLag
from ghostllm.observe.log import Logger, Writer
from ghostllm.observe.metrics import Metrics
from ghostllm.observe.observer import GatewayObserver

__all__ = ["Observability", "build"]


class Observability:
    """log: for events. observer: for exchanges. metrics: `render(accept)`. Between start and stop a thread
    writes.
    """

    def __init__(self, config: Log, descriptor: int, *, text: bool, colour: bool) -> None:
        self._writer = Writer(descriptor)
        self.log = Logger(self._writer, config.level, text=text, colour=colour)
        self.metrics = Metrics()
        access = AccessLog(self.log) if config.access and self.log.enabled("info") else None
        self.observer = GatewayObserver(self.metrics, access)
        self._lag = LoopLag(self.metrics.loop_lag)
        self.metrics.gauge("ghostllm_log_dropped_records", "Log records given up for want of a reader.",
                           lambda: [({}, self._writer.dropped)])  # fmt: skip

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._writer.start(loop)
        self._lag.start(loop)

    def stop(self) -> None:
        """Writes what is left; waits a few seconds at most for a reader that is slow."""
        self._lag.stop()
        self._writer.stop()


def build(config: Log, descriptor: int = 2, isatty: Callable[[], bool] = sys.stderr.isatty) -> Observability:
    """descriptor: the file that is written to; standard error unless said otherwise."""
    terminal = isatty()
    text = config.format == "text" or (config.format == "auto" and terminal)
    return Observability(config, descriptor, text=text, colour=terminal)
