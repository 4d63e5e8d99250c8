"""Which time limit holds for one exchange: the model's, else the backend's, the global one, the built-in."""

from __future__ import annotations

from dataclasses import dataclass

from ghostllm.config.schema import BackendConfig, Config, ModelConfig
from ghostllm.config.traffic import BUILT_IN_TIMEOUTS, Timeouts


@dataclass(slots=True, frozen=True, kw_only=True)
class ResolvedTimeouts:
    """Time limits with nothing left to inherit, in seconds; 0 = none.

    total bounds answers that are not streamed; stream_total those that are, 0 unless model or backend set it.
    """

    connect: float
    head: float
    first_token: float
    load: float
    idle: float
    total: float
    stream_total: float


def resolved_timeouts(config: Config, backend: BackendConfig, model: ModelConfig | None) -> ResolvedTimeouts:
    """The limits for `model` on `backend`; model is None where no [[models]] entry describes it."""
    near = ((model.timeouts,) if model else ()) + (backend.timeouts,)
    levels = (*near, config.timeouts, BUILT_IN_TIMEOUTS)
    return ResolvedTimeouts(
        connect=_first(levels, "connect"),
        head=_first(levels, "head"),
        first_token=_first(levels, "first_token"),
        load=_first(levels, "load"),
        idle=_first(levels, "idle"),
        total=_first(levels, "total"),
        stream_total=_first(near, "total"),
    )


def _first(levels: tuple[Timeouts, ...], limit: str) -> float:
    for level in levels:
        value: float | None = getattr(level, limit)
        if value is not None:
            return value
    return 0.0
