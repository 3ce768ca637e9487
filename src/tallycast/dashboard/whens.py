"""A moment as a form asks for it: a date, a time, and the time zone whose clock shows them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from tallycast import policies
from tallycast.dashboard.forms import Form

# Other names of what has a name by its region.
_UNUSUAL = ("Etc/", "SystemV/", "US/", "posix/", "right/")


class BadMoment(ValueError):
    """`field` of the form is wrong; the text is a key of the catalogue."""

    def __init__(self, field: str, key: str) -> None:
        super().__init__(key)
        self.field = field


def list_zones(own: str) -> list[str]:
    """The app's own, UTC, and all others."""
    named = [zone for zone in policies.list_zones() if "/" in zone and not zone.startswith(_UNUSUAL)]
    return list(dict.fromkeys([own, "UTC", *named]))


def read_moment(form: Form) -> datetime:
    """In UTC. BadMoment also for a time that clocks leave out; one that comes twice is the first."""
    if form.text("zone") not in policies.list_zones():
        raise BadMoment("zone", "when.bad_zone")
    zone = ZoneInfo(form.text("zone"))
    for name, key in (("date", "when.no_date"), ("time", "when.no_time")):
        if not form.text(name):
            raise BadMoment(name, key)
    try:
        local = datetime.fromisoformat(f"{form.text('date')}T{form.text('time')}")
        moment = local.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadMoment("date", "when.unreadable") from None
    if local.tzinfo is not None or moment.astimezone(zone).replace(tzinfo=None) != local:
        raise BadMoment("time", "when.left_out")
    return moment
