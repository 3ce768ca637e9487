"""What the three designs of counting share: the webhook, the report page, the pool and the batches.

It is as lean as it can be: no framework, no log, no metrics; a body is decoded no further than the design needs, and
every statement is prepared. With `--batch 500` receipts that arrive while a batch commits are the next batch, as in
tallycast; with `--batch 1` each request is a transaction of its own, on one of 8 connections.
"""

import argparse
import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from bare import Answer, summarize
from host import CONNECTIONS
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

RANKS = {"sent": 1, "failed": 2, "delivered": 3, "read": 4}
_SQUASH_SECONDS = 5.0
# What all designs keep of campaigns and messages; `rank` is the state of a message: 1 is pending.
TABLES = """
create table campaigns (campaign_id bigint primary key, sent_at timestamptz not null, name text not null,
  type text not null, created_by text not null, phone text not null, channel_name text not null,
  source_name text not null, sender_eid text not null, subject text not null, total int not null);
create index on campaigns (sent_at desc, campaign_id desc);
create table messages (message_id text primary key, campaign_id bigint not null, rank smallint not null default 1);
"""
PAGE = """
with page as (select * from campaigns order by sent_at desc, campaign_id desc limit %(limit)s)
select campaign_id, sent_at, name, type, created_by, phone, channel_name, source_name, sender_eid, subject,
  total, delivered, read, 0 as replied, pending, failed
from page {} order by sent_at desc, campaign_id desc
"""


@dataclass(frozen=True)
class Design:
    """`schema` is added to TABLES, and `loaded` run when these are filled; `apply` takes `ids` and `ranks`."""

    schema: str
    apply: str
    counts: str  # joined to the page's campaigns: delivered, read, pending and failed of each
    loaded: str = ""
    squash: str = ""


class Status(msgspec.Struct):
    id: str
    status: str


class Value(msgspec.Struct):
    statuses: list[Status] = []


class Change(msgspec.Struct):
    value: Value


class Entry(msgspec.Struct):
    changes: list[Change]


class Body(msgspec.Struct):
    entry: list[Entry]


_decode = msgspec.json.Decoder(Body).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class Batch:
    ids: list[str] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    done: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Writer:
    def __init__(self, pool: "AsyncConnectionPool[AsyncConnection[Any]]", apply: str, size: int) -> None:
        self._pool, self._apply, self._size = pool, apply.encode(), size
        self._next: Batch | None = None
        self._turn = asyncio.Lock()

    async def write(self, ids: list[str], ranks: list[int]) -> None:
        """Returns when it is committed."""
        if self._size == 1:
            await self._commit(Batch(ids, ranks))
            return
        batch = self._next
        if batch is None or len(batch.ids) >= self._size:
            batch = self._next = Batch()
            batch.done.add_done_callback(lambda done: done.exception())  # also where nobody waits any more
            asyncio.get_running_loop().create_task(self._commit_in_turn(batch))
        batch.ids += ids
        batch.ranks += ranks
        await asyncio.shield(batch.done)

    async def _commit_in_turn(self, batch: Batch) -> None:
        async with self._turn:
            if self._next is batch:
                self._next = None
            try:
                await self._commit(batch)
                batch.done.set_result(None)
            except Exception as error:  # noqa: BLE001 - told to each that waits for it
                batch.done.set_exception(error)

    async def _commit(self, batch: Batch) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(self._apply, {"ids": batch.ids, "ranks": batch.ranks})


class Receiver:
    def __init__(self, design: Design, options: argparse.Namespace) -> None:
        self._page = PAGE.format(design.counts).encode()
        self._squash = design.squash.encode()
        settings = {"autocommit": True, "prepare_threshold": 0}
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            options.url, min_size=CONNECTIONS, max_size=CONNECTIONS, kwargs=settings, open=False
        )
        self._apply, self._batch = design.apply, options.batch
        self._token = f"Bearer {options.token}".encode()

    async def __call__(self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        status, body = await self._answer(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Any, receive: Callable[..., Any]) -> tuple[int, bytes]:
        if scope["path"] not in {"/webhook", "/report"}:
            return 404, b"{}"
        if not hmac.compare_digest(dict(scope["headers"]).get(b"authorization", b""), self._token):
            return 401, b"{}"
        if scope["path"] == "/webhook":
            return await self._take(receive)
        return await self._report(int(scope["query_string"].partition(b"=")[2] or 10))

    async def _take(self, receive: Callable[..., Any]) -> tuple[int, bytes]:
        data, more = b"", True
        while more:
            message = await receive()
            data, more = data + message["body"], message.get("more_body", False)
        changes = [change for entry in _decode(data).entry for change in entry.changes]
        statuses = [status for change in changes for status in change.value.statuses]
        await self._writer.write([one.id for one in statuses], [RANKS[one.status] for one in statuses])
        return 200, b"{}"

    async def _report(self, limit: int) -> tuple[int, bytes]:
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(self._page, {"limit": limit})
            rows = await cursor.fetchall()
        return 200, _encode(Answer(200, [summarize(row) for row in rows], "0"))

    async def _live(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        await self._pool.open(wait=True, timeout=30)
        self._writer = Writer(self._pool, self._apply, self._batch)
        squashing = asyncio.create_task(self._keep_squashing()) if self._squash else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if squashing:
            squashing.cancel()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep_squashing(self) -> None:
        while True:
            await asyncio.sleep(_SQUASH_SECONDS)
            async with self._pool.connection() as connection:
                await connection.execute(self._squash)
