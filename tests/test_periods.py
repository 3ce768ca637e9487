"""Periods as people name them, by an app's own clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallycast import periods
from tallycast.errors import BadQuery

HONG_KONG = ZoneInfo("Asia/Hong_Kong")
NOW = datetime(2026, 11, 23, 17, 30, tzinfo=UTC)  # the 24th in Hong Kong, 01:30


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("today", "2026-11-24T00:00+08:00", "2026-11-25T00:00+08:00"),
        ("yesterday", "2026-11-23T00:00+08:00", "2026-11-24T00:00+08:00"),
        ("7d", "2026-11-18T00:00+08:00", "2026-11-25T00:00+08:00"),
        ("30d", "2026-10-26T00:00+08:00", "2026-11-25T00:00+08:00"),
        ("90d", "2026-08-27T00:00+08:00", "2026-11-25T00:00+08:00"),
    ],
)
def test_a_named_period_is_whole_days_of_the_apps_clock(name: periods.Name, start: str, end: str) -> None:
    assert periods.find_period(name, HONG_KONG, NOW) == (at(start), at(end))


def test_a_day_on_which_the_clock_changes_has_its_own_length() -> None:
    now = datetime(2026, 10, 25, 12, tzinfo=UTC)
    found = periods.find_period("today", ZoneInfo("Europe/Berlin"), now)
    assert found.end.astimezone(UTC) - found.start.astimezone(UTC) == timedelta(hours=25)


@given(
    st.sampled_from(periods.NAMES),
    st.integers(0, 4_000_000_000),
)
def test_every_period_but_yesterday_holds_now_and_they_hold_each_other(
    name: periods.Name, seconds: int
) -> None:
    now = datetime.fromtimestamp(seconds, UTC)
    start, end = periods.find_period(name, HONG_KONG, now)
    assert (start <= now < end) == (name != "yesterday")
    longest = periods.find_period("90d", HONG_KONG, now)
    assert longest.start <= start < end <= longest.end


def test_a_date_begins_or_ends_a_period_with_its_whole_day() -> None:
    assert periods.read_start("2026-11-23", "--from", HONG_KONG) == at("2026-11-23T00:00+08:00")
    assert periods.read_end("2026-11-23", "--to", HONG_KONG) == at("2026-11-24T00:00+08:00")
    assert periods.read_end("2026-11-23T09:00:00+01:00", "--to", HONG_KONG) == at("2026-11-23T09:00+01:00")
    with pytest.raises(BadQuery, match="--from must be a date like 2026-11-23, or a moment"):
        periods.read_start("23.11.2026", "--from", HONG_KONG)
