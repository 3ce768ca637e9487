"""Moments as the API reads and writes them: the cases of RFC 3339, section 5.6, and what is none of them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tallycast.errors import BadQuery
from tallycast.moments import parse_moment, write_moment

READ = [
    ("2022-11-07T00:00:00Z", "2022-11-07T00:00:00.000000"),
    ("2022-11-07T00:00:00.000Z", "2022-11-07T00:00:00.000000"),
    ("2022-11-07t00:00:00z", "2022-11-07T00:00:00.000000"),
    ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520000"),
    ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000000"),
    ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.870000"),
    ("2022-11-07T08:00:00+08:00", "2022-11-07T00:00:00.000000"),
    ("2022-11-07T08:00:00 08:00", "2022-11-07T00:00:00.000000"),  # a plus that a URL decoded
    ("2022-11-07T00:00:00-00:00", "2022-11-07T00:00:00.000000"),
    ("2022-11-07T23:59:00+23:59", "2022-11-07T00:00:00.000000"),
    ("2022-11-07T00:00:00.1Z", "2022-11-07T00:00:00.100000"),
    ("2022-11-07T00:00:00.123456Z", "2022-11-07T00:00:00.123456"),
    ("2022-11-07T00:00:00.123456789012345678Z", "2022-11-07T00:00:00.123456"),
    ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00.000000"),  # leap seconds of the RFC
    ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000000"),
    ("2016-12-31T23:59:60.75Z", "2017-01-01T00:00:00.000000"),
    ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000000"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000"),
    ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999000"),
]
REFUSED = [
    "", " ", "2022-11-07", "2022-11-07T00:00:00", "2022-11-07 00:00:00Z", "2022-11-07T00:00Z", "20221107T000000Z",
    "2022-11-07T00:00:00.Z", "2022-11-07T00:00:00,5Z", "2022-11-07T00:00:00+0800", "2022-11-07T00:00:00+08",
    "2022-11-07T00:00:00+24:00", "2022-11-07T00:00:00+08:60", "2022-11-07T00:00:00UTC", "2022-11-07T24:00:00Z",
    "2022-11-07T23:60:00Z", "2022-11-07T23:59:61Z", "2022-13-01T00:00:00Z", "2022-00-01T00:00:00Z", "2022-02-29T00:00:00Z",
    "2022-11-31T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
    "9999-12-31T23:59:60Z", "+2022-11-07T00:00:00Z", "12022-11-07T00:00:00Z", "2022-11-07T00:00:00Z\n", " 2022-11-07T00:00:00Z",
    "2022-11-07T00:00:00Zjunk", "1667779200", "now", "٢٠٢٢-11-07T00:00:00Z", "2022-11-07T00:00:00\u221208:00", "\0",
]  # fmt: skip


@pytest.mark.parametrize(("text", "utc"), READ)
def test_a_moment_is_read_as_utc(text: str, utc: str) -> None:
    moment = parse_moment(text, "startAt")
    assert moment.tzinfo is UTC
    assert moment.replace(tzinfo=None).isoformat(timespec="microseconds") == utc


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_moment_is_refused_with_the_parameters_name(text: str) -> None:
    with pytest.raises(
        BadQuery, match=r"^Bad query: endAt must be a date and time like 2022-11-07T00:00:00\.000Z"
    ):
        parse_moment(text, "endAt")


def test_a_very_long_text_is_quoted_in_part_only() -> None:
    with pytest.raises(BadQuery) as refused:
        parse_moment("9" * 5000, "endAt")
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2022, 11, 7, tzinfo=UTC), "2022-11-07T00:00:00.000Z"),
        (datetime(2022, 11, 7, 8, tzinfo=timezone(timedelta(hours=8))), "2022-11-07T00:00:00.000Z"),
        (datetime(2022, 11, 7, 1, 2, 3, 456789, UTC), "2022-11-07T01:02:03.456Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert write_moment(moment) == text
