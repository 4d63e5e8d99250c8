"""A real Ollama server behind the gateway: `scripts/real-ollama` installs one, makes the model, runs this."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.real.contract import COUNT, Contract, Real

pytestmark = pytest.mark.real
URL = os.environ.get("REAL_OLLAMA_URL", "")


@pytest.fixture(scope="module")
def real() -> Iterator[Real]:
    if not URL:
        pytest.skip("no Ollama server was given: run scripts/real-ollama (needs Go and a C++ compiler)")
    with Gateway({"backends": [{"name": "ollama", "kind": "ollama", "url": URL}]}) as gateway:
        yield from Real.through(gateway, os.environ["REAL_OLLAMA_MODEL"])


class TestOllama(Contract):
    """Everything, natively spoken to."""


def test_a_client_that_leaves_gives_the_only_slot_to_the_next(real: Real) -> None:
    """The server computes one request at a time (scripts/real-ollama says so): the second is answered in time
    only if the first was stopped.
    """
    stream = real.complete(COUNT, stream=True, max_tokens=100_000)
    next(stream)
    stream.close()
    assert real.chat(max_tokens=2).usage.completion_tokens == 2
    until(
        lambda: any(record.get("outcome") == "cancelled" for record in real.gateway.records),
        "the log says so",
    )
