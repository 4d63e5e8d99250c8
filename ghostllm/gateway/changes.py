"""Which requests change what runs, and what is told of them in the audit log.

Told by the route table: whatever below `/admin/` takes another method than GET is an operator's action, so
that a new route cannot forget to say so; so are the few routes of Ollama's that manage models.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from ghostllm import jsonx
from ghostllm.gateway.routes import Route
from ghostllm.message import Body, Exchange
from ghostllm.state.audit import Action

READING = frozenset(("GET", "HEAD", "OPTIONS"))
MANAGING = frozenset(("ollama_pull", "ollama_copy", "ollama_delete"))
LARGEST_BODY = 64 * 1024
LONGEST_TEXT = 200
MOST_MEMBERS = 50
DEEPEST = 4
HIDDEN = "***"

_SECRET = re.compile(r"key|secret|token|passw|credential|auth|cookie|headers", re.IGNORECASE)
"""Members whose values nobody is shown. Too many rather than too few: what is hidden can be looked up."""
_PLAIN = frozenset(("tokens_per_minute", "cache_tokens", "key_id", "max_tokens", "keys"))


def audited(routes: Iterable[Route]) -> frozenset[str]:
    """The names of the routes that can change what runs."""
    return frozenset(
        route.name
        for route in routes
        if not READING.issuperset(route.handlers)
        and (route.path.startswith("/admin/") or route.name in MANAGING)
    )


def action_of(exchange: Exchange) -> Action | None:
    """What an exchange of such a route was; None if it only read."""
    request, error = exchange.request, exchange.error
    if request.method in READING:
        return None
    status = exchange.status or None
    if status is not None and status < 400 and exchange.outcome == "ok":
        outcome = "done"
    elif status in (401, 403):
        outcome = "refused"
    else:
        outcome = "failed"
    return Action(
        time=time.time(),
        who=exchange.identity.key,
        peer=request.peer,
        action=f"{request.method} {exchange.route}",
        target=request.path[:LONGEST_TEXT],
        outcome=outcome,
        status=status,
        request=exchange.request_id,
        error=error.message[:LONGEST_TEXT] if error is not None and outcome != "done" else "",
        changed=None if outcome == "refused" else asked_for(request.body, request.query),
    )


def asked_for(body: Body, query: str) -> Any:
    """What a request wanted to have changed, without its secrets."""
    told: dict[str, Any] = {}
    if query:
        try:
            told["query"] = shown(dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_MEMBERS)))
        except ValueError:
            told["query"] = f"{len(query)} characters"
    if body:
        told["body"] = f"{len(body)} bytes"
        if len(body) <= LARGEST_BODY:
            try:
                told["body"] = shown(jsonx.loads(body))
            except jsonx.DecodeError:
                pass
    return told or None


def shown(value: Any, depth: int = 0) -> Any:
    """JSON as it may be shown: the values of members that sound like secrets are stars, the rest is cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}… ({len(value)} characters)"
    if isinstance(value, (list, dict)) and depth >= DEEPEST:
        return f"{len(value)} of them"
    if isinstance(value, list):
        return [shown(item, depth + 1) for item in value[:MOST_MEMBERS]]
    if isinstance(value, Mapping):
        members = list(value.items())[:MOST_MEMBERS]
        return {
            name[:LONGEST_TEXT]: HIDDEN if _hides(name, item) else shown(item, depth + 1)
            for name, item in members
        }
    return value


def _hides(name: str, value: Any) -> bool:
    """A number or a truth value is no secret, and references to one (env:NAME) are there to be shown."""
    if value is None or isinstance(value, (int, float)) or name.lower() in _PLAIN:
        return False
    if isinstance(value, str) and value.startswith(("env:", "file:")):
        return False
    return _SECRET.search(name) is not None
