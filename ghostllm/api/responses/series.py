"""A response's items on their way out: one open at a time, and of an item of text one part at a time.

Every event has a number; that apart, the deltas of a part differ in their text only, so the rest of them is
made once per part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ghostllm import jsonx
from ghostllm.api.canonical import TokenLogprob
from ghostllm.api.responses.output import CALLS, KINDS, Kind, logprob_objects

PREFIXES = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_", "custom_tool_call": "ctc_"}
"""What ids of items begin with."""

_TEXT, _FUNCTION = KINDS["output_text"], KINDS["function_call"]


class Series:
    """Its methods give the bytes of their events in `out`, or return them.

    output: the items so far. item: the open one, the last of them. kind: what is said in it now, if anything.
    status: of the items that end.
    """

    __slots__ = (
        "_frame", "_mint", "_number", "_part", "_said", "item", "kind", "output", "status",
    )  # fmt: skip

    def __init__(self, mint: Callable[[str], str]) -> None:
        self._mint = mint
        self.output: list[dict[str, Any]] = []
        self.item: dict[str, Any] | None = None
        self.kind: Kind | None = None
        self.status = "completed"
        self._part: dict[str, Any] | None = None  # the open one, the last of the item
        self._frame = b""  # a delta of the kind up to its number
        self._said: list[str] = []
        self._number = 0  # of the next event

    def __repr__(self) -> str:
        return f"<Series event {self._number} item {len(self.output)} {self.kind and self.kind.type}>"

    def event(self, name: str, **members: Any) -> bytes:
        body = {"type": name, "sequence_number": self._number, **members}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), jsonx.dumps(body))

    def delta(self, text: str) -> bytes:
        """More of what is said now."""
        self._said.append(text)
        number = self._number
        self._number = number + 1
        return b'%b%d,"delta":%b}\n\n' % (self._frame, number, jsonx.dumps(text))

    def text_with_logprobs(self, text: str, tokens: Sequence[TokenLogprob]) -> bytes:
        assert self._part is not None
        self._said.append(text)
        shown = logprob_objects(tokens)
        self._part["logprobs"].extend(shown)
        return self.event(f"{_TEXT.stem}.delta", **self._places(_TEXT), delta=text, logprobs=shown)

    def enter(self, item: dict[str, Any], out: list[bytes]) -> None:
        """Begins an item, after the end of the one that is open."""
        self.leave(out)
        self.item = {"id": self._mint(PREFIXES[item["type"]]), **item}
        self.output.append(self.item)
        out.append(
            self.event("response.output_item.added", output_index=len(self.output) - 1, item=self.item)
        )

    def enter_part(self, kind: Kind, out: list[bytes]) -> None:
        """Begins a part of the open item, after the end of the one before."""
        self._leave_part(out)
        assert self.item is not None
        part: dict[str, Any] = {"type": kind.type, kind.member: ""}
        if kind is _TEXT:
            part.update(annotations=[], logprobs=[])
        self.item[kind.holder].append(part)
        self._part = part
        out.append(self.event(f"{kind.part}.added", **self._places(kind), part=part))
        self.hear(kind)

    def hear(self, kind: Kind) -> None:
        """Deltas of this kind follow."""
        self.kind = kind
        self._said = []
        name = f"{kind.stem}.delta"
        head = {"type": name, **self._places(kind)}
        if kind is _TEXT:
            head["logprobs"] = []
        self._frame = b'event: %b\ndata: %b,"sequence_number":' % (name.encode(), jsonx.dumps(head)[:-1])

    def leave(self, out: list[bytes]) -> None:
        """Ends the open item, if there is one."""
        item, kind = self.item, self.kind
        if item is None:
            return
        if kind is not None and kind.type in CALLS:
            self._leave_call(kind, item, out)
        else:
            self._leave_part(out)
        if "status" in item:
            item["status"] = self.status
        out.append(self.event("response.output_item.done", output_index=len(self.output) - 1, item=item))
        self.item = self.kind = None

    def abandon(self, out: list[bytes]) -> None:
        """The answer has failed. A call that is open stays so: clients run a tool when they read that its
        call is done.
        """
        self.status = "incomplete"
        if self.item is None or self.kind is None or self.kind.type not in CALLS:
            self.leave(out)
            return
        self.item[self.kind.member] = "".join(self._said)
        if "status" in self.item:
            self.item["status"] = self.status

    def _leave_part(self, out: list[bytes]) -> None:
        kind, part = self.kind, self._part
        if kind is None or part is None:
            return
        part[kind.member] = text = "".join(self._said)
        places = self._places(kind)
        done: dict[str, Any] = {kind.member: text}
        if kind is _TEXT:
            done["logprobs"] = part["logprobs"]
        out.append(self.event(f"{kind.stem}.done", **places, **done))
        out.append(self.event(f"{kind.part}.done", **places, part=part))
        self._part = self.kind = None

    def _leave_call(self, kind: Kind, item: dict[str, Any], out: list[bytes]) -> None:
        if kind is _FUNCTION and not "".join(self._said).strip():
            out.append(self.delta("{}"))  # no arguments at all would be no JSON
        item[kind.member] = text = "".join(self._said)
        out.append(self.event(f"{kind.stem}.done", **self._places(kind), **{kind.member: text}))

    def _places(self, kind: Kind) -> dict[str, Any]:
        """Where the open part, or call, is."""
        assert self.item is not None
        places = {"item_id": self.item["id"], "output_index": len(self.output) - 1}
        if kind.place:
            places[kind.place] = len(self.item[kind.holder]) - 1
        return places
