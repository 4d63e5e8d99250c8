"""For GHOSTLLM_COMPILE=1 only: a wheel in which the modules of a request's path are C, made by mypyc.

The sources are the same and so is what they do; a request then costs about a third less CPU. All the rest is
in pyproject.toml, and without the variable this file adds nothing to it.
"""

from __future__ import annotations

import os

from setuptools import setup

PATH = (
    "message", "wire/*", "net/client", "net/connection", "net/guests", "net/outbox", "net/pace", "net/pool",
    "net/responder", "net/upstream", "api/estimate", "api/outlay", "api/recording", "api/splice", "api/calls",
    "api/translation", "api/canonical", "api/openai/door",
    "api/openai/errors", "api/openai/events", "api/openai/frame", "api/openai/kept",
    "api/openai/passthrough", "api/openai/reasoning", "api/openai/usage", "api/responses/door",
    "backends/openai", "cache/answers", "cache/key", "cache/memory", "cache/policy", "gateway/*",
    "observe/access", "observe/exposition", "observe/metrics",
    "observe/observer", "observe/render", "observe/recorder", "observe/sink", "observe/timeline",
    "policy/account", "policy/accounts", "policy/anonymous", "policy/authenticator", "policy/budgets",
    "policy/gcra", "policy/grants", "policy/keyhash", "policy/keyless", "policy/keys", "policy/limits",
    "policy/prices", "policy/principal", "policy/roles", "policy/rules", "policy/subjects", "policy/tokens",
    "state/calendar", "state/ledger",
    "routing/admission", "routing/backlog", "routing/balance", "routing/breaker",
    "routing/catalog", "routing/failover", "routing/gate", "routing/health", "routing/latency",
    "routing/lease", "routing/ledger", "routing/plan", "routing/prefix", "routing/retry_budget",
    "routing/router", "routing/screening", "routing/smart", "routing/state", "routing/sticky",
    "routing/upstream",
)  # fmt: skip
"""A class here and its subclasses are compiled together or not at all."""

# Compiled, a `finally` that awaits loses the exception that it was entered with.
LEFT_OUT = ("ghostllm/gateway/pictures.py",)

extensions = []
if os.environ.get("GHOSTLLM_COMPILE") == "1":
    from glob import glob

    from mypyc.build import mypycify

    paths = [path for part in PATH for path in sorted(glob(f"ghostllm/{part}.py")) if path not in LEFT_OUT]
    extensions = mypycify(paths, debug_level="0")

setup(ext_modules=extensions)
