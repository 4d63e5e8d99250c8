"""llama.cpp as the gateway runs it itself (`--gguf`), and seen from behind while clients come and go."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import openai
import pytest

from tests.fakes import raw
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.real.contract import COUNT, SUM, Contract, Real
from tests.real.local import MODEL, LlamaCpp, require

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    require()
    with Gateway({}, arguments=("--gguf", str(MODEL))) as gateway:
        yield from Real.through(gateway, "smollm2")


class TestEmbedded(Contract):
    """Everything, on the gateway's own child process."""

    def test_too_long_a_prompt(self, real: Real) -> None:
        with pytest.raises(openai.BadRequestError) as caught:
            real.chat(messages=[{"role": "user", "content": "word " * 5000}])
        assert caught.value.code == "context_length_exceeded"


# --- the child's life, with the gateway around it


def child_of(gateway: Gateway) -> int:
    ready = [re.search(r"ready after .* process (\d+)", record.get("line", "")) for record in gateway.records]
    return int([found[1] for found in ready if found][-1])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def own() -> Iterator[Real]:
    """A gateway for one test, with the model loaded."""
    require()
    with Gateway({}, arguments=("--gguf", str(MODEL))) as gateway:
        for real in Real.through(gateway, "smollm2"):
            real.chat(max_tokens=1)
            yield real


def test_a_child_that_dies_in_a_stream_is_replaced_and_the_stream_goes_on(own: Real) -> None:
    pid = child_of(own.gateway)
    stream = own.complete(COUNT, stream=True, max_tokens=120)
    first = next(stream)
    os.kill(pid, signal.SIGKILL)
    rest = list(stream)
    assert {chunk.id for chunk in rest} == {first.id}
    assert [chunk.choices[0].finish_reason for chunk in rest if chunk.choices][-1] in ("length", "stop")
    assert own.chat(max_tokens=2).usage.completion_tokens == 2
    assert child_of(own.gateway) != pid


def test_sigterm_ends_both(own: Real) -> None:
    pid = child_of(own.gateway)
    own.gateway.terminate()
    assert own.gateway.wait(20) == 0
    assert not alive(pid)


def test_a_killed_gateway_leaves_no_model_behind(own: Real) -> None:
    pid = child_of(own.gateway)
    own.gateway.process.kill()
    until(lambda: not alive(pid), "the child is gone")


# --- seen from behind


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaCpp]:
    require()
    server = LlamaCpp()
    yield server
    server.close()


@pytest.fixture(scope="module")
def before(server: LlamaCpp) -> Iterator[Real]:
    backend = {"name": "real", "kind": "llamacpp", "url": server.url}
    with Gateway({"backends": [backend]}) as gateway:
        yield from Real.through(gateway, "smollm2")


def test_a_server_of_somebody_else_serves_the_same(before: Real) -> None:
    assert "4" in before.chat(messages=SUM, max_tokens=40).choices[0].message.content
    assert [model.id for model in before.sdk.models.list()] == ["smollm2"]


LONG = {"model": "smollm2", "prompt": COUNT, "max_tokens": 1800, "temperature": 0, "ignore_eos": True}


def test_a_client_that_leaves_a_stream_frees_the_slot(before: Real, server: LlamaCpp) -> None:
    released = len(server.released)
    stream = before.complete(COUNT, stream=True, max_tokens=1800, extra_body={"ignore_eos": True})
    next(stream)
    assert server.busy == 1
    stream.close()
    until(lambda: server.busy == 0, "the slot is idle again")
    until(lambda: len(server.released) > released, "llama.cpp has let go")
    assert server.released[-1] < 1000


def test_a_client_that_leaves_before_a_whole_answer_frees_the_slot(before: Real, server: LlamaCpp) -> None:
    """Seen in its log alone: llama.cpp (b11549) looks after the connection only when nobody else has asked it
    anything for a second, so looking at /slots would keep it from looking.
    """
    released = len(server.released)
    with before.gateway.open() as client:
        client.send(raw.request("POST", "/v1/completions", json.dumps(LONG).encode()))
        until(lambda: server.busy == 1, "the model computes")
    until(lambda: len(server.released) > released, "llama.cpp has let go")
    assert server.released[-1] < 1000


def test_a_full_house_does_not_keep_health_checks_out(server: LlamaCpp) -> None:
    """Each open connection holds one of llama.cpp's threads; of its own accord it has too few to answer."""
    origin, prefix = server.url.removeprefix("http://").removesuffix("/v1").split("/", 1)
    body = json.dumps({**LONG, "stream": True}).encode()
    with ExitStack() as clients:
        for _ in range(40):
            client = clients.enter_context(raw.Raw(origin))
            client.send(raw.request("POST", f"/{prefix}/v1/completions", body))
        until(lambda: server.busy == 2, "both slots are at work")
        assert server.look("/health") == {"status": "ok"}
