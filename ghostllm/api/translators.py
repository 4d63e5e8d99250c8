"""All that translates between dialects, to be loaded at one time. The first call that is translated needs it,
and so does the first stream that may have to be rescued; it takes some 50 ms, for which nobody should wait.
"""

from __future__ import annotations

from types import ModuleType


def load() -> tuple[ModuleType, ...]:
    """They come with what they need themselves. On any thread."""
    from ghostllm.api import estimate_prompt, parameters, rescue
    from ghostllm.api.anthropic import request_reader as anthropic
    from ghostllm.api.ollama import request_reader as ollama
    from ghostllm.api.openai import kept, request_writer
    from ghostllm.api.openai import request_reader as openai
    from ghostllm.api.responses import answer_writer
    from ghostllm.api.responses import request_reader as responses

    return (
        anthropic, answer_writer, estimate_prompt, kept, ollama, openai, parameters, request_writer, rescue,
        responses,
    )  # fmt: skip
