"""Policies: what holds for all campaigns of an app, whoever sends them."""

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from functools import cache
from typing import Literal, TypeVar
from zoneinfo import available_timezones

import msgspec

from tallycast import db
from tallycast.errors import BadQuery, NotFound
from tallycast.moments import write_moment
from tallycast.sql import load
from tallycast.wishes import MAX_WORD, plain

_SQL = load("policies")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_MAX_WORDS = 100
_MAX_STALE_MINUTES = 100_000
_MAX_DAYS = 36_500
Mode = Literal["anonymise", "delete"]
_Unset = msgspec.UnsetType
Value = TypeVar("Value")


class Policy(msgspec.Struct, frozen=True):
    """`quiet_from` and `quiet_until`: when nothing is sent, in the recipient's local time; None = no such hours.
    `time_zone`: that of recipients whose own is not known. `stale_minutes`: how late a schedule may start at most.
    """

    requires_approval: bool
    time_zone: str
    quiet_from: time | None
    quiet_until: time | None
    stop_words: Sequence[str]
    start_words: Sequence[str]
    stale_minutes: int
    retention_days: int | None = None
    retention_mode: Mode | None = None

    def is_late(self, due: datetime, now: datetime) -> bool:
        """Whether what was due then is not to be sent any more."""
        return now - due > timedelta(minutes=self.stale_minutes)

    def check_due(self, due: datetime, now: datetime) -> None:
        """BadQuery for a schedule with which a campaign would never start."""
        if self.is_late(due, now):
            raise BadQuery.of(
                f"scheduledAt {write_moment(due)} is in the past, by more than {self.show_limit()}"
            )

    def show_limit(self) -> str:
        return f"{self.stale_minutes} minute{'s' * (self.stale_minutes != 1)}"


class QuietHours(msgspec.Struct, frozen=True, rename={"from_": "from"}, forbid_unknown_fields=True):
    """From and until when nothing is sent, as `HH:MM`; they may span midnight."""

    from_: str
    until: str


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many days after its end the recipients of a campaign are made anonymous, or deleted."""

    days: int
    mode: Mode


class PolicyChange(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a PATCH may change; what is absent stays; null quiet hours and a null retention are removed."""

    requires_approval: bool | _Unset = msgspec.UNSET
    time_zone: str | _Unset = msgspec.UNSET
    quiet_hours: QuietHours | _Unset | None = msgspec.UNSET
    stop_words: list[str] | _Unset = msgspec.UNSET
    start_words: list[str] | _Unset = msgspec.UNSET
    stale_minutes: int | _Unset = msgspec.UNSET
    retention: Retention | _Unset | None = msgspec.UNSET


class PolicyView(msgspec.Struct, frozen=True, rename="camel"):
    """A policy as it is shown: times as `HH:MM`."""

    requires_approval: bool
    time_zone: str
    quiet_hours: QuietHours | None
    stop_words: list[str]
    start_words: list[str]
    stale_minutes: int
    retention: Retention | None


async def find_policy(connection: db.Connection, app_id: str) -> Policy:
    policy = await db.fetch_one(connection, Policy, _SQL["find_policy"], {"app_id": app_id})
    if policy is None:
        raise NotFound(f"no app {app_id}")
    return policy


async def change_policy(connection: db.Connection, app_id: str, change: PolicyChange) -> Policy:
    """The changed policy. In a transaction of the caller: words are compared after the change, with all others."""
    hours = None if change.quiet_hours is msgspec.UNSET else change.quiet_hours
    quiet_from, quiet_until = (None, None) if hours is None else _read_hours(hours)
    retention = _check_retention(_or_none(change.retention))
    params = {
        "app_id": app_id,
        "changes_retention": change.retention is not msgspec.UNSET,
        "retention_days": retention and retention.days,
        "retention_mode": retention and retention.mode,
        "requires_approval": _or_none(change.requires_approval),
        "time_zone": _check_time_zone(_or_none(change.time_zone)),
        "changes_quiet": change.quiet_hours is not msgspec.UNSET,
        "quiet_from": quiet_from,
        "quiet_until": quiet_until,
        "stop_words": _check_words("stopWords", _or_none(change.stop_words)),
        "start_words": _check_words("startWords", _or_none(change.start_words)),
        "stale_minutes": _check_stale(_or_none(change.stale_minutes)),
    }
    policy = await db.fetch_one(connection, Policy, _SQL["change_policy"], params)
    if policy is None:
        raise NotFound(f"no app {app_id}")
    both = set(map(plain, policy.stop_words)) & set(map(plain, policy.start_words))
    if both:
        raise BadQuery.of(f"stopWords and startWords must not share a word: {', '.join(sorted(both))}")
    return policy


def view(policy: Policy) -> PolicyView:
    hours = None
    if policy.quiet_from is not None and policy.quiet_until is not None:
        hours = QuietHours(f"{policy.quiet_from:%H:%M}", f"{policy.quiet_until:%H:%M}")
    return PolicyView(
        policy.requires_approval,
        policy.time_zone,
        hours,
        list(policy.stop_words),
        list(policy.start_words),
        policy.stale_minutes,
        None
        if policy.retention_days is None or policy.retention_mode is None
        else Retention(policy.retention_days, policy.retention_mode),
    )


def _or_none(value: Value | _Unset) -> Value | None:
    return None if isinstance(value, _Unset) else value


def _read_hours(hours: QuietHours) -> tuple[time, time]:
    first, last = _read_time("from", hours.from_), _read_time("until", hours.until)
    if first == last:
        raise BadQuery.of("quietHours.from and quietHours.until must differ; null means no quiet hours")
    return first, last


def _read_time(name: str, text: str) -> time:
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadQuery.of(f"quietHours.{name} must be a time like 21:00, not {text[:40]!r}")
    return time(int(match[1]), int(match[2]))


@cache
def list_zones() -> list[str]:
    """The time zones that this machine has rules for, by name."""
    return sorted(available_timezones())


def _check_time_zone(name: str | None) -> str | None:
    if name is not None and name not in list_zones():
        raise BadQuery.of(f"timeZone must be an IANA time zone like Asia/Hong_Kong, not {name[:80]!r}")
    return name


def _check_words(name: str, words: list[str] | None) -> list[str] | None:
    if words is None:
        return None
    if len(words) > _MAX_WORDS:
        raise BadQuery.of(f"{name} must be at most {_MAX_WORDS} words or phrases")
    for word in words:
        if "\0" in word or len(word) > MAX_WORD or not plain(word):
            raise BadQuery.of(
                f"{name} must be words or phrases of at most {MAX_WORD} characters, not {word[:40]!r}"
            )
    return list(dict.fromkeys(" ".join(word.split()) for word in words))


def _check_stale(minutes: int | None) -> int | None:
    if minutes is not None and not 1 <= minutes <= _MAX_STALE_MINUTES:
        raise BadQuery.of(f"staleMinutes must be a number from 1 to {_MAX_STALE_MINUTES}")
    return minutes


def _check_retention(retention: Retention | None) -> Retention | None:
    if retention is not None and not 1 <= retention.days <= _MAX_DAYS:
        raise BadQuery.of(
            f"retention.days must be a number from 1 to {_MAX_DAYS}; null keeps recipients for ever"
        )
    return retention
