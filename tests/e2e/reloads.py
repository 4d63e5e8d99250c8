"""What the tests of reloading share: a gateway whose file is changed, and told so."""

from __future__ import annotations

import copy
from typing import Any

from tests.e2e.conftest import FORGIVING, Fakes
from tests.e2e.traffic import Headers, backend, model
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway, Settings
from tests.fakes.raw import Answer

CONFIG = "/admin/api/config"


def base(fakes: Fakes, **more: Any) -> Settings:
    """Two backends, and a model on each."""
    return {
        "routing": {**FORGIVING, "balance": "failover", "backoff": 0.01, "keepalive": 0},
        "backends": [backend("primary", fakes.primary), backend("second", fakes.second)],
        "models": [model("m", "primary"), model("n", "second")],
        **more,
    }


def changed(settings: Settings, **sections: Any) -> Settings:
    """A copy with other sections; tables are laid over those that are there."""
    result = copy.deepcopy(settings)
    for name, section in sections.items():
        there = result.get(name)
        both = isinstance(section, dict) and isinstance(there, dict)
        result[name] = {**there, **section} if both else section
    return result


def reload(gateway: Gateway, settings: Settings | None = None, headers: Headers | None = None) -> Answer:
    """Writes the file, has it applied, and gives the answer to that."""
    if settings is not None:
        gateway.configure(settings)
    return gateway.ask("POST", f"{CONFIG}/reload", None, {"x-ghostllm-admin": "1", **(headers or {})})


def applied(gateway: Gateway, settings: Settings, headers: Headers | None = None) -> list[str]:
    """The paths of what has changed by it."""
    answer = reload(gateway, settings, headers)
    assert answer.status == 200, answer.body
    assert answer.json()["applied"] is True, answer.body
    return [change["path"] for change in answer.json()["changes"]]


def rollback(gateway: Gateway, query: str = "", headers: Headers | None = None) -> Answer:
    return gateway.ask(
        "POST", f"{CONFIG}/rollback{query}", None, {"x-ghostllm-admin": "1", **(headers or {})}
    )


def event(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    """The log's records of that name."""
    return [record for record in gateway.records if record["event"] == name]


def logged(gateway: Gateway, name: str, times: int = 1) -> list[dict[str, Any]]:
    """As `event`, waited for."""
    until(lambda: len(event(gateway, name)) >= times, f"{times} x {name!r} in the log")
    return event(gateway, name)
