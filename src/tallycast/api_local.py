"""The API within this process: the server's own application on the database, without a socket and without a token.

What a server does besides answering (receipts, tidying, the memory of tokens) is left to the server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from tallycast import audience, db, leases
from tallycast.api import Answer, Call, Caller, Refused
from tallycast.config import Settings
from tallycast.web.local import make_local_app
from tallycast.web.services import Services, make_services

_CONNECTIONS = 4
_AHEAD = 4
# Who has the database may load as much into it as they like.
_LARGEST_MB = {"max_body_mb": 1024, "max_upload_mb": 10_000}


@asynccontextmanager
async def open_local(settings: Settings, url: str, operator: str) -> AsyncIterator[tuple[Caller, Services]]:
    """The application for this process alone, on the migrated database at `url`.

    Every request may do everything in every app; what it does is recorded as done by `operator`.
    """
    settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
    limits: dict[str, Any] = {
        "database_connections": _CONNECTIONS,
        "rate_limit": 0,
        "replica_url": None,
        **_LARGEST_MB,
    }
    services = make_services(replace(settings, **limits), url, operator)
    app = make_local_app(services)
    await services.pool.open(wait=True, timeout=30)
    try:

        @asynccontextmanager
        async def call(call: Call) -> AsyncIterator[Answer]:
            async with _Exchange(app, call).run() as exchange:
                yield await exchange.begin()

        yield call, services
    finally:
        await services.pool.close()


class _Exchange:
    """One request to an ASGI application, and its answer: a few chunks of each are in memory at a time."""

    def __init__(self, app: Any, call: Call) -> None:
        self._app = app
        self._call = call
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_AHEAD)
        self._chunks = _chunks(call)
        self._is_read = False
        self._is_answered = asyncio.Event()
        self._task: asyncio.Task[None]

    @asynccontextmanager
    async def run(self) -> "AsyncIterator[_Exchange]":
        self._task = asyncio.create_task(self._app(self._write_scope(), self._receive, self._messages.put))
        try:
            yield self
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _write_scope(self) -> dict[str, Any]:
        path, _, query = self._call.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._call.method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in self._call.headers.items()],
            "client": None,
            "server": None,
            "state": {},
            "extensions": {},
        }

    async def _receive(self) -> dict[str, Any]:
        if self._is_read:
            await self._is_answered.wait()
            return {"type": "http.disconnect"}
        try:
            body = await anext(self._chunks)
        except StopAsyncIteration:
            self._is_read = True
            body = b""
        return {"type": "http.request", "body": body, "more_body": not self._is_read}

    async def begin(self) -> Answer:
        start = await self._next()
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers, self._read_body())

    async def _read_body(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._next()
            yield message["body"]
            if not message.get("more_body"):
                self._is_answered.set()
                await self._task
                return

    async def _next(self) -> dict[str, Any]:
        """The application's next message; Refused where it ended before its answer did."""
        getting = asyncio.ensure_future(self._messages.get())
        await asyncio.wait({getting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            await asyncio.sleep(0)  # it may have ended with a last message
        if getting.done():
            return getting.result()
        getting.cancel()
        raise Refused(500, "the answer broke off")


async def _chunks(call: Call) -> AsyncIterator[bytes]:
    if isinstance(call.body, bytes):
        yield call.body
        return
    async for chunk in call.body:
        yield chunk


async def run_import(services: Services, app_id: str, import_id: str, worker: str) -> None:
    """Do an import here, unless a worker has taken it: no other may be running."""
    name = f"import:{import_id}"
    async with services.pool.connection() as connection:
        if not await leases.take(connection, app_id, name, worker):
            return
    keeping = asyncio.create_task(
        db.repeat(lambda: _renew(services, app_id, name, worker), leases.RENEW_SECONDS)
    )
    try:
        await audience.run_import(services.pool, services.cipher, app_id, import_id)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        async with services.pool.connection() as connection:
            await leases.give_back(connection, app_id, name, worker)


async def _renew(services: Services, app_id: str, name: str, worker: str) -> None:
    async with services.pool.connection() as connection:
        await leases.renew(connection, app_id, [name], worker)
