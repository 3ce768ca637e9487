"""Periods as people name them: whole days by an app's own clock, the same in every rendering."""

from datetime import date, datetime, time, timedelta
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from tallycast.errors import BadQuery
from tallycast.moments import parse_moment

Name = Literal["today", "yesterday", "7d", "30d", "90d"]
NAMES: tuple[Name, ...] = get_args(Name)


class Period(NamedTuple):
    """`start <= moment < end`."""

    start: datetime
    end: datetime


def find_period(name: Name, zone: ZoneInfo, now: datetime) -> Period:
    """A named period: `7d` are the seven days that end with today, in the clock of `zone`."""
    today = now.astimezone(zone).date()
    if name == "yesterday":
        return Period(_midnight(today - timedelta(days=1), zone), _midnight(today, zone))
    days = 1 if name == "today" else int(name.removesuffix("d"))
    tomorrow = today + timedelta(days=1)
    return Period(_midnight(tomorrow - timedelta(days=days), zone), _midnight(tomorrow, zone))


def read_start(text: str, option: str, zone: ZoneInfo) -> datetime:
    """When a period begins: RFC 3339, or a date, at the beginning of that day in `zone`. BadQuery."""
    day = _read_day(text)
    return _read_moment(text, option) if day is None else _midnight(day, zone)


def read_end(text: str, option: str, zone: ZoneInfo) -> datetime:
    """When a period ends: RFC 3339, or a date, at the end of that day in `zone`. BadQuery."""
    day = _read_day(text)
    return _read_moment(text, option) if day is None else _midnight(day + timedelta(days=1), zone)


def read_local(text: str, option: str, zone: ZoneInfo) -> datetime:
    """A moment as forms send it: a date, or date and time, in the clock of `zone`. BadQuery."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _read_moment(text, option)
    return moment if moment.tzinfo else moment.replace(tzinfo=zone)


def _read_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _read_moment(text: str, option: str) -> datetime:
    try:
        return parse_moment(text, option)
    except BadQuery:
        raise BadQuery.of(
            f"{option} must be a date like 2026-11-23, or a moment like 2026-11-23T09:00:00+08:00, not {text[:60]!r}"
        ) from None


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)
