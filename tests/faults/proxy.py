"""A TCP proxy that can be as bad as a network: it delays, throttles, swallows, loses answers, cuts and refuses."""

import asyncio
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from typing import Any

_CHUNK = 65_536
_DELAY_SECONDS = 0.2
_BYTES_A_SECOND = 40_000
_CUT_SHARE = 0.03

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Mode(StrEnum):
    PASS = "pass"
    DELAY = "delay"  # each chunk comes 200 ms late
    THROTTLE = "throttle"  # 40 kB a second
    LOSE = "lose"  # of all chunks, 3 % are lost with their connection
    CUT = "cut"  # connections are taken and closed at once
    REFUSE = "refuse"  # nobody listens
    BLACKHOLE = "blackhole"  # nothing comes through, and nobody says so
    HALF_OPEN = "half-open"  # requests come through, their answers never do


class _Cut(Exception):
    """This connection ends here."""


def to_port(port: int) -> Connect:
    return lambda: asyncio.open_connection("127.0.0.1", port)


def to_socket(path: str) -> Connect:
    return lambda: asyncio.open_unix_connection(path)


class Proxy:
    """Listens on `port` of loopback from `start` to `stop`, in a thread of its own."""

    port = 0

    def __init__(self, connect: Connect) -> None:
        self.mode = Mode.PASS
        self._connect = connect
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    def start(self) -> "Proxy":
        self._thread.start()
        self._do(self._listen())
        return self

    def stop(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, mode: Mode) -> None:
        self._do(self._change(mode))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _change(self, mode: Mode) -> None:
        old, self.mode = self.mode, mode
        self._changed.set()
        self._changed = asyncio.Event()
        if mode in {Mode.CUT, Mode.REFUSE} or old is Mode.HALF_OPEN:
            self._abort()  # answers that were lost never come
        if mode is Mode.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
        elif mode is not Mode.REFUSE and self._server is None:
            await self._listen()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if self.mode is not Mode.CUT:
                await self._join(reader, writer)
        except (OSError, _Cut, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await self._connect()
        both = {writer, far_writer}
        self._writers |= both
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer, is_answer=False)),
            asyncio.create_task(self._pump(far_reader, writer, is_answer=True)),
        ]
        try:
            await asyncio.gather(*pumps)
        finally:
            self._writers -= both
            far_writer.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        while data := await reader.read(_CHUNK):
            await self._hold_up(len(data), is_answer=is_answer)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _hold_up(self, size: int, *, is_answer: bool) -> None:
        if self.mode is Mode.DELAY:
            await asyncio.sleep(_DELAY_SECONDS)
        elif self.mode is Mode.THROTTLE:
            await asyncio.sleep(size / _BYTES_A_SECOND)
        elif self.mode is Mode.LOSE and random.random() < _CUT_SHARE:
            raise _Cut
        while self.mode is Mode.BLACKHOLE or (self.mode is Mode.HALF_OPEN and is_answer):
            await self._changed.wait()
