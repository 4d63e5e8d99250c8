"""Ollama's answers that are kept to be given again: lines as the whole answer that they tell, and a whole
answer as lines.

Durations are not told again: they are those of another request, and nothing was computed for this one.
"""

from __future__ import annotations

from typing import Any

from ghostllm import jsonx
from ghostllm.api.recorded import CREATED, Unclear

DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")

SOUND = ("stop", "length")

_OUTSIDE = ("response", "thinking")
_TEXTS = ("content", "response", "thinking")
_ROWS = ("tool_calls", "logprobs")


def assembled(stream: bytes) -> dict[str, Any]:
    """The whole answer. Raises Unclear for one without its end."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {}
    texts: dict[str, list[str]] = {}
    rows: dict[str, list[Any]] = {}
    lines = [line for line in stream.split(b"\n") if line and not line.isspace()]
    for line in jsonx.loads(b"[%b]" % b",".join(lines)):
        if "error" in line:
            raise Unclear("an error")
        if "message" in line:
            message |= {name: value for name, value in line["message"].items() if value}
        for said in (line.get("message") or {}, line):
            for name in _TEXTS:
                if name in said:
                    texts.setdefault(name, []).append(said[name] or "")
            for name in _ROWS:
                if said.get(name):
                    rows.setdefault(name, []).extend(said[name])
        whole.update(line)
        if line.get("done") is True:
            break
    else:
        raise Unclear("no end")
    said = {name: "".join(pieces) for name, pieces in texts.items()}
    if "message" not in whole:
        return {**whole, **said, **rows}
    tokens = {name: rows.pop(name) for name in ("logprobs",) if name in rows}
    return {**whole, "message": {**message, **said, **rows}, **tokens}


def is_sound(whole: dict[str, Any]) -> bool:
    if "embeddings" in whole or "embedding" in whole:
        return bool(whole.get("embeddings") or whole.get("embedding"))
    return whole.get("done") is True and whole.get("done_reason") in SOUND


def streamed(whole: dict[str, Any]) -> bytes:
    """Two lines: what is said, and the end."""
    frame: dict[str, Any] = {name: whole[name] for name in ("model", "created_at") if name in whole}
    said: dict[str, Any]
    rest: dict[str, Any]
    if "message" in whole:
        said = {"message": whole["message"]}
        rest = {"message": {"role": "assistant", "content": ""}}
    else:
        said = {name: whole[name] for name in _OUTSIDE if name in whole}
        rest = {"response": ""}
    if "logprobs" in whole:
        said["logprobs"] = whole["logprobs"]
    told = (*frame, *said, "done")
    rest |= {name: value for name, value in whole.items() if name not in told}
    first: dict[str, Any] = {**frame, **said, "done": False}
    last: dict[str, Any] = {**frame, **rest, "done": True}
    return jsonx.dumps(first) + b"\n" + jsonx.dumps(last) + b"\n"


def mark(whole: dict[str, Any]) -> None:
    """Puts a mark where its time is, and takes the durations out."""
    if "done" in whole:
        whole["created_at"] = CREATED
    for name in DURATIONS:
        whole.pop(name, None)
