"""The change feed: sent campaigns whose figures, name or stage changed, since a moment that a cursor keeps.

A row carries the moment when the transaction that changed it began (`counts.changed_at`), and a cursor the moment c before
which everything that had begun was finished when the cursor was made. What a reader could not see yet was therefore
changed at c or later, and he finds it the next time, however long the transaction takes. Nothing is missed; what
changed about c comes twice, and figures are absolute, so that does no harm.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec

from tallycast import db, reports
from tallycast.errors import BadQuery
from tallycast.moments import write_moment
from tallycast.reports import UNSET, Missing, Summary
from tallycast.sql import load

_SQL = load("changes")
# A clock may be set back a little, and a transaction shows a moment after it began.
_OVERLAP = timedelta(seconds=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DIGEST_BYTES = 8
_MAX_CURSOR = 200


# Until the end of the year 9999.
Microseconds = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000_000)]


class Change(Summary, frozen=True, rename="camel", gc=False):
    """The summary's row as it is now. `stage` where tallycast sends the campaign; `changedAt` is when the transaction
    began that changed it last.
    """

    queued: int = 0
    stage: str | Missing = UNSET
    changed_at: str = ""


class Page(NamedTuple):
    """`cursor` is where the next page goes on, or the next look when there is no more."""

    changes: list[Change]
    cursor: str
    has_more: bool


class _Position(msgspec.Struct, frozen=True, array_like=True):
    """After which row of which sequence of pages; microseconds since the epoch.

    The sequence holds what was changed until `until`, 0 for one that has not begun; the next one begins at `resume`.
    """

    resume: Microseconds
    until: Microseconds
    at: Microseconds
    after: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]


_START = _Position(0, 0, 0, -1)


async def begin(connection: db.Connection, app_id: str) -> str:
    """A cursor for what changes from now on."""
    horizon, _ = await db.find_horizon(connection)
    return _write_cursor(app_id, _rest(_count(horizon - _OVERLAP)))


async def list_page(connection: db.Connection, app_id: str, since: str | None, limit: int) -> Page:
    """What has changed since a cursor of this feed, in the order of change; everything without one. BadQuery."""
    position = _START if since is None else _read_cursor(app_id, since)
    if not position.until:
        horizon, now = await db.find_horizon(connection)
        position = _Position(_count(horizon - _OVERLAP), _count(now), position.at, position.after)
    params = {
        "app_id": app_id,
        "at": _moment(position.at),
        "after": position.after,
        "until": _moment(position.until),
        "limit": limit + 1,
    }
    rows = await db.fetch_rows(connection, _SQL["list_changes"], params)
    changes = [_change(*row) for row in rows[:limit] if row[1] is not None]
    if len(rows) <= limit:
        return Page(changes, _write_cursor(app_id, _rest(position.resume)), has_more=False)
    last = rows[limit - 1]
    position = _Position(position.resume, position.until, _count(last[-1]), last[0])
    return Page(changes, _write_cursor(app_id, position), has_more=True)


def _rest(resume: int) -> _Position:
    return _Position(resume, 0, resume, -1)


def _change(*row: Any) -> Change:
    *summary, queued, stage, changed_at = row
    fields = msgspec.structs.asdict(reports.write_summary(*summary))
    return Change(
        **fields, queued=queued, stage=UNSET if stage is None else stage, changed_at=write_moment(changed_at)
    )


def _count(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _write_cursor(app_id: str, position: _Position) -> str:
    body = msgspec.msgpack.encode(position)
    return base64.urlsafe_b64encode(_digest(app_id, body) + body).rstrip(b"=").decode()


def _read_cursor(app_id: str, text: str) -> _Position:
    try:
        raw = base64.b64decode(text[:_MAX_CURSOR] + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    digest, body = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    try:
        if digest == _digest(app_id, body):
            return msgspec.msgpack.decode(body, type=_Position)
    except msgspec.MsgspecError:  # somebody has made it up, digest and all
        pass
    raise BadQuery.of(f"since must be a cursor that this feed gave for app {app_id}, not {text[:40]!r}")


def _digest(app_id: str, body: bytes) -> bytes:
    """Not a secret: it finds what was cut off, mistyped, or taken from another app or version."""
    return blake2b(b"1 %b %b" % (app_id.encode(), body), digest_size=_DIGEST_BYTES).digest()
