"""`tallycast tail`: a campaign's figures while they move."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tallycast.api import Api, Refused, below
from tallycast.ways import Way, asks, of_campaign

Until = Literal["sent", "settled"]
_ENDED = ("sent", "cancelled", "recorded")
_SHORTEST_SECONDS = 0.5
_LONGEST_SECONDS = 8.0
_GROWTH = 1.5
# Receipts may come days later: a tail that shows nothing new for so long after the last message has gone out ends.
_REST_SECONDS = 60.0
_PACE_SECONDS = 15.0
_BARS = {"sent": "cyan", "delivered": "green", "read": "blue", "failed": "red"}
_NOT_FOUND = 404


class Look(NamedTuple):
    """A campaign at one moment (monotonic seconds). `stage` is `recorded` where another system sends it."""

    at: float
    stage: str
    total: int
    queued: int
    pending: int
    delivered: int
    read: int
    failed: int
    replied: int
    unknown: int
    waits_for: str

    @property
    def sent(self) -> int:
        return self.total - self.queued

    def is_sent(self) -> bool:
        return self.stage in _ENDED and self.queued == 0

    def is_settled(self) -> bool:
        """Every outcome is known but those that only a person can tell."""
        return self.is_sent() and self.pending <= self.unknown


class Pace:
    """Messages handed over a second, over the last quarter of a minute."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque()

    def add(self, look: Look) -> float:
        self._looks.append((look.at, look.sent))
        while look.at - self._looks[0][0] > _PACE_SECONDS and len(self._looks) > 2:  # noqa: PLR2004 - a pace has two ends
            self._looks.popleft()
        (first_at, first), (last_at, last) = self._looks[0], self._looks[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


@click.command()
@of_campaign
@click.option(
    "--until", type=click.Choice(["sent", "settled"]), help="end when all is handed over, or every outcome is known"
)  # fmt: skip
@asks
def tail(way: Way, campaign_id: str, until: Until | None) -> None:
    """Watch a campaign: what is sent, delivered, read and failed, how fast, and until when.

    In a terminal the figures stay in place; elsewhere each change is a line. It ends by itself a minute after the
    last change of a campaign that has ended, or as --until says. Exit status 1 when the campaign was cancelled.

    \b
      tallycast tail --app APP CAMPAIGN
      tallycast campaign start --app APP CAMPAIGN && tallycast tail --app APP CAMPAIGN --until sent
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    last = way.run(lambda api: _watch(api, campaign_id, until))
    sys.exit(1 if last.stage == "cancelled" else 0)


async def _watch(api: Api, campaign_id: str, until: Until | None) -> Look:
    pace, seconds = Pace(), _SHORTEST_SECONDS
    look = await _look(api, campaign_id)
    moved_at = look.at
    with _open_screen() as show:
        while True:
            show(look, pace.add(look))
            if is_over(look, until, look.at - moved_at):
                return look
            await asyncio.sleep(seconds)
            before, look = look, await _look(api, campaign_id)
            has_moved = before[1:] != look[1:]
            moved_at = look.at if has_moved else moved_at
            seconds = _SHORTEST_SECONDS if has_moved else min(seconds * _GROWTH, _LONGEST_SECONDS)


def is_over(look: Look, until: Until | None, rest_seconds: float) -> bool:
    """Whether what was asked for has come; `rest_seconds` is for how long nothing has moved."""
    if look.is_settled():
        return True
    if until == "sent" or look.stage == "cancelled":
        return look.is_sent()
    return until is None and look.is_sent() and rest_seconds >= _REST_SECONDS


async def _look(api: Api, campaign_id: str) -> Look:
    try:
        found = await api.request("GET", below("campaigns", campaign_id))
    except Refused as problem:
        if problem.status != _NOT_FOUND:
            raise
        found = await _look_at_recorded(api, campaign_id)
    totals = found["totals"]
    return Look(
        at=time.monotonic(),
        stage=found["stage"],
        total=totals["totalRecipients"],
        queued=totals["queued"],
        pending=totals["pending"],
        delivered=totals["delivered"],
        read=totals["read"],
        failed=totals["failed"],
        replied=totals["replied"],
        unknown=found.get("unknown", 0),
        waits_for=", until ".join(found.get("waitingFor", {}).values()) or found.get("pausedReason", ""),
    )


async def _look_at_recorded(api: Api, campaign_id: str) -> dict[str, Any]:
    """A campaign that another system sends."""
    funnel = (await api.request("GET", below("data", "campaigns", campaign_id, "insights")))["funnel"]
    totals = {**funnel, "totalRecipients": funnel["total"]}
    return {"stage": "recorded", "totals": totals, "unknown": funnel["unknown"]}


@contextmanager
def _open_screen() -> Iterator[Callable[[Look, float], None]]:
    """What shows a look and its pace: bars that stay in place, or a line for each change where nobody looks."""
    console = Console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda look, rate: live.update(_draw(look, rate), refresh=True)
        return
    said = ""

    def tell(look: Look, rate: float) -> None:
        nonlocal said
        if said != (said := _write_figures(look)):
            click.echo(f"{datetime.now(UTC):%H:%M:%SZ}  {said}{_write_pace(look, rate)}")

    yield tell


def _write_figures(look: Look) -> str:
    said = (
        f"{look.stage}  sent {look.sent:,}/{look.total:,}  delivered {look.delivered:,}  read {look.read:,}"
    )
    said += f"  failed {look.failed:,}  pending {look.pending:,}  replied {look.replied:,}"
    return (
        said
        + (f"  unknown {look.unknown:,}" if look.unknown else "")
        + (f"  {look.waits_for}" if look.waits_for else "")
    )


def _write_pace(look: Look, rate: float) -> str:
    if not look.queued or rate <= 0:
        return ""
    left = timedelta(seconds=round(look.queued / rate))
    return f"  {rate:,.1f}/s  done in {left}"


def _draw(look: Look, rate: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for name, colour in _BARS.items():
        count = getattr(look, name)
        whole = max(look.total, 1)
        bar = ProgressBar(
            total=whole, completed=count, width=40, complete_style=colour, finished_style=colour
        )
        table.add_row(name, bar, Text(f"{count:,}", justify="right"), f"{count / whole:.1%}")
    state = Text(f"{look.stage}, {look.total:,} recipients{_write_pace(look, rate)}", style="bold")
    more = Text(f"pending {look.pending:,}  replied {look.replied:,}  unknown {look.unknown:,}", style="dim")
    return Group(state, table, more, Text(look.waits_for, style="yellow"))
