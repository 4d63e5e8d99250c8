"""Gateways for LLM servers, each as it is meant to be run, with what it always does.

GhostLLM runs with key check, limits, metrics and JSON access log on; the others log errors only and check a
key where they insist on one.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import get_args

from bench.peers.peer import CACHE, ROOT, Peer, executable, flow_style, free_port, pip
from ghostllm.config import schema

MODELS = {"bench": "mock", "slow": "mock", "bench-ollama": "mock-ollama", "bench-anthropic": "mock-anthropic"}
COMPILED = ROOT / "build" / "compiled"


class GhostLLM(Peer):
    name = "ghostllm"
    title = "GhostLLM"
    key = "sk-bench-0123456789abcdef0123456789abcdef"
    note = "key check, limits, budget, ledger, metrics, JSON access log on"

    def command(self) -> list[str]:
        keys = "".join(f'[[keys]]\nname = "other-{n}"\nkey = "sk-other-{n}"\n' for n in range(8))
        backends = [("mock", "openai"), ("mock-ollama", "ollama"), ("mock-anthropic", "anthropic")]
        known = get_args(schema.Kind)
        tables = "".join(
            f'[[backends]]\nname = "{name}"\nkind = "{kind}"\nurl = "http://{self.mock}"\n'
            "max_connections = 4096\n"
            for name, kind in backends
            if kind in known
        )
        models = "".join(
            f'[[models]]\nname = "{model}"\ntargets = [{{ backend = "{backend}" }}]\n'
            "price = { input = 0.5, output = 1.5 }\n"
            for model, backend in MODELS.items()
        )
        (self.folder / "ghostllm.toml").write_text(f"""
            [server]
            listen = ["{self.address}"]
            [log]
            format = "json"
            access = true
            [state]
            file = "{self.folder / "state.db"}"
            {tables}
            {keys}
            [[keys]]
            name = "bench"
            key = "{self.key}"
            budget = {{ day = 1_000_000, month = 10_000_000 }}
            [keys.limits]
            requests_per_minute = 1_000_000_000
            tokens_per_minute = 1_000_000_000
            concurrent = 100_000
            {models}
            """)
        return [sys.executable, "-m", "ghostllm", "serve", "--config", str(self.folder / "ghostllm.toml")]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


class Compiled(GhostLLM):
    name = "ghostllm-compiled"
    title = "GhostLLM, compiled"
    install = "scripts/build-compiled build/compiled"

    @classmethod
    def program(cls) -> str | None:
        return str(COMPILED) if COMPILED.is_dir() else None

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(COMPILED)}


class VllmRouter(Peer):
    name = "vllm-router"
    note = "Rust; no key, one Prometheus port"
    install = pip("peers", "vllm-router")

    @classmethod
    def program(cls) -> str | None:
        return executable("vllm-router")

    def command(self) -> list[str]:
        return [self.found(), "--host", "127.0.0.1", "--port", str(self.port), "--worker-urls",
                f"http://{self.mock}", "--policy", "round_robin", "--log-level", "error",
                "--prometheus-port", str(free_port()), "--max-concurrent-requests", "16000",
                "--queue-size", "16000"]  # fmt: skip


class Smg(Peer):
    """Shepherd Model Gateway, which was SGLang's router."""

    name = "smg"
    note = "Rust; no key, one Prometheus port"
    install = pip("peers", "smg")

    @classmethod
    def program(cls) -> str | None:
        return executable("smg")

    def command(self) -> list[str]:
        return [self.found(), "launch", "--host", "127.0.0.1", "--port", str(self.port), "--worker-urls",
                f"http://{self.mock}", "--backend", "openai", "--policy", "round_robin", "--log-level",
                "error", "--prometheus-port", str(free_port()), "--max-concurrent-requests", "16000",
                "--queue-size", "16000", "--history-backend", "none"]  # fmt: skip


class Portkey(Peer):
    """It has no configuration for one upstream: each request says where it goes."""

    name = "portkey"
    title = "Portkey"
    note = "Node; target in the request's headers"
    install = (
        "mkdir -p .cache/portkey && cd .cache/portkey && npm init -y && "
        "npm pkg set overrides.@hono/node-server=1.13.8 && npm install @portkey-ai/gateway"
    )  # with 1.19 it answers 500 to every stream: `TypeError: immutable`
    heavy = True

    @classmethod
    def program(cls) -> str | None:
        script = CACHE / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
        return str(script) if script.exists() and shutil.which("node") else None

    def command(self) -> list[str]:
        return [shutil.which("node") or "node", self.found(), "--headless", f"--port={self.port}"]

    def environment(self) -> dict[str, str]:
        return {"NODE_ENV": "production"}

    def headers(self) -> dict[str, str]:
        return {
            "Authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://{self.mock}/v1",
        }


class LiteLLM(Peer):
    name = "litellm"
    title = "LiteLLM"
    key = "sk-bench"
    note = "Python; master key"
    install = pip("litellm", "litellm[proxy]")
    heavy = True

    @classmethod
    def program(cls) -> str | None:
        return executable("litellm", "litellm")

    def command(self) -> list[str]:
        models = [
            {"model_name": name, "litellm_params": {
                "model": f"openai/{name}", "api_base": f"http://{self.mock}/v1", "api_key": "none"}}
            for name in ("bench", "slow")
        ]  # fmt: skip
        config = {
            "model_list": models,
            "general_settings": {"master_key": self.key},
            "litellm_settings": {"telemetry": False},
        }
        (self.folder / "litellm.yaml").write_text(flow_style(config))
        return [self.found(), "--config", str(self.folder / "litellm.yaml"), "--host", "127.0.0.1", "--port",
                str(self.port), "--num_workers", "1"]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """No download of a price list at the start."""
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
