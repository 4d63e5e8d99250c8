"""Who asks, as policy knows them: an Identity with what it may do and whom its use is counted for."""

from __future__ import annotations

from dataclasses import dataclass, field

from ghostllm.message import Identity
from ghostllm.policy.grants import NOTHING, Grants


@dataclass(slots=True, frozen=True, kw_only=True)
class Principal(Identity):
    """roles: by name. grants: what those permit, with the identity's own `models` counted in. source: "key",
    "token" or "anonymous". id: of its key made at run time, "" for any other.
    """

    roles: tuple[str, ...] = ()
    grants: Grants = field(default=NOTHING, repr=False, compare=False)
    source: str = "key"
    id: str = ""
