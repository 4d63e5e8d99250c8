"""Which beginnings of prompts each backend has probably cached.

A rendered prompt is cut into blocks, and each block's hash takes in the one before: equal hashes mean equal
prompts up to there. Per backend the index keeps the most recent blocks, as many as its real cache holds.
The index is a guess that steers; no answer depends on it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ghostllm import jsonx

BLOCK = 1024
"""Bytes in a block, about 256 tokens. Blocks of 256 bytes double the cost of hashing and find little more."""

Chain = Sequence[int]
"""The block hashes of one prompt, first block first."""

# Clients move this marker to the newest message on every turn; the text it marks stays what it was.
_MARKER = re.compile(rb',"cache_control":\{[^{}]*\}')


def rendered(fields: Mapping[str, Any]) -> bytes:
    """What of a request's JSON a backend turns into its prompt, in the order in which templates do: tools,
    system text, then every message. A longer conversation begins with the bytes of the shorter one.
    """
    parts = [_json(fields[name]) for name in ("tools", "system", "instructions") if fields.get(name)]
    for name in ("messages", "input", "prompt"):
        value = fields.get(name)
        if isinstance(value, str):
            parts.append(value.encode("utf-8", "replace"))
        elif isinstance(value, list):
            parts.extend(map(_json, value))
    prompt = b"\n".join(parts)
    return _MARKER.sub(b"", prompt) if b'"cache_control"' in prompt else prompt


def _json(value: Any) -> bytes:
    try:
        return jsonx.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return b""  # nested deeper than can be written: worth no guess


def chain(prompt: bytes, *salt: str) -> list[int]:
    """Hashes of the full blocks of a prompt. salt: whatever else must be equal for a cache to be shared:
    model, adapter, and the tenant wherever the backends keep tenants apart (otherwise one could learn
    another's prompts by timing).

    Python's own hash of bytes (SipHash, keyed anew in every process) costs a quarter of BLAKE2b here, and
    nobody outside can aim collisions at it. The hashes mean nothing in another process.
    """
    before = hash(salt)
    view = memoryview(prompt)
    blocks = []
    for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
        before = hash((before, hash(view[start : start + BLOCK])))
        blocks.append(before)
    return blocks


@dataclass(slots=True, frozen=True)
class Inserted:
    """What one insertion changed, so that it can be undone. evicted: oldest first."""

    added: tuple[int, ...]
    evicted: tuple[int, ...]


class PrefixIndex:
    """Per backend the hashes in order of use, bounded; for all of them together, who holds which hash.

    A backend that was not added has no capacity and holds nothing.
    """

    def __init__(self) -> None:
        self._held: dict[str, OrderedDict[int, None]] = {}
        self._capacity: dict[str, int] = {}
        self._bit: dict[str, int] = {}
        self._holders: dict[int, int] = {}  # hash -> bit mask of backends

    def __repr__(self) -> str:
        sizes = " ".join(f"{name}={len(held)}/{self._capacity[name]}" for name, held in self._held.items())
        return f"<PrefixIndex {sizes}>"

    def blocks(self, backend: str) -> list[int]:
        """What a backend is thought to hold, least recently used first."""
        return list(self._held.get(backend, ()))

    def resize(self, backend: str, capacity: int) -> None:
        """Adds a backend, or changes how many blocks it holds. Too small costs far more than too large: a
        quarter of the true size doubled the wait in simulation, eight times the size added a fifth.
        """
        if backend not in self._held:
            taken = set(self._bit.values())
            self._bit[backend] = next(1 << at for at in range(len(taken) + 1) if 1 << at not in taken)
            self._held[backend] = OrderedDict()
        self._capacity[backend] = capacity
        self._shrink(backend)

    def forget(self, backend: str) -> None:
        """Its cache is gone: it restarted, reloaded the model, or slept."""
        held = self._held.get(backend, OrderedDict())
        self._release(backend, held)
        held.clear()

    def drop(self, backend: str) -> None:
        """The backend itself is gone."""
        self.forget(backend)
        for table in (self._held, self._capacity, self._bit):
            table.pop(backend, None)

    def match(self, blocks: Chain) -> dict[str, int]:
        """For each backend, how many blocks of the beginning it holds. What follows a gap counts for nothing,
        as in the caches themselves.
        """
        depths = dict.fromkeys(self._bit.values(), len(blocks))
        mask = sum(depths)
        for depth, block in enumerate(blocks):
            held = self._holders.get(block, 0) & mask
            lost = mask ^ held
            while lost:
                bit = lost & -lost
                depths[bit] = depth
                lost ^= bit
            mask = held
            if not mask:
                break
        return {backend: depths[bit] for backend, bit in self._bit.items()}

    def insert(self, backend: str, blocks: Chain) -> Inserted:
        """Called when a prompt is dispatched, not when it is answered: followers come within milliseconds."""
        held = self._held.get(backend)
        if held is None:
            return Inserted((), ())
        bit = self._bit[backend]
        added = []
        # Leaf first, so that the head is the most recent: evicting a head strands all that hangs on it.
        for block in reversed(blocks[: self._capacity[backend]]):
            if block in held:
                held.move_to_end(block)
            else:
                held[block] = None
                self._holders[block] = self._holders.get(block, 0) | bit
                added.append(block)
        return Inserted(tuple(added), self._shrink(backend))

    def undo(self, backend: str, change: Inserted) -> None:
        """The backend never took the prompt: what the insertion added goes, what it pushed out returns."""
        held = self._held.get(backend)
        if held is None:
            return
        gone = [block for block in change.added if block in held]
        for block in gone:
            del held[block]
        self._release(backend, gone)
        for block in reversed(change.evicted):
            if len(held) >= self._capacity[backend]:
                break
            if block not in held:
                held[block] = None
                held.move_to_end(block, last=False)
                self._holders[block] = self._holders.get(block, 0) | self._bit[backend]

    def _shrink(self, backend: str) -> tuple[int, ...]:
        held = self._held[backend]
        evicted = tuple(islice(held, max(0, len(held) - self._capacity[backend])))
        for block in evicted:
            del held[block]
        self._release(backend, evicted)
        return evicted

    def _release(self, backend: str, blocks: Iterable[int]) -> None:
        bit = self._bit.get(backend, 0)
        for block in blocks:
            rest = self._holders.get(block, 0) & ~bit
            if rest:
                self._holders[block] = rest
            else:
                self._holders.pop(block, None)
