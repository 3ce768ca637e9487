"""Quiet hours: when a recipient may be sent to, by the clock where the number says that he is."""

import random
import time as clocks
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallycast.policies import Policy
from tallycast.quiet import next_window

NIGHT = ("21:00", "08:00")


def policy(hours: tuple[str, str] | None = NIGHT, time_zone: str = "UTC") -> Policy:
    first, last = (time.fromisoformat(one) for one in hours) if hours else (None, None)
    return Policy(False, time_zone, first, last, (), (), 60)


def window(
    recipient: str,
    now: str,
    country: str | None = None,
    hours: tuple[str, str] | None = NIGHT,
    time_zone: str = "UTC",
) -> str | None:
    found = next_window(policy(hours, time_zone), recipient, country, datetime.fromisoformat(now))
    return None if found is None else found.isoformat()


def test_without_quiet_hours_everybody_may_be_sent_to_at_once() -> None:
    assert window("+85298765432", "2026-11-23T18:00:00+00:00", hours=None) is None


@pytest.mark.parametrize(
    ("recipient", "now", "expected"),
    [
        pytest.param("+85298765432", "2026-11-23T12:59:59+00:00", None, id="a second before quiet begins"),
        pytest.param("+85298765432", "2026-11-23T13:00:00+00:00", "2026-11-24T00:00:00+00:00", id="as it begins"),
        pytest.param("+85298765432", "2026-11-23T18:30:00+00:00", "2026-11-24T00:00:00+00:00", id="after midnight there"),
        pytest.param("+85298765432", "2026-11-23T23:59:59+00:00", "2026-11-24T00:00:00+00:00", id="a second before it ends"),
        pytest.param("+85298765432", "2026-11-24T00:00:00+00:00", None, id="as it ends"),
        pytest.param("+12125550123", "2026-11-23T03:00:00+00:00", "2026-11-23T13:00:00+00:00", id="New York by its area code"),
        pytest.param("+13105550123", "2026-11-23T15:30:00+00:00", "2026-11-23T16:00:00+00:00", id="Los Angeles by its area code"),
        pytest.param("+919812345678", "2026-11-23T02:00:00+00:00", "2026-11-23T02:30:00+00:00", id="a zone of half an hour"),
        pytest.param("+85298765432", "2026-11-24T07:00:00+09:00", "2026-11-24T00:00:00+00:00", id="now in another zone"),
    ],
)  # fmt: skip
def test_quiet_hours_are_those_of_the_recipients_clock(
    recipient: str, now: str, expected: str | None
) -> None:
    assert window(recipient, now) == expected


def test_quiet_hours_within_one_day_are_those_between_them() -> None:
    siesta = ("13:00", "16:00")
    assert window("+85298765432", "2026-11-23T04:59:00+00:00", hours=siesta) is None
    assert window("+85298765432", "2026-11-23T05:00:00+00:00", hours=siesta) == "2026-11-23T08:00:00+00:00"
    assert window("+85298765432", "2026-11-23T08:00:00+00:00", hours=siesta) is None
    assert window("+85298765432", "2026-11-23T20:00:00+00:00", hours=siesta) is None


@pytest.mark.parametrize(
    ("hours", "now", "expected"),
    [
        # Berlin: 29 March 2026, 2:00 becomes 3:00; 25 October 2026, 3:00 becomes 2:00.
        pytest.param(NIGHT, "2026-03-28T20:30:00+00:00", "2026-03-29T06:00:00+00:00", id="a night that is an hour short"),
        pytest.param(NIGHT, "2026-10-24T20:30:00+00:00", "2026-10-25T07:00:00+00:00", id="a night that is an hour long"),
        pytest.param(("21:00", "02:30"), "2026-03-29T00:30:00+00:00", "2026-03-29T01:00:00+00:00", id="an end that is skipped"),
        pytest.param(("21:00", "02:30"), "2026-10-25T00:10:00+00:00", "2026-10-25T00:30:00+00:00", id="the first of two ends"),
        pytest.param(("21:00", "02:30"), "2026-10-25T00:40:00+00:00", None, id="between the first end and the change"),
        pytest.param(("21:00", "02:30"), "2026-10-25T01:10:00+00:00", "2026-10-25T01:30:00+00:00", id="quiet again until the second"),
        pytest.param(("02:15", "02:45"), "2026-03-29T01:00:00+00:00", None, id="quiet hours that are skipped"),
    ],
)  # fmt: skip
def test_a_change_of_clocks_moves_the_end_of_quiet(
    hours: tuple[str, str], now: str, expected: str | None
) -> None:
    assert window("+4915112345678", now, hours=hours) == expected


