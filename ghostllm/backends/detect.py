"""What server answers at an address, by what it says of itself: ports prove nothing, and many imitate Ollama.

`FIRST` and `SECOND` say what is asked, `identify_by` decides from the answers and is pure, `identify` and
`find_local` ask. Only GET is used, without keys. Two rounds: what most servers know first, then what only one
kind of server knows.

Facts: the servers' documentation and code; order and imposters after praetorian-inc/julius (Apache-2.0).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ghostllm import jsonx
from ghostllm.config.kinds import Kind
from ghostllm.errors import UpstreamError

Fetch = Callable[[str, str], Awaitable[tuple[int, dict[bytes, bytes], bytes]]]
"""Takes base URL and path; gives status, headers (lower-case names) and body. Raises OSError or
UpstreamError.
"""

PORTS = (11434, 1234, 8080, 9931, 8000, 30000, 3000, 12434, 1337, 13305, 5001, 5000, 4891, 4000)
HOSTS = ("127.0.0.1", "[::1]")

FIRST = ("/", "/version", "/v1/models")
SECOND = (
    "/api/version", "/api/tags", "/lmstudio-greeting", "/api/extra/version", "/api/v1/health",
    "/engines/v1/models", "/props", "/server_info", "/get_server_info", "/info", "/openapi.json", "/system",
    "/health/readiness", "/.well-known/serviceinfo", "/metrics",
)  # fmt: skip
GHOSTLLM = "GhostLLM"


@dataclass(slots=True, frozen=True)
class Found:
    """A server. url: as a backend's `url` in the configuration. kind: likewise. label: what it is, for
    people.

    locked: it wants a key before it lists its models.
    """

    url: str
    kind: Kind
    label: str
    version: str | None = None
    locked: bool = False

    @property
    def usable(self) -> bool:
        """By a gateway that has no key for it, and will not ask another GhostLLM unasked."""
        return not self.locked and self.label != GHOSTLLM


@dataclass(slots=True, frozen=True)
class Reply:
    """The answer to one probe."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body of a successful answer; None for any other."""
        if self.status != 200 or self.body[:1] not in (b"{", b"["):
            return None
        try:
            return jsonx.loads(self.body)
        except jsonx.DecodeError:
            return None


SILENCE = Reply(0, {}, b"")


class Probe:
    """What one address answered, path by path."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.replies = replies
        self._parsed: dict[str, Any] = {}

    def reply(self, path: str) -> Reply:
        return self.replies.get(path, SILENCE)

    def member(self, path: str, name: str) -> Any:
        """A member of the object at `path`; None wherever there is none."""
        if path not in self._parsed:
            self._parsed[path] = self.reply(path).json
        value = self._parsed[path]
        return value.get(name) if isinstance(value, dict) else None

    def text(self, path: str, name: str) -> str | None:
        value = self.member(path, name)
        return value if isinstance(value, str) else None

    def entries(self, path: str, name: str) -> list[dict[str, Any]]:
        value = self.member(path, name)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

    def owners(self) -> set[Any]:
        owners = (model.get("owned_by") for model in self.entries("/v1/models", "data"))
        return {owner for owner in owners if isinstance(owner, str)}

    def server(self) -> str:
        for reply in self.replies.values():
            if (name := reply.headers.get(b"server")) is not None:
                return name.decode("latin-1").lower()
        return ""


def identify_by(url: str, replies: Mapping[str, Reply], *, last: bool) -> Found | None:
    """The server at `url` (scheme and host) that gave these answers. last: no more answers will come, so a
    server that nothing gives away is one of the generic kind; before that, only an unmistakable one is named.
    """
    probe = Probe(replies)
    locked = probe.reply("/v1/models").status in (401, 403)
    rules = (*EARLY, *LATE) if last else EARLY
    for rule in rules:
        match = rule(probe)
        if match is not None:
            kind, label, version, path = match
            return Found(url + path, kind, label, version, locked)
    if not last:
        return None
    if isinstance(probe.member("/v1/models", "data"), list):
        return Found(url, "openai", "OpenAI-compatible server")
    if locked and b"error" in probe.reply("/v1/models").body:
        return Found(url, "openai", "OpenAI-compatible server", None, locked=True)
    return None


Match = tuple[Kind, str, str | None, str]
"""kind, label, version, and the path of the API below the server's root."""


