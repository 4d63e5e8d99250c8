"""Signs of life in a stream whose client waits: for a turn, for a model to be loaded, for a long prompt to be
read, for the next token. None of them is content.
"""

from __future__ import annotations

import re
from time import gmtime

from ghostllm import jsonx
from ghostllm.message import Call

_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
"""Anthropic's own; a comment may stand before it (the SSE standard, and its SDKs read by it)."""

_UNSAFE = re.compile(r"[^ -~]")


def sign(call: Call, note: str, now: int) -> bytes:
    """To be sent between two events, or before the first. note: words for people who look. now: seconds since
    1970. b"" where the call has no stream that could hold one.

    Lines of JSON know no comments, so Ollama's clients get a message that adds nothing, as Ollama itself
    sends while a model thinks unseen.
    """
    if call.door == "ollama":
        return _empty_line(call, now)
    comment = b": %b\n" % _UNSAFE.sub("?", note).encode()
    return comment + (_PING if call.door == "anthropic" else b"\n")


def remark(call: Call, note: str) -> bytes:
    """A comment for people who look; b"" in dialects that have none."""
    return b"" if call.door == "ollama" else b": %b\n\n" % _UNSAFE.sub("?", note).encode()


def _empty_line(call: Call, now: int) -> bytes:
    line: dict[str, object] = {
        "model": call.model,
        "created_at": "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*gmtime(now)[:6]),
    }
    if call.form == "chat":
        line["message"] = {"role": "assistant", "content": ""}
    elif call.form == "generate":
        line["response"] = ""
    else:
        return b""
    return jsonx.dumps({**line, "done": False}) + b"\n"
