"""The event loop: uvloop where it loads, asyncio's own where it does not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

new_event_loop: Callable[[], asyncio.AbstractEventLoop]
if os.environ.get("GHOSTLLM_PURE") == "1":
    NAME, new_event_loop = "asyncio", asyncio.new_event_loop
else:
    try:
        import uvloop
    except ImportError:
        NAME, new_event_loop = "asyncio", asyncio.new_event_loop
    else:
        NAME, new_event_loop = "uvloop", uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` to its end on a new loop of the best kind."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
