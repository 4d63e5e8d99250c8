"""Ports for what listens, goes away and comes back."""

from __future__ import annotations

import random
import socket
from pathlib import Path

GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, HIGHEST = 20_000, 29_999
"""In this range no known server has its port, which a gateway under test might look at."""


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody listens on, and that the system gives to no outgoing connection meanwhile: of those,
    many are made here, and one of them may even be to a port whose owner is away.
    """
    lowest, end = LOWEST, HIGHEST + 1
    if GIVEN_OUT.exists():
        end = min(end, int(GIVEN_OUT.read_text().split()[0]))
        lowest = min(lowest, end - 1000)
    choice = random.SystemRandom()
    for _ in range(100):
        port = choice.randrange(lowest, end)
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port on {host}")
