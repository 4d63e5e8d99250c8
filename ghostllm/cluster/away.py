"""The server cannot be asked: as the parts here tell each other, and as a client is told."""

from __future__ import annotations

from ghostllm.errors import GhostError


class ServerError(Exception):
    """The server, or the way to it, failed."""


class NoScript(ServerError):
    """It does not have the script: it was started anew."""


class Away(Exception):
    """The server cannot be asked now. What that means is for the one who asked."""


class SharedStateAway(GhostError):
    """Limits or budgets cannot be looked up, and the configuration says that nothing is served without."""

    status = 503
    code = "shared_state_unavailable"

    def __init__(self, retry_after: float) -> None:
        super().__init__("the state shared between the gateways cannot be reached", retry_after=retry_after)
