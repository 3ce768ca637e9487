"""The command line's `receipts`: what waits for its message, and what was not understood."""

import click
import msgspec

from tallycast.commands import COUNT, print_rows
from tallycast.receipts import Parked
from tallycast.ways import Way, asks

_limit = click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
_offset = click.option("--offset", type=COUNT, default=0, help="how many to skip")
_json = click.option("--json", "as_json", is_flag=True, help="print JSON")


@click.group("receipts")
def receipts() -> None:
    """Receipts that wait for their message, and bodies that were not understood.

    \b
      tallycast receipts parked --app APP          whose message was never recorded?
      tallycast receipts unreadable --app APP      did a provider's format change?
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@receipts.command("parked")
@_limit
@_offset
@_json
@asks
def list_parked(way: Way, limit: int, offset: int, as_json: bool) -> None:
    """List receipts and clicks whose message is not known yet, the oldest first."""
    found = way.run(lambda api: api.list("/receipts/parked", None, limit, offset))
    rows = [
        {
            "channelID": one["channelID"],
            "messageID": one["messageID"],
            "kinds": ",".join(msgspec.convert(one, Parked).kinds()),
            "parkedAt": one["parkedAt"],
            "age": f"{one['ageSeconds']:.0f} s",
        }
        for one in found
    ]
    print_rows(rows, as_json, "nothing is parked")


@receipts.command("unreadable")
@_limit
@_offset
@_json
@asks
def list_unreadable(way: Way, limit: int, offset: int, as_json: bool) -> None:
    """List bodies that were not understood, the latest first."""
    found = way.run(lambda api: api.list("/receipts/unreadable", None, limit, offset))
    names = ("channelID", "lastAt", "times", "reason", "raw")
    print_rows([{name: one[name] for name in names} for one in found], as_json, "everything was understood")
