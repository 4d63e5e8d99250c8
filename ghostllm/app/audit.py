"""The audit log: every action of an operator as a record of the log and as a row of the state."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ghostllm.gateway.changes import action_of, shown
from ghostllm.message import Exchange
from ghostllm.observe.log import Logger
from ghostllm.state.audit import Action, AuditTrail


class Auditor:
    """Takes in what requests did (`exchange`), and signals, watched files and the like (`note`)."""

    def __init__(self, log: Logger, trail: AuditTrail) -> None:
        self._log = log
        self._trail = trail

    def exchange(self, exchange: Exchange) -> None:
        """Called with every exchange of a route that can change what runs, once it is over."""
        action = action_of(exchange)
        if action is not None:
            self._put(action)

    def note(
        self, action: str, target: str = "", *, who: str = "", error: str = "", changed: Any = None
    ) -> None:
        """Something that no request asked for. who: by whom or what. error: why it failed, "": it did not."""
        self._put(
            Action(
                time=time.time(),
                who=who or "this machine",
                peer="local",
                action=action,
                target=target,
                outcome="failed" if error else "done",
                error=error,
                changed=shown(changed),
            )
        )

    def _put(self, action: Action) -> None:
        mask = self._log.mask
        action = replace(
            action,
            target=mask.text(action.target),
            error=mask.text(action.error),
            changed=mask.value(action.changed),
        )
        self._trail.put(action)
        self._log.notice("audit", **action.told())
