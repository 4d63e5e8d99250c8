"""The route table: every path that is served, by which methods, and whether a key is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from ghostllm.errors import GhostError, MethodNotAllowed, NotFound, NotImplementedHere
from ghostllm.ports import Handler

KNOWN_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))

ELSEWHERE = (
    "/v1/assistants", "/v1/threads", "/v1/vector_stores", "/v1/uploads", "/v1/fine_tuning", "/v1/realtime",
    "/v1/videos", "/v1/conversations", "/v1/containers", "/v1/evals", "/v1/skills", "/v1/messages/batches",
    "/api/push", "/api/create", "/api/blobs/",
)  # fmt: skip
"""Paths of the OpenAI and Anthropic APIs that exist, but not here: 501 tells their users more than 404."""


@dataclass(slots=True, frozen=True)
class Route:
    """name: for logs and metrics. prefix: the path goes on (an id follows). open: no key is asked for. door:
    the dialect of its clients; "" where the path does not tell. groups: what each method needs permission
    for, as the gateway that has the route was told.
    """

    name: str
    path: str
    handlers: Mapping[str, Handler]
    prefix: bool = False
    open: bool = False
    door: str = "openai"
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        return ", ".join(
            sorted({*self.handlers, "OPTIONS"} | ({"HEAD"} if "GET" in self.handlers else set()))
        )


class Routes:
    """Finds the route of a path, matched as it is; only the id behind a prefix is percent-decoded."""

    def __init__(self, routes: list[Route]) -> None:
        self.all = routes
        self._exact = {route.path: route for route in routes if not route.prefix}
        self._prefixes = [route for route in routes if route.prefix]

    def find(self, path: str) -> Route | None:
        route = self._exact.get(path)
        if route is None:
            for candidate in self._prefixes:
                if path.startswith(candidate.path) and len(path) > len(candidate.path):
                    return candidate
        return route

    def handler(self, route: Route, method: str) -> Handler:
        """Raises MethodNotAllowed or NotImplementedHere."""
        handler = route.handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            if method not in KNOWN_METHODS:
                raise NotImplementedHere(f"unknown method {method!r}")
            raise MethodNotAllowed(f"{route.path} takes {route.allow}, not {method}", allow=route.allow)
        return handler


def grouped(route: Route, group_of: Callable[[str, str], str]) -> Route:
    """The route with the groups of its methods. Raises LookupError."""
    methods = {*route.handlers, "HEAD"} if "GET" in route.handlers else set(route.handlers)
    groups = {method: group_of(route.name, method) for method in methods}
    if any((group == "") != route.open for group in groups.values()):
        raise LookupError(f"the route {route.name!r} asks for a key and takes no permission, or the reverse")
    return replace(route, groups=groups)


def missing(method: str, path: str) -> GhostError:
    """The error for a path that no route has."""
    if method not in KNOWN_METHODS:
        return NotImplementedHere(f"unknown method {method!r}")
    if path.startswith(ELSEWHERE):
        return NotImplementedHere(f"{path} is not served by this gateway")
    hint = (
        f"; did you mean /v1{path}?"
        if path in ("/chat/completions", "/completions", "/embeddings", "/models")
        else ""
    )
    return NotFound(f"no such path: {path[:200]}{hint}")


def id_behind(prefix: str, path: str) -> str:
    return unquote(path[len(prefix) :])
