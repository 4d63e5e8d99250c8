"""Event-loop lag is seen where it happens, by whichever loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from ghostllm import observe
from ghostllm.config.schema import Log
from ghostllm.net.loop import new_event_loop
from ghostllm.observe.lag import INTERVAL
from tests.observe.test_metrics import read, value


def block(seconds):
    """What no coroutine should do, and what is to be seen here."""
    time.sleep(seconds)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, new_event_loop], ids=["asyncio", "best"])
def test_a_blocked_loop_shows(tmp_path, new_loop):
    with open(tmp_path / "log", "wb") as file:
        seen = observe.build(Log(), file.fileno())

    async def main():
        seen.start(asyncio.get_running_loop())
        assert value(read(seen.metrics), "ghostllm_event_loop_lag_max_seconds") is None, "not looked yet"
        await asyncio.sleep(INTERVAL / 2)
        block(INTERVAL)
        await asyncio.sleep(INTERVAL)
        found = read(seen.metrics)
        seen.stop()
        await asyncio.sleep(1.5 * INTERVAL)
        assert read(seen.metrics).items() >= {k: v for k, v in found.items() if "lag" in k[0]}.items()
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        found = runner.run(main())
    assert value(found, "ghostllm_event_loop_lag_max_seconds") > INTERVAL / 4
    assert value(found, "ghostllm_event_loop_lag_seconds_sum") > INTERVAL / 4
    assert value(found, "ghostllm_event_loop_lag_seconds_count") >= 1
