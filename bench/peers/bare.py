"""The floor under the summary: bare ASGI, the same pool, the same SELECT and the same JSON, and nothing else."""

import argparse
from collections.abc import Callable
from typing import Any

import msgspec
from host import CONNECTIONS, serve

from tallycast import db
from tallycast.moments import write_moment
from tallycast.reports import Sender, Summary
from tallycast.sql import load

Row = tuple[Any, ...]
_QUERY = load("reports")["summary_page"]
_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct):
    code: int
    result: list[Summary]
    cid: str


def summarize(row: Row) -> Summary:
    number, sent_at, name, kind, created_by, phone, channel_name, source_name, sender_eid, subject = row[:10]
    date = write_moment(sent_at)
    if kind == "sms":
        sender = Sender(phone, sender_eid=sender_eid)
        totals = {"total_recipients": row[10], "delivered": row[11]}
        return Summary(str(number), date, name, "SMS", created_by, sender, **totals)
    sender = Sender(phone, channel_name, source_name)
    return Summary(str(number), date, name, "WhatsApp", created_by, sender, subject, *row[10:])


class App:
    def __init__(self, url: str, app_id: str) -> None:
        self._pool = db.make_pool(url, CONNECTIONS)
        self._app_id = app_id

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        limit = int(scope["query_string"].partition(b"=")[2] or 10)
        params = {"app_id": self._app_id, "start_at": None, "end_at": None, "limit": limit + 1, "offset": 0}
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(_QUERY, params)
            rows = await cursor.fetchall()
        body = _encode(Answer(200, [summarize(row) for row in rows[:limit]], "0"))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        await self._pool.open(wait=True, timeout=30)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})


def make_app(options: argparse.Namespace) -> App:
    return App(options.url, options.app)


if __name__ == "__main__":
    serve(make_app)
