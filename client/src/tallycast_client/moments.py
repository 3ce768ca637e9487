"""Moments in time: RFC 3339 on the wire, aware datetimes here."""

from datetime import UTC, datetime


def write_moment(moment: datetime, name: str) -> str:
    """UTC with milliseconds: 2022-11-07T00:00:00.000Z. ValueError for a datetime that has no time zone."""
    if moment.utcoffset() is None:
        raise ValueError(
            f"{name} must be aware, e.g. datetime(2026, 11, 1, tzinfo=UTC): {moment!r} has no time zone"
        )
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def read_moment(text: str) -> datetime:
    """ValueError where it is not RFC 3339; without an offset it is taken for UTC."""
    moment = datetime.fromisoformat(text.upper())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
