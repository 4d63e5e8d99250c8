"""Large requests, twenty megabytes of images and a prompt of 200 KB: what one costs in CPU and memory."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

from bench.peers import Peer
from bench.processes import cpu_seconds, forget_peak, peak_mb, resident_mb
from bench.speech import compact


@dataclass(frozen=True)
class Body:
    """name: in figures. repeats: requests, one after the other, so that CPU time can be told."""

    name: str
    text: bytes
    repeats: int


def images(megabytes: int) -> bytes:
    """A chat with five images as data URLs, as vision clients send them; random, since pictures do not
    compress.
    """
    size = megabytes * 1_000_000 // 5 * 3 // 4
    chance = random.Random(1)
    parts = [
        {
            "type": "image_url",
            "image_url": {
                "url": "data:image/png;base64," + base64.b64encode(chance.randbytes(size)).decode()
            },
        }
        for _ in range(5)
    ]
    text = {"type": "text", "text": "What is on these pictures?"}
    return compact({"model": "bench", "messages": [{"role": "user", "content": [text, *parts]}]})


def prompt(kilobytes: int) -> bytes:
    """A long document with line breaks and quotation marks: about one character in forty is escaped."""
    line = 'She said, "Tell me how things are", and then she went on for a while.\n'
    text = line * (kilobytes * 1000 // (len(line) + 3))
    return compact({"model": "bench", "messages": [{"role": "user", "content": text}]})


def both(repeats: int) -> list[Body]:
    """repeats: of the images; the prompt's are ten times as many."""
    return [Body("20mb", images(20), repeats), Body("200kb", prompt(200), 10 * repeats)]


def measure(peer: Peer, body: Body) -> dict[str, float]:
    """CPU milliseconds a request, and by how many MB the peak of memory lies above what it had before."""
    if peer.process is None:
        return {}
    pid = peer.process.pid
    forget_peak(pid)
    resident, cpu = resident_mb(pid), cpu_seconds(pid)
    for _ in range(body.repeats):
        answer = peer.ask(body.text)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{peer.name} answered a request of {len(body.text)} B {answer[:200]!r}")
    spent = cpu_seconds(pid) - cpu
    return {
        f"cpu_ms_{body.name}": spent / body.repeats * 1e3,
        f"peak_mb_{body.name}": peak_mb(pid) - resident,
    }


def measure_all(peer: Peer, bodies: list[Body]) -> dict[str, float]:
    return {name: value for body in bodies for name, value in measure(peer, body).items()}
