"""What stands behind the gateway: how each kind of server is asked, judged and found.

profile: the data in which servers of one dialect differ. translator: prepares calls for one backend and reads
its answers (`ports.Translator`). inventory: the models a backend says it has.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ghostllm.backends.detect import PORTS, Found, find_local, identify
from ghostllm.backends.openai import OpenAIBackend
from ghostllm.backends.profiles import LLAMACPP, OPENAI, OWN, PROFILES
from ghostllm.config.schema import BackendConfig
from ghostllm.message import Pairs
from ghostllm.ports import Translator

__all__ = [
    "PORTS", "Found", "OpenAIBackend", "base_url", "find_local", "identify", "translator",
]  # fmt: skip


def translator(config: BackendConfig, event_limit: int) -> Translator:
    """event_limit: bytes of the largest stream event. A backend of kind "auto" that nobody has looked at is
    taken for an OpenAI-compatible one; a GGUF file is served by llama.cpp.
    """
    key = config.api_key.reveal() if config.api_key is not None else None
    headers: Pairs = tuple(
        (name.lower().encode("ascii"), value.encode()) for name, value in config.headers.items()
    )
    if config.kind == "ollama":
        from ghostllm.backends.ollama import OllamaBackend  # here: who has none pays nothing for it

        return OllamaBackend(config.name, api_key=key, headers=headers, event_limit=event_limit)
    if config.kind == "anthropic":
        from ghostllm.backends.anthropic import AnthropicBackend  # likewise

        return AnthropicBackend(config.name, api_key=key, headers=headers, event_limit=event_limit)
    profile = LLAMACPP if config.kind == "gguf" else PROFILES.get(config.kind, OPENAI)
    if config.kind == "openai" and config.url.startswith("http://"):
        profile = OWN
    return OpenAIBackend(
        profile, config.name, api_key=key, headers=headers, url=config.url, event_limit=event_limit
    )


def base_url(config: BackendConfig) -> str:
    """What request paths are put behind. OpenAI's dialect: the base that SDKs mean, so a bare host gets
    `/v1`. Ollama: its root, also where the URL was copied with the path of one of its APIs. Anthropic's: what
    stands before `/v1`, as its SDKs mean it.
    """
    url = config.url.rstrip("/")
    if config.kind == "ollama":
        return url.removesuffix("/v1").removesuffix("/api")
    if config.kind == "anthropic":
        return url.removesuffix("/messages").removesuffix("/v1")
    return url if urlsplit(url).path else f"{url}/v1"
