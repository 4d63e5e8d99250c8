"""A peer for `ghostctl` that answers what a test tells it to, in bytes."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading


@contextlib.contextmanager
def peer(answers):
    """One connection at a time. answers: path -> bytes, or status and JSON. Yields its URL, the requests."""
    heads = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                if not head:
                    return
                length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
                total = head.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
                while len(head) < total:
                    head += connection.recv(65536)
                heads.append(head.decode())
                connection.sendall(encoded(answers[head.split()[1].decode()]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
    finally:
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname()).close()
        thread.join()
        listener.close()


def encoded(answer):
    if isinstance(answer, bytes):
        return answer
    status, value = answer
    body = json.dumps(value).encode()
    return (
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        + body
    )
