"""What is seen from outside: the log, the access record of each request, the metrics, the requests of late.

Nothing in the request path imports this package; exchanges are handed to the observer. A *record* is one
event with its fields; a *sink* takes records as bytes and writes them off the event loop; a *family* is a
metric with all its label values, a *series* one of them.
"""

from __future__ import annotations

import asyncio
import os

from ghostllm.config.schema import Log
from ghostllm.observe.access import AccessLog
from ghostllm.observe.lag import LoopLag
from ghostllm.observe.log import Logger, LoggingHandler, gap_record
from ghostllm.observe.metrics import Metrics
from ghostllm.observe.observer import GatewayObserver
from ghostllm.observe.recorder import Recorder
from ghostllm.observe.render import Renderer, json_line, text_line
from ghostllm.observe.sink import LogSink

__all__ = ["Observability", "build"]


class Observability:
    """log: for events. observer: for exchanges. metrics: `render(accept)`, and `gauge` for what others know.
    recorder: what became of the last `keep` requests.

    Before `start` the log writes at once; between `start` and `stop` a thread does.
    """

    def __init__(self, config: Log, fd: int, *, keep: int) -> None:
        self._fd = fd
        render = self._render = renderer(config, fd)
        self._sink = LogSink(fd, lambda dropped: gap_record(self._render, dropped))
        self.log = Logger(self._sink, render, config.level)
        self.metrics = Metrics()
        access = AccessLog(self._sink, render, config.level) if config.access else None
        self.recorder = Recorder(keep)
        self.observer = GatewayObserver(self.metrics, access, self.recorder if keep else None)
        self._handler = LoggingHandler(self.log)
        self._lag = LoopLag()
        self.metrics.add(self._lag.family)
        self.metrics.add(self._lag.worst)
        self.metrics.counter(
            "ghostllm_log_records_dropped",
            "Log records lost because they could not be written in time.",
            lambda: [({}, self._sink.dropped)],
        )

    def lag_max(self) -> float | None:
        """The largest lag of the loop of late, in seconds; None before the first look."""
        return next((round(value, 4) for _, value in self._lag.read_worst()), None)

    def retune(self, config: Log, keep: int) -> None:
        """Another configuration, while it runs."""
        render = self._render = renderer(config, self._fd)
        self.log.retune(render, config.level)
        self._handler.retune()
        self.recorder.resize(keep)
        access = AccessLog(self._sink, render, config.level) if config.access else None
        self.observer.use(access, self.recorder if keep else None)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """On the thread of `loop`. The standard library's loggers write here from now on."""
        self._sink.start(loop)
        self._handler.install()
        self._lag.start(loop)

    def stop(self) -> bool:
        """Writes what is left, and waits two seconds at most; False if not all of it could be written."""
        self._lag.stop()
        self._handler.remove()
        return self._sink.close()


def build(config: Log, fd: int = 2, *, keep: int = 0) -> Observability:
    """fd: the descriptor to write to; standard error unless told otherwise. keep: requests to be remembered
    after their end.
    """
    return Observability(config, fd, keep=keep)


def renderer(config: Log, fd: int) -> Renderer:
    """How records look on that descriptor."""
    try:
        terminal = os.isatty(fd)
    except OSError:
        terminal = False
    if config.format == "text" or (config.format == "auto" and terminal):
        return text_line(colour=terminal and not os.environ.get("NO_COLOR"))
    return json_line
