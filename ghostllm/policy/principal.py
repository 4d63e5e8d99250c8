"""Who asks, as policy knows them: an Identity with what it may do."""

from __future__ import annotations

from dataclasses import dataclass, field

from ghostllm.message import Identity
from ghostllm.policy.grants import NOTHING, Grants


@dataclass(slots=True, frozen=True, kw_only=True)
class Principal(Identity):
    """grants: what its roles permit, with the identity's own `models` counted in. source: "key", "token" or
    "anonymous". id: of its key made at run time, "" for any other.
    """

    grants: Grants = field(default=NOTHING, repr=False, compare=False)
    source: str = "key"
    id: str = ""

    @property
    def confined(self) -> bool:
        return self.grants.confines

    def may(self, group: str, model: str | None = None) -> bool:
        if model is None:
            return group in self.grants.groups or not group
        return not group or self.grants.allow(group, model)
