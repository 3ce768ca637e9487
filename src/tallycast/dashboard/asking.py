"""What a list of campaigns is asked for: all of it stands in the URL, in the clock of the app."""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from tallycast import periods
from tallycast.errors import BadQuery
from tallycast.moments import write_moment
from tallycast.periods import NAMES
from tallycast.summaries import KEYS, Key, Position, Wanted
from tallycast.web.answers import Query, read_choice, read_int, read_text

CHANNELS = ("whatsApp", "sms")
PERIODS = ("all", *NAMES, "custom")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_POSITION = re.compile(r"(\d{1,18})\.(\d{1,19})", re.ASCII)
_MAX_SEARCH = 200


class Asking(NamedTuple):
    """`period`, `start` and `end` as they were chosen and typed; `error`: what of them cannot be read."""

    wanted: Wanted
    period: str
    start: str
    end: str
    error: str
    key: Key
    is_down: bool
    offset: int
    after: Position | None
    before: Position | None

    @property
    def sort(self) -> str:
        return f"-{self.key}" if self.is_down else self.key

    def export_query(self, **more: str) -> str:
        """The same campaigns for the export, of the same moment's period."""
        wanted = self.wanted
        # An export wants both ends or neither.
        ends = (wanted.start_at or _EPOCH, wanted.end_at or datetime(9999, 1, 1, tzinfo=UTC))
        period = {} if wanted[:2] == (None, None) else dict(zip(("startAt", "endAt"), ends, strict=True))
        given = {"channel": wanted.channel_type, "search": wanted.search}
        moments = {name: write_moment(at) for name, at in period.items()}
        return urlencode(moments | {name: text for name, text in given.items() if text} | more)


def read_asking(query: Query, zone: ZoneInfo, now: datetime) -> Asking:
    """BadQuery for what no page of ours asks for; what people type is told in `error`."""
    search = (read_text(query, "q") or "").replace("\0", "").strip()[:_MAX_SEARCH]
    channel_type = read_choice(query, "channel", CHANNELS)
    period = read_choice(query, "period", PERIODS) or "all"
    start, end = ((read_text(query, name) or "")[:40] for name in ("from", "until"))
    error, start_at, end_at = "", None, None
    try:
        start_at, end_at = _read_period(period, start, end, zone, now)
    except BadQuery as refused:
        error = refused.message.removeprefix("Bad query: ")
    sort = read_text(query, "sort") or "-date"
    key = next((one for one in KEYS if one == sort.removeprefix("-")), None)
    if key is None:
        raise BadQuery.of(f"sort must be one of {', '.join(KEYS)}, or -{KEYS[0]} …, not {sort[:40]!r}")
    return Asking(
        wanted=Wanted(start_at, end_at, channel_type, search or None),
        period=period,
        start=start,
        end=end,
        error=error,
        key=key,
        is_down=sort.startswith("-"),
        offset=max(0, read_int(query, "offset", 0)),
        after=_read_position(query, "cursor"),
        before=_read_position(query, "before"),
    )


def _read_period(
    period: str, start: str, end: str, zone: ZoneInfo, now: datetime
) -> tuple[datetime | None, datetime | None]:
    if period == "custom":
        first = periods.read_local(start, "from", zone) if start else None
        last = periods.read_local(end, "until", zone) if end else None
        if first and last and last < first:
            raise BadQuery.of("until is prior to from")
        return first, last
    name = next((one for one in NAMES if one == period), None)
    return (None, None) if name is None else periods.find_period(name, zone, now)


def write_position(sent_at: datetime, campaign_id: int) -> str:
    return f"{(sent_at - _EPOCH) // _MICROSECOND}.{campaign_id}"


def _read_position(query: Query, name: str) -> Position | None:
    text = read_text(query, name)
    if text is None:
        return None
    match = _POSITION.fullmatch(text)
    try:
        if match is not None and int(match[2]) < 2**63:
            return Position(_EPOCH + int(match[1]) * _MICROSECOND, int(match[2]))
    except OverflowError:
        pass
    raise BadQuery.of(f"{name} must be one that a page gave, not {text[:40]!r}")
