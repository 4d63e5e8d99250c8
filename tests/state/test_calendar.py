"""Days are as long as their time zone has them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.errors import ConfigError
from ghostllm.state.calendar import Calendar

needs_zones = pytest.mark.skipif(
    "Europe/Berlin" not in available_timezones(), reason="no time zone database on this machine"
)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_utc_needs_no_database():
    today = Calendar().at(at("2026-02-28T23:59:59.999"))
    assert today[:2] == ("2026-02-28", "2026-02")
    assert (today.begins, today.ends) == (at("2026-02-28"), at("2026-03-01"))
    assert today.month_ends == at("2026-03-01")
    assert Calendar().at(at("2026-12-31T12:00")).month_ends == at("2027-01-01")


@needs_zones
def test_a_day_of_summer_time_is_an_hour_shorter():
    calendar = Calendar("Europe/Berlin")
    today = calendar.at(at("2026-03-29T10:00"))
    assert (today.begins, today.ends) == (at("2026-03-28T23:00"), at("2026-03-29T22:00"))
    assert calendar.at(today.ends).day == "2026-03-30" and calendar.at(today.ends - 0.001).day == "2026-03-29"
    assert calendar.begins("2026-03-30") == today.ends


@needs_zones
@settings(deadline=None)
@given(
    st.sampled_from(
        ("UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Pacific/Apia", "Asia/Kolkata")
    ),
    st.lists(st.floats(0, 2_000_000_000), min_size=1, max_size=8),
)
def test_every_moment_is_in_its_day(zone, moments):
    calendar = Calendar(zone)
    for moment in moments:
        today = calendar.at(moment)
        assert today.begins <= moment < today.ends <= today.month_ends
        assert today.day == datetime.fromtimestamp(moment, ZoneInfo(zone)).date().isoformat()
        assert Calendar(zone).at(moment) == today
        assert calendar.at(today.ends).begins == today.ends


@pytest.mark.parametrize("zone", ["Nowhere/Atlantis", "../../etc/passwd", "Europe", ""])
def test_a_zone_that_is_none_is_told_with_its_name(zone):
    with pytest.raises(ConfigError, match="usage.timezone"):
        Calendar(zone)
