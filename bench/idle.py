"""Connections that are kept and not used: `python -m bench.idle ADDRESS --connections N`.

Each makes one request, which comes from standard input; then they stay open. Prints a line with the number of
those that have had their answer, waits for SECONDS, and prints how many are still open.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time

from bench.processes import raise_descriptor_limit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    limit = raise_descriptor_limit()
    if args.connections > limit - 50:
        sys.exit(f"{args.connections} connections need more than {limit} descriptors (ulimit -Hn)")
    host, _, port = args.address.rpartition(":")
    request = sys.stdin.buffer.read()
    open_ones = []
    for _ in range(args.connections):
        sock = socket.create_connection((host, int(port)), timeout=30)
        sock.sendall(request)
        if sock.recv(1 << 16).startswith(b"HTTP/1.1 200"):
            open_ones.append(sock)
    print(len(open_ones), flush=True)
    time.sleep(args.seconds)
    print(sum(not _is_closed(sock) for sock in open_ones), flush=True)


def _is_closed(sock: socket.socket) -> bool:
    """Reads what came late of the answer; nothing more to come on an open connection."""
    sock.setblocking(False)
    try:
        while sock.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


if __name__ == "__main__":
    main()
