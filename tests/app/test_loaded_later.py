"""What a start leaves out is loaded soon after it, and not by whoever needs it first."""

from __future__ import annotations

import subprocess
import sys

SAID = """
import importlib, pkgutil, sys
import ghostllm.api, ghostllm.app.process, ghostllm.backends.anthropic, ghostllm.backends.ollama
from ghostllm.api import translators
translators.load()
for found in pkgutil.walk_packages(ghostllm.api.__path__, "ghostllm.api."):
    if found.name not in sys.modules:
        print(found.name.removeprefix("ghostllm.api."))
"""

OTHERS = {"choices", "openai.vectors", "recorded", "recording"} | {
    f"{dialect}.recorded" for dialect in ("anthropic", "ollama", "openai", "responses")
}
"""Of the cache, and of what is rarely asked for."""


def test_all_that_translates_is_loaded_with_it() -> None:
    found = subprocess.run([sys.executable, "-c", SAID], capture_output=True, text=True, timeout=60)
    assert (found.returncode, set(found.stdout.split())) == (0, OTHERS), found.stderr