def test_all_zones_where_a_mobile_phone_may_be_must_be_awake() -> None:
    # Russia: it is 8:00 in the west at 6:00 UTC, and 21:00 in the east at 9:00.
    assert window("+79123456789", "2026-11-23T05:59:00+00:00", "RU") == "2026-11-23T06:00:00+00:00"
    assert window("+79123456789", "2026-11-23T08:59:00+00:00", "RU") is None
    assert window("+79123456789", "2026-11-23T09:00:00+00:00", "RU") == "2026-11-24T06:00:00+00:00"


def test_the_country_tells_those_of_one_calling_code_apart() -> None:
    noon_in_almaty = "2026-11-23T12:00:00+00:00"
    assert window("+77710009998", noon_in_almaty, "KZ") is None
    assert window("+77710009998", noon_in_almaty, "RU") == "2026-11-24T06:00:00+00:00"
    assert window("+13453231234", "2026-11-23T12:59:00+00:00", "KY") == "2026-11-23T13:00:00+00:00"


def test_zones_that_leave_no_hour_give_way_to_the_apps_own() -> None:
    # A freephone number of +1 may be anywhere from Guam to Newfoundland: it is office hours in all of them never.
    office = ("17:00", "10:00")
    assert (
        window("+18005550123", "2026-11-23T08:59:00+00:00", hours=office, time_zone="Asia/Hong_Kong") is None
    )
    assert (
        window("+18005550123", "2026-11-23T09:00:00+00:00", hours=office, time_zone="Asia/Hong_Kong")
        == "2026-11-24T02:00:00+00:00"
    )
    assert window("+18005550123", "2026-11-23T09:00:00+00:00") == "2026-11-23T22:00:00+00:00"


def test_a_number_of_no_place_is_where_the_app_is() -> None:
    assert (
        window("+88212345678901", "2026-11-23T13:00:00+00:00", time_zone="Asia/Hong_Kong")
        == "2026-11-24T00:00:00+00:00"
    )
    assert window("+88212345678901", "2026-11-23T13:00:00+00:00", time_zone="Europe/London") is None


@given(
    st.integers(0, 366 * 24 * 60).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n)),
    st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_the_next_window_is_the_first_minute_that_is_not_quiet(
    now: datetime, zone: str, first: int, last: int
) -> None:
    hours = tuple(f"{minute // 60:02}:{minute % 60:02}" for minute in (first, last))
    found = next_window(policy(hours, zone), "+88212345678901", None, now)  # type: ignore[arg-type]
    minute = now.replace(second=0, microsecond=0)

    def is_quiet(moment: datetime) -> bool:
        local = moment.astimezone(ZoneInfo(zone))
        shown = local.hour * 60 + local.minute
        return first <= shown < last if first < last else shown >= first or shown < last

    if first == last:
        return
    expected = minute
    while is_quiet(expected):
        expected += timedelta(minutes=1)
    assert found == (None if expected == minute else expected)


def test_twenty_thousand_recipients_a_second_are_looked_up() -> None:
    chance = random.Random(7)
    examples = [
        (region, phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164))
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        if (example := phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE))
    ]
    recipients = [
        (region, number[:-5] + "".join(chance.choices("0123456789", k=5)))
        for region, number in chance.choices(examples, k=20_000)
    ]
    now, night = datetime(2026, 11, 23, 20, tzinfo=UTC), policy()
    began = clocks.process_time()
    for n, (region, number) in enumerate(recipients):
        next_window(night, number, region, now + timedelta(milliseconds=n))
    assert clocks.process_time() - began < 1
