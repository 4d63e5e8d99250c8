"""Roles: which groups of routes they may use, and with which models.

A *group* is what a request does, as far as permissions tell requests apart (`config.identity.Group`). Every
route has one by its name and the method; what has none is refused when the table is made, not when it is
asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ghostllm.config.identity import Group, Role
from ghostllm.policy.grants import Grants

OPEN = ""
"""The group of what nobody needs a permission for."""

_USING: tuple[Group, ...] = (
    "chat",
    "embeddings",
    "rerank",
    "audio",
    "images",
    "moderations",
    "files",
    "models",
)

BUILT_IN = (
    Role(name="admin", allow=("*",)),
    Role(name="operator", allow=(*_USING, "models:write", "metrics", "admin:read", "admin:write")),
    Role(name="user", allow=_USING),
    Role(name="viewer", allow=("models", "metrics", "admin:read")),
)

_GROUP_OF = {
    **dict.fromkeys(
        ("chat", "completions", "messages", "count_tokens", "responses", "response", "input_tokens",
         "ollama_chat", "ollama_generate"),
        "chat",
    ),
    **dict.fromkeys(("embeddings", "ollama_embed", "ollama_embeddings"), "embeddings"),
    **dict.fromkeys(("files", "batches"), "files"),
    **dict.fromkeys(("models", "model", "ollama_tags", "ollama_ps", "ollama_show"), "models"),
    **dict.fromkeys(("ollama_pull", "ollama_copy", "ollama_delete"), "models:write"),
    **{name: name for name in ("rerank", "audio", "images", "moderations", "metrics")},
    **dict.fromkeys(("health", "ready", "version", "ollama_version", "root", "openapi"), OPEN),
}  # fmt: skip
_KEY_ROUTES = frozenset(("admin_keys", "admin_key"))


def group_of(route: str, method: str) -> str:
    """The group of a route, by its name in the table, and a method; OPEN where none is needed. For the
    table's making, not for each request. Raises LookupError for a route that has none.
    """
    if route in _KEY_ROUTES:
        return "admin:keys"
    if route.startswith("admin_"):
        return "admin:read" if method in ("GET", "HEAD") else "admin:write"
    group = _GROUP_OF.get(route)
    if group is None:
        raise LookupError(f"the route {route!r} is in no group of permissions")
    return group


class RoleBook:
    """The roles that there are: the built-in ones and those of the configuration."""

    def __init__(self, own: Iterable[Role] = ()) -> None:
        self._roles = {role.name: role for role in (*own, *BUILT_IN)}
        self._grants: dict[tuple[tuple[str, ...], tuple[str, ...]], Grants] = {}

    def __repr__(self) -> str:
        return f"<RoleBook {' '.join(self._roles)}>"

    def __contains__(self, name: object) -> bool:
        return name in self._roles

    @property
    def names(self) -> list[str]:
        return sorted(self._roles)

    def grants(self, roles: Sequence[str], models: Sequence[str] = ()) -> Grants:
        """What `roles` permit together, confined to `models`. One that does not exist permits nothing."""
        key = (tuple(roles), tuple(models))
        grants = self._grants.get(key)
        if grants is None:
            grants = Grants((self._roles[name] for name in roles if name in self._roles), models)
            if len(self._grants) < 10_000:  # tokens bring combinations of their own
                self._grants[key] = grants
        return grants


def may_manage(grants: Grants) -> bool:
    """What `Identity.manage` stands for: it may have models pulled and deleted, and change what runs."""
    return grants.allow("models:write") and grants.allow("admin:write")
