"""What a start loads: what only some gateways come to need is loaded when they do."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = (
    "ghostllm.api.canonical", "ghostllm.api.rescue", "ghostllm.api.translation", "ghostllm.app.answer_life",
    "ghostllm.app.cluster_life", "ghostllm.backends.anthropic", "ghostllm.backends.gguf",
    "ghostllm.backends.ollama", "ghostllm.cache.answers", "ghostllm.policy.tokens",
    "ghostllm.wire.h1_unusual", "cryptography", "email.utils", "h11", "jwt", "redis", "yaml",
)  # fmt: skip


@pytest.mark.parametrize("module", ["ghostllm.app.process", "ghostllm.gateway.gateway"])
def test_a_start_loads_nothing_that_few_need(module: str) -> None:
    said = f"import sys, {module}; print(*sorted({set(LATER)!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60)
    assert (found.stdout.strip(), found.returncode) == ("", 0), found.stderr


def test_an_address_is_listened_on_without_a_resolver() -> None:
    said = (
        "import sys; from ghostllm.net.server import _listening_socket as listen; "
        "listen('127.0.0.1', 0, shared=False).close(); print('encodings.idna' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60)
    assert (found.stdout.strip(), found.returncode) == ("False", 0), found.stderr
