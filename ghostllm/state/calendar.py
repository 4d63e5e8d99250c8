"""Days and months as a time zone has them, with its summer time: what budgets and the ledger go by."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ghostllm.errors import ConfigError


class Today(NamedTuple):
    """day, month: "2026-03-01", "2026-03". begins, ends, month_ends: seconds since 1970."""

    day: str
    month: str
    begins: float
    ends: float
    month_ends: float


class Calendar:
    """Raises ConfigError for a time zone that is not known on this machine."""

    def __init__(self, timezone: str = "UTC") -> None:
        self.timezone = timezone
        self._zone: tzinfo = UTC if timezone == "UTC" else _zone(timezone)
        self._today = self._find(0.0)

    def __repr__(self) -> str:
        return f"<Calendar {self.timezone} {self._today.day}>"

    def at(self, now: float) -> Today:
        """The day of a moment, in seconds since 1970. The last one is remembered: mostly it is that."""
        today = self._today
        if today.begins <= now < today.ends:
            return today
        self._today = today = self._find(now)
        return today

    def begins(self, day: str) -> float:
        """The first moment of a day, in seconds since 1970."""
        return self._midnight(date.fromisoformat(day))

    def _find(self, now: float) -> Today:
        day = datetime.fromtimestamp(now, self._zone).date()
        text = day.isoformat()
        next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return Today(
            text,
            text[:7],
            self._midnight(day),
            self._midnight(day + timedelta(days=1)),
            self._midnight(next_month),
        )

    def _midnight(self, day: date) -> float:
        """Where clocks skip midnight, the moment at which they do."""
        return datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp()


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # ZoneInfoNotFoundError is a LookupError
        raise ConfigError(
            [f"usage.timezone: {name!r} is not known here; is the time zone database installed (tzdata)?"]
        ) from None
