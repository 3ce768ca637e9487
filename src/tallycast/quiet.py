"""Quiet hours: whether a recipient may be sent to now, by the clock where he seems to be, and else when.

A number tells where it was given out, often several time zones: then all of them must be outside the quiet hours. So
many zones may leave no hour of the day; then those of the number's longest known prefix count, and then the app's own.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers

from tallycast.policies import Policy

# Numbers that differ in their last digits alone are in the same place.
_LAST_DIGITS = 4
_CACHED_PLACES = 100_000
_CACHED_OPENINGS = 20_000
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
# A moment that suits all zones comes within the day, or never; a day more where clocks are changed.
_HORIZON = timedelta(days=2)
Zones = tuple[ZoneInfo, ...]


def next_window(policy: Policy, recipient: str, country: str | None, now: datetime) -> datetime | None:
    """None when the recipient (E.164) may be sent to now, else from when on (UTC).

    `country` is the number's, where that is known; it tells the countries of one calling code apart.
    """
    if policy.quiet_from is None or policy.quiet_until is None:
        return None
    minute = now.astimezone(UTC).replace(second=0, microsecond=0)
    choices = *_places(recipient[:-_LAST_DIGITS] + "0" * _LAST_DIGITS, country), (_zone(policy.time_zone),)
    opening = _opening(choices, policy.quiet_from, policy.quiet_until, minute)
    return None if opening == minute else opening


@lru_cache(maxsize=_CACHED_OPENINGS)
def _opening(choices: tuple[Zones, ...], quiet_from: time, quiet_until: time, minute: datetime) -> datetime:
    """The first moment from `minute` on that suits all zones of the first choice that has one.

    Quiet hours begin and end with minutes, and so do changes of clocks: what holds for a minute's begin holds for it.
    """
    found = (_first_loud(zones, quiet_from, quiet_until, minute) for zones in choices if zones)
    return next((moment for moment in found if moment is not None), minute)


def _first_loud(zones: Zones, quiet_from: time, quiet_until: time, minute: datetime) -> datetime | None:
    moment, last = minute, None
    while moment != last and moment - minute <= _HORIZON:
        last = moment
        for zone in zones:
            moment = _end_of_quiet(zone, quiet_from, quiet_until, moment)
    return moment if moment == last else None


def _end_of_quiet(zone: ZoneInfo, quiet_from: time, quiet_until: time, moment: datetime) -> datetime:
    """The moment itself where it is not quiet there, else when quiet ends."""
    local = moment.astimezone(zone)
    if not _is_quiet(local.time(), quiet_from, quiet_until):
        return moment
    day = local.date() if local.time() < quiet_until else local.date() + _DAY
    end = _moment(zone, day, quiet_until, 0)
    if (
        end.astimezone(zone).time() != quiet_until
    ):  # clocks are put forward over it, and end the quiet by that
        end = max(moment, _moment(zone, day, quiet_until, 1))
        while _is_quiet(end.astimezone(zone).time(), quiet_from, quiet_until):
            end += _MINUTE
        return end
    # Where clocks go back, the end may come twice, and be quiet again in between.
    return end if end > moment else _moment(zone, day, quiet_until, 1)


def _is_quiet(clock: time, quiet_from: time, quiet_until: time) -> bool:
    if quiet_from < quiet_until:
        return quiet_from <= clock < quiet_until
    return clock >= quiet_from or clock < quiet_until


def _moment(zone: ZoneInfo, day: date, clock: time, fold: int) -> datetime:
    """When a clock there shows this, for the first or (fold 1) the second time."""
    return datetime.combine(day, clock, zone).replace(fold=fold).astimezone(UTC)


@lru_cache(maxsize=_CACHED_PLACES)
def _places(number: str, country: str | None) -> tuple[Zones, ...]:
    """Where the number may be: all that the calling code allows for its kind, then what its prefix says.

    Where a calling code has several countries, its zones are those of all; of a smaller country only the prefix tells.
    """
    code = _calling_code(number)
    by_prefix = _zones_of_prefix(number)
    is_of_main = country in {None, phonenumbers.region_code_for_country_code(int(code or 0))}
    if not is_of_main or by_prefix == _zones_of_prefix(f"+{code}"):
        return (by_prefix,)
    return _zones_of_kind(number), by_prefix


def _calling_code(number: str) -> str:
    codes = (number[1 : 1 + length] for length in (1, 2, 3))
    return next((code for code in codes if int(code or 0) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE), "")


def _zones_of_kind(number: str) -> Zones:
    """As the library finds them: a fixed line is where its prefix says, a mobile phone mostly anywhere in its country."""
    from phonenumbers.timezone import time_zones_for_number  # noqa: PLC0415 - only who has quiet hours needs its data

    try:
        return _known(time_zones_for_number(phonenumbers.parse(number)))
    except phonenumbers.NumberParseException:
        return ()


def _zones_of_prefix(number: str) -> Zones:
    from phonenumbers.tzdata import TIMEZONE_DATA, TIMEZONE_LONGEST_PREFIX  # noqa: PLC0415 - as above

    digits = number[1 : 1 + TIMEZONE_LONGEST_PREFIX]
    prefixes = (digits[:length] for length in range(len(digits), 0, -1))
    return _known(next((TIMEZONE_DATA[prefix] for prefix in prefixes if prefix in TIMEZONE_DATA), ()))


def _known(names: Iterable[str]) -> Zones:
    """The zones that this machine has rules for; none where the number's is not known ("Etc/Unknown")."""
    zones = []
    for name in sorted(names):
        try:
            zones.append(_zone(name))
        except ZoneInfoNotFoundError:
            continue
    return tuple(zones)


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
