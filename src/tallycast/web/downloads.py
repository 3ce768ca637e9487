"""Long answers that are made while they are sent: how many at a time, and never one that only looks whole."""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple
from urllib.parse import quote

from litestar.types import Receive, Scope, Send

from tallycast import db
from tallycast.config import EXPORT_CONNECTIONS
from tallycast.errors import ServiceUnavailable, TooManyRequests
from tallycast.web.notes import HEADER

log = logging.getLogger("tallycast.downloads")
_OF_ONE_APP = max(1, EXPORT_CONNECTIONS // 2)
_WAIT = {"Retry-After": "5"}
# A client that takes nothing for a minute is gone; and no download may hold its snapshot of the database for ever.
_STALL_SECONDS = 60.0
_LONGEST_SECONDS = 3600.0
_LONGEST_NAME = 100
_UNFIT_FOR_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff<>:"/\\|?*]+')


class Slots:
    """Who downloads from this process: each has a database connection of its own, so there must not be many."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def take(self, app_id: str) -> Iterator[None]:
        if self._taken[app_id] >= _OF_ONE_APP:
            raise TooManyRequests(
                f"Too many requests: {_OF_ONE_APP} exports of this app are running, wait for one",
                headers=_WAIT,
            )
        if self._taken.total() >= EXPORT_CONNECTIONS:
            raise ServiceUnavailable(headers=_WAIT)
        self._taken[app_id] += 1
        try:
            yield
        finally:
            self._taken[app_id] -= 1
            self._taken += Counter()  # forgets who has none


class File(NamedTuple):
    """What is sent: `rows` in all, known beforehand. `note`: why there are fewer than a reader would expect."""

    name: str
    media_type: str
    rows: int
    chunks: AsyncGenerator[bytes, None]
    note: str = ""


class Download:
    """An answer that sends a file. `open_` finds out what there is; its errors are still answered as such.

    The last message goes out when everything is closed, so that a client's next download finds a place; and only then
    is the answer complete: the server breaks the connection of an application that ends without it.
    """

    def __init__(self, open_: Callable[[], AbstractAsyncContextManager[File]]) -> None:
        self._open = open_

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_sending = False
        try:
            async with self._open() as file, contextlib.aclosing(file.chunks):
                await send({"type": "http.response.start", "status": 200, "headers": _write_headers(file)})
                is_sending = scope["state"]["method"] != "HEAD"
                if is_sending and not await _send_all(file.chunks, receive, send):
                    return
        except db.AWAY as error:
            if not is_sending:
                raise
            log.warning("a download broke off: %s", error, extra={"cid": scope["state"]["cid"]})
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_all(chunks: AsyncGenerator[bytes, None], receive: Receive, send: Send) -> bool:
    """Whether the client was there to the end. TimeoutError where it does not take anything."""
    leaving = asyncio.create_task(_await_leaving(receive))
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            async for chunk in chunks:
                if leaving.done():
                    return False
                if chunk:
                    async with asyncio.timeout(_STALL_SECONDS):
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
            return True
    finally:
        leaving.cancel()


async def _await_leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _write_headers(file: File) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", file.media_type.encode()),
        (b"content-disposition", write_disposition(file.name).encode()),
        (b"x-total-rows", b"%d" % file.rows),
    ]
    return [*headers, (HEADER.lower().encode(), file.note.encode())] if file.note else headers


def write_disposition(name: str) -> str:
    """As an attachment (RFC 6266), with the name in ASCII for old clients and in full for others (RFC 8187)."""
    stem, _, suffix = name.rpartition(".")
    clean = " ".join(_UNFIT_FOR_NAMES.sub(" ", stem).split()).strip(". ")[:_LONGEST_NAME] or "export"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", clean).strip("-. ") or "export"
    full = quote(f"{clean}.{suffix}", safe="")
    return f"attachment; filename=\"{plain}.{suffix}\"; filename*=UTF-8''{full}"