def _ghostllm(probe: Probe) -> Match | None:
    if probe.text("/version", "name") == "ghostllm" or probe.server().startswith("ghostllm"):
        return "openai", GHOSTLLM, probe.text("/version", "version"), ""
    return None


def _vllm(probe: Probe) -> Match | None:
    owned = any(
        model.get("owned_by") == "vllm" and "max_model_len" in model
        for model in probe.entries("/v1/models", "data")
    )
    metrics = b"\nvllm:" in probe.reply("/metrics").body and probe.text("/version", "version") is not None
    return ("vllm", "vLLM", probe.text("/version", "version"), "") if owned or metrics else None


def _sglang(probe: Probe) -> Match | None:
    static = (probe.member(path, "mem_fraction_static") for path in ("/server_info", "/get_server_info"))
    if "sglang" in probe.owners() or any(value is not None for value in static):
        return (
            "openai",
            "SGLang",
            probe.text("/server_info", "version") or probe.text("/get_server_info", "version"),
            "",
        )
    return None


def _llamacpp(probe: Probe) -> Match | None:
    build = probe.text("/props", "build_info")
    if probe.server().startswith("llama.cpp") or "llamacpp" in probe.owners() or build is not None:
        return "llamacpp", "llama.cpp", build, ""
    return None


def _llama_swap(probe: Probe) -> Match | None:
    return ("openai", "llama-swap", None, "") if "llama-swap" in probe.owners() else None


def _gpt4all(probe: Probe) -> Match | None:
    return ("openai", "GPT4All", None, "") if "humanity" in probe.owners() else None


def _koboldcpp(probe: Probe) -> Match | None:
    family = {
        details.get("family")
        for model in probe.entries("/api/tags", "models")
        if isinstance(details := model.get("details"), dict)
    }
    if probe.text("/api/extra/version", "result") == "KoboldCpp" or "koboldcpp" in family:
        return "openai", "KoboldCpp", probe.text("/api/extra/version", "version"), ""
    return None


def _lemonade(probe: Probe) -> Match | None:
    health = "/api/v1/health"
    if probe.member(health, "version") is not None and "model_loaded" in (probe.reply(health).json or {}):
        return "openai", "Lemonade", probe.text(health, "version"), "/api/v1"
    return None


def _docker_model_runner(probe: Probe) -> Match | None:
    if isinstance(probe.member("/engines/v1/models", "data"), list):
        return "openai", "Docker Model Runner", None, "/engines/v1"
    return None


def _lmstudio(probe: Probe) -> Match | None:
    return (
        ("lmstudio", "LM Studio", None, "")
        if probe.member("/lmstudio-greeting", "lmstudio") is True
        else None
    )


def _ollama(probe: Probe) -> Match | None:
    """Says so, has a version, and every model it has comes with its digest."""
    version = probe.text("/api/version", "version")
    if not probe.reply("/").body.startswith(b"Ollama is running") or version is None:
        return None
    if probe.reply("/api/tags").status != 200:
        return None
    if not all(model.get("digest") for model in probe.entries("/api/tags", "models")):
        return None
    return "ollama", "Ollama", version, ""


def _tgi(probe: Probe) -> Match | None:
    if probe.text("/info", "model_id") is not None and (
        probe.member("/info", "max_batch_total_tokens") is not None
        or probe.member("/info", "docker_label") is not None
    ):
        return "openai", "Text Generation Inference", probe.text("/info", "version"), ""
    return None


