"""An app in the database without a server before it, for tests of what is below HTTP."""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tallycast import apps, audit, campaigns, channels, db, messages, receipts
from tallycast.campaigns import SentCampaign
from tallycast.channels import Channel, NewChannel
from tallycast.events import Event, Receipt, Status
from tallycast.keys import Cipher
from tallycast.messages import Entry, Recorded
from tallycast.receipts import Arrival

BEGIN_MS = 1_700_000_000_000  # 2023-11-14T22:13:20Z
COUNTS = "total, queued, pending, delivered, read, failed, button_replies, clicks"


def at(ms: int) -> datetime:
    """The moment so many milliseconds after the beginning of all test stories."""
    return datetime.fromtimestamp((BEGIN_MS + ms) / 1000, UTC)


def says(message_id: str, status: str, ms: int | None = 0, code: str | None = None, **fields: Any) -> Receipt:
    """A receipt, at so many milliseconds after the beginning."""
    return Receipt(message_id, Status(status), None if ms is None else BEGIN_MS + ms, code, **fields)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Wait for a condition; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        await asyncio.sleep(0.01)


def family(pid: int) -> list[int]:
    """A process and all that it started, as long as they live."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


async def until_blocked(watcher: db.Connection, blocked: db.Connection) -> None:
    """Wait until a connection waits for another one's lock; behind a pooler, which hides its session, until any does."""
    query = (
        b"select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() "
        b"and (pid = %(pid)s or not exists (select from pg_stat_activity where pid = %(pid)s))"
    )

    async def waits() -> object:
        return await (await watcher.execute(query, {"pid": blocked.info.backend_pid})).fetchone()

    await until(waits)


def numbered(query: bytes) -> tuple[str, list[str]]:
    """A named query as the server gets it, with $1, $2 …, and the names behind the numbers."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return re.sub(r"%\((\w+)\)s", number, query.decode()).replace("%%", "%"), names


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's node and all below it."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


async def generic_plan(connection: db.Connection, query: bytes) -> list[dict[str, Any]]:
    """The nodes of the plan that the product's connections use for a query, whatever its parameters."""
    text, _ = numbered(query)
    cursor = await connection.execute(
        f"explain (generic_plan, verbose, format json) {text}".encode(), prepare=False
    )
    return nodes((await cursor.fetchall())[0][0][0]["Plan"])


@dataclass
class Stage:
    """An app of its own, over one connection."""

    connection: db.Connection
    app_id: str

    async def add_channel(self, kind: channels.ChannelType = "whatsApp") -> Channel:
        new = NewChannel(kind, "generic", "+85230001234", "Shop")
        return await channels.create(self.connection, Cipher(bytes(32)), self.app_id, new)

    async def add_campaign(self, channel: Channel, date: str | None = None) -> int:
        sent = SentCampaign("Spring sale", channel.channel_id, date=date)
        async with self.connection.transaction():
            return await campaigns.record(self.connection, self.app_id, channel, sent)

    async def record(
        self,
        campaign_id: int,
        message_ids: Sequence[str | None],
        first: int = 0,
        connection: db.Connection | None = None,
    ) -> Recorded:
        """Record messages as the API does: recipient number `first` and on; then what waits for them is matched."""
        connection = connection or self.connection
        recorded = await self.record_only(campaign_id, message_ids, first, connection)
        await receipts.match_recorded(connection, self.app_id, recorded.channel_number, recorded.message_ids)
        return recorded

    async def record_only(
        self, campaign_id: int, message_ids: Sequence[str | None], first: int, connection: db.Connection
    ) -> Recorded:
        """The first half of a recording: committed, and nothing matched yet."""
        lines = [
            messages.check_entry(n, msgspec.UNSET, Entry(f"+852{91000000 + first + n}", message_id))
            for n, message_id in enumerate(message_ids)
        ]
        rows, rejected = messages.parse_rows(lines)
        assert rejected == []

        async def work() -> Recorded:
            async with connection.transaction():
                return await messages.record(connection, self.app_id, campaign_id, rows)

        return await db.retry_conflicts(work)

    async def sent(self, channel: Channel, *message_ids: str | None, date: str | None = None) -> int:
        """A recorded campaign with these messages."""
        campaign_id = await self.add_campaign(channel, date)
        await self.record(campaign_id, message_ids)
        return campaign_id

    async def apply(
        self, channel: Channel, *events: Event, arrived_ms: int = 0, connection: db.Connection | None = None
    ) -> tuple[int, int]:
        """Commit one batch; (matched, parked)."""
        arrival = Arrival(self.app_id, channel.channel_number, BEGIN_MS + arrived_ms, list(events))
        return await receipts.apply(connection or self.connection, self.app_id, [arrival])

    async def counts(self, campaign_id: int) -> dict[str, int]:
        """A campaign's counts that are not zero."""
        query = f"select {COUNTS} from counts where app_id = %(app_id)s and campaign_id = %(campaign_id)s"
        found = await db.fetch_dicts(
            self.connection, query.encode(), {"app_id": self.app_id, "campaign_id": campaign_id}
        )
        return {name: number for name, number in found[0].items() if number}

    async def message(self, campaign_id: int, seq: int = 0) -> dict[str, Any]:
        """What is known of a message: the columns that are not null."""
        query = (
            b"select message_id, accepted_at, delivered_at, read_at, failed_at, error_code, error_title from messages "
            b"where app_id = %(app_id)s and campaign_id = %(campaign_id)s and seq = %(seq)s"
        )
        params = {"app_id": self.app_id, "campaign_id": campaign_id, "seq": seq}
        found = await db.fetch_dicts(self.connection, query, params)
        return {name: value for name, value in found[0].items() if value is not None}

    async def parked(self) -> list[str]:
        """The message ids for which something is parked."""
        found = await receipts.list_parked(self.connection, self.app_id, 1000, 0)
        return sorted(one.message_id for one in found)

    async def drift(self) -> list[audit.Drift]:
        return [
            drift async for portion in audit.audit(self.connection, self.app_id) for drift in portion.drifts
        ]


async def make_stage(connection: db.Connection) -> Stage:
    return Stage(connection, (await apps.create_app(connection, "Test")).app_id)
