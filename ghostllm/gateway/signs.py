"""What a stream's client is told beside the answer: that it still waits and for what, and who went on."""

from __future__ import annotations

import time

from ghostllm.api import keepalive
from ghostllm.message import Attempt, Call
from ghostllm.ports import Responder
from ghostllm.routing.admission import Outlook


def sign_of_life(call: Call, outlook: Outlook | None) -> bytes:
    """outlook: of its turn, if it waits for one."""
    note = "waiting"
    if outlook is not None:
        note += f", position {outlook.position}"
        if outlook.seconds is not None:
            note += f", about {outlook.seconds:.0f} s"
    return keepalive.sign(call, note, int(time.time()))


def told_rescue(call: Call, attempt: Attempt, responder: Responder) -> None:
    """The heads of streams that are rescued have long gone: a comment says where it goes on."""
    data = keepalive.remark(call, f"x-ghostllm-backend: {attempt.backend} (rescue)")
    if data:
        responder.write(data)