def _by_openapi(probe: Probe) -> Match | None:
    """Servers whose own API description gives them away."""
    paths = probe.member("/openapi.json", "paths")
    info = probe.member("/openapi.json", "info")
    title = info.get("title", "") if isinstance(info, dict) else ""
    if (
        isinstance(paths, dict)
        and "/load_model" in paths
        and "/reset" in paths
        and probe.member("/version", "version") is None
    ):
        return "transformers", "transformers serve", None, ""
    if title == "Jan API Server Endpoints":
        return "openai", "Jan", None, ""
    if isinstance(paths, dict) and "/v1/internal/model/info" in paths:
        return "openai", "text-generation-webui", None, ""
    return None


def _localai(probe: Probe) -> Match | None:
    if b"localai_" in probe.reply("/metrics").body or probe.member("/system", "backends") is not None:
        return "openai", "LocalAI", None, ""
    return None


def _tabbyapi(probe: Probe) -> Match | None:
    software = probe.member("/.well-known/serviceinfo", "software")
    if isinstance(software, dict) and software.get("name") == "TabbyAPI":
        return "openai", "TabbyAPI", None, ""
    return None


def _litellm(probe: Probe) -> Match | None:
    version = probe.text("/health/readiness", "litellm_version")
    return ("openai", "LiteLLM", version, "") if version is not None else None


Rule = Callable[[Probe], Match | None]

EARLY: tuple[Rule, ...] = (_ghostllm, _vllm, _sglang, _llama_swap, _gpt4all, _llamacpp)
"""What the first round can prove. None of these is imitated there."""

LATE: tuple[Rule, ...] = (
    _koboldcpp, _lemonade, _docker_model_runner, _lmstudio, _ollama, _tgi, _by_openapi, _localai, _tabbyapi,
    _litellm,
)  # fmt: skip
"""The imitators of Ollama before Ollama."""


async def identify(fetch: Fetch, url: str) -> Found | None:
    """The server at `url`, None if none answers or it is no LLM server. A path in `url` is kept: where it was
    given, the API is known to be there.
    """
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}"
    path = parts.path.rstrip("/")
    try:
        replies = {FIRST[0]: Reply(*await fetch(root, FIRST[0]))}
    except (OSError, UpstreamError):
        return None
    replies |= await _ask(fetch, root, FIRST[1:])
    found = identify_by(root, replies, last=False)
    if found is None:
        replies |= await _ask(fetch, root, SECOND)
        if path and path != "/v1" and replies.get("/v1/models", SILENCE).status != 200:
            replies["/v1/models"] = (await _ask(fetch, root, (path + "/models",))).get(
                path + "/models", SILENCE
            )
        found = identify_by(root, replies, last=True)
    if found is None or not path:
        return found
    return Found(url.rstrip("/"), found.kind, found.label, found.version, found.locked)


async def find_local(fetch: Fetch, ports: Iterable[int] = PORTS, hosts: Iterable[str] = HOSTS) -> list[Found]:
    """The LLM servers on this machine that can be used without a key, GhostLLM itself left out, in the order
    of `ports`.

    A port counts on the first of `hosts` where such a server answers.
    """
    found = await asyncio.gather(*(_find_on(fetch, port, tuple(hosts)) for port in ports))
    return [server for server in found if server is not None and server.usable]


async def _find_on(fetch: Fetch, port: int, hosts: tuple[str, ...]) -> Found | None:
    for host in hosts:
        found = await identify(fetch, f"http://{host}:{port}")
        if found is not None:
            return found
    return None


async def _ask(fetch: Fetch, root: str, paths: Iterable[str]) -> dict[str, Reply]:
    async def ask(path: str) -> Reply:
        try:
            return Reply(*await fetch(root, path))
        except (OSError, UpstreamError):
            return SILENCE

    asked = tuple(paths)
    replies = await asyncio.gather(*(ask(path) for path in asked))
    return dict(zip(asked, replies, strict=True))
