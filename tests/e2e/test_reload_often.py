"""Five hundred reloads, every other one invalid, while streams are open: nothing drops, nothing grows."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Fakes
from tests.e2e.reloads import CONFIG, base, changed, event
from tests.e2e.traffic import CHAT, Crowd, backend, body, counted, model, whole
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings, toml
from tests.fakes.ports import free_port
from tests.fakes.raw import request

STREAMS, WARM_UP, TIMES = 64, 100, 500
WHOLE = "".join(TEXT)
ASK = request("POST", f"{CONFIG}/reload", b"{}", {"x-ghostllm-admin": "1"})
OTHER = request("POST", CHAT, body("n", stream=False))
MOST_GROWTH = 6 << 20
"""Bytes: of an allocator that does not give everything back, far from the 500 configurations."""


def variants(fakes: Fakes) -> list[str]:
    """Four files: two that are sound and differ in everything, two that are not."""
    port = free_port()
    # The backend of the streams is another one in the second: it is replaced, and they end on the old one.
    one = base(fakes, server={"listen": ["127.0.0.1:0"]}, log={"access": False})
    two = changed(
        one,
        backends=[
            backend("primary", fakes.primary, weight=2.0),
            one["backends"][1],
            backend("extra", fakes.vllm),
        ],
        models=[*one["models"], model("vllm", "extra"), model("both", "primary", "second", balance="smart")],
        server={"listen": ["127.0.0.1:0", f"127.0.0.1:{port}"], "limits": {"connections": 5000}},
        routing={"refresh": 20, "breaker": {"failures": 7}},
        log={"access": False, "level": "debug"},
        timeouts={"head": 100},
    )
    nameless = changed(one, models=[model("m", "nobody")])
    return [toml(two), toml(nameless), toml(one), "this is no TOML"]


class Process:
    """What the gateway's process has, as the system tells it."""

    def __init__(self, gateway: Gateway) -> None:
        self._folder = Path("/proc", str(gateway.process.pid))

    @property
    def descriptors(self) -> int:
        return len(os.listdir(self._folder / "fd"))

    def settle(self, gateway: Gateway) -> None:
        """Waits until what was replaced is closed: only the streams' own backend still has a task."""
        until(lambda: counted(gateway, "ghostllm_tasks") < 60, "what was replaced is closed")

    @property
    def memory(self) -> int:
        """Bytes that are its own."""
        return int((self._folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.wide
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.timeout(240)
def test_reloads_under_load(fakes: Fakes) -> None:
    texts = variants(fakes)
    fakes.primary.script({"fault": "wait", "fault_gate": "go", "at": 2, "times": None})
    with Gateway(base(fakes, server={"listen": ["127.0.0.1:0"]}, log={"access": False})) as gateway:
        process = Process(gateway)
        with Crowd(gateway) as crowd, gateway.open() as admin, gateway.open() as user:
            for _ in range(STREAMS):
                crowd.send(body("m")).read_until(TEXT[0].encode())

            def some(numbers: range) -> None:
                for number in numbers:
                    gateway.path.write_text(texts[number % 4])
                    answer = admin.ask(ASK)
                    assert answer.status == (422 if number % 2 else 200), answer.body
                    if number % 20 == 0:
                        assert whole(user.ask(OTHER)) == WHOLE

            some(range(WARM_UP))
            process.settle(gateway)
            before, memory = process.descriptors, process.memory
            some(range(WARM_UP, TIMES))
            until(lambda: process.descriptors <= before, "no descriptor is left behind")
            process.settle(gateway)
            grown = process.memory - memory
            assert grown < MOST_GROWTH, grown
            for outcome in ("applied", "refused"):
                assert counted(gateway, "ghostllm_config_reloads_total", outcome=outcome) == TIMES / 2
            fakes.primary.release("go")
            assert [whole(answer) for answer in crowd.answers()] == [WHOLE] * STREAMS


def test_signals_that_pile_up(fakes: Fakes) -> None:
    settings: Settings = base(fakes)
    with Gateway(settings) as gateway:
        for number in range(100):
            gateway.configure(changed(settings, models=[model(f"m{number}", "primary")]))
            gateway.process.send_signal(signal.SIGHUP)
        until(lambda: gateway.chat("m99").status == 200, "the last one holds")
        until(lambda: not gateway.over and event(gateway, "configuration applied"), "it is told")
        assert not event(gateway, "configuration not applied")
