"""What an answer cost that did not come to its end."""

from __future__ import annotations

import time
from dataclasses import replace

from ghostllm.api.ids import mint
from ghostllm.message import Usage
from ghostllm.ports import Answer


def spent(answer: Answer) -> Usage:
    """A copy of its figures. Most servers count at the end only: then the pieces that came are counted here,
    which are about as many as there were tokens, and marked as an estimate.
    """
    usage = replace(answer.usage, partial=True)
    if usage.completion is None:
        from ghostllm.api.told import Telling  # here: see api.openai.door

        if isinstance(answer, Telling):
            usage.completion = answer.told(int(time.time()), mint).said.deltas
            usage.estimated = True
    return usage
