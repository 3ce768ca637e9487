"""A provider that insists: it posts each receipt until it is answered 200, in order, over many connections.

When the server dies under it, it tries again, also what was sent and not answered. Reads a `Task` from standard input,
writes an `Insisted` to standard output.
"""

import asyncio
import re
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from receipts import make_body

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REST_SECONDS = 0.05


class Task(msgspec.Struct):
    """`file` has lines "channel id<TAB>message id<TAB>status<TAB>Unix seconds", of which `first` to `last` are posted.

    An empty line is written when `mark` of them are answered.
    """

    port: int
    path: str
    authorization: str
    file: str
    first: int
    last: int
    connections: int
    mark: int = 0


class Insisted(msgspec.Struct):
    """Latencies in milliseconds, of what was answered 200; `repeated` were sent more than once."""

    answered: int
    repeated: int
    seconds: float
    p50: float
    p99: float
    worst: float


class Insisting:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._lines = iter(Path(task.file).read_text().splitlines()[task.first : task.last])
        self._latencies: list[float] = []
        self._repeated = 0

    async def run(self) -> Insisted:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._task.connections):
                group.create_task(self._post_all())
        seconds, found = time.perf_counter() - began, sorted(self._latencies)
        at = [
            round(found[min(len(found) - 1, int(len(found) * share))] * 1000, 3) for share in (0.5, 0.99, 1)
        ]
        return Insisted(len(found), self._repeated, seconds, *at)

    async def _post_all(self) -> None:
        connection: Connection | None = None
        for line in self._lines:
            request = self._build(line)
            while True:
                began = time.perf_counter()
                try:
                    if connection is None:
                        connection = await _connect(self._task.port)
                    status = await connection.ask(request)
                except OSError:
                    connection, status = None, 0
                if status == 200:
                    self._count(time.perf_counter() - began)
                    break
                self._repeated += 1
                await asyncio.sleep(_REST_SECONDS)

    def _count(self, latency: float) -> None:
        self._latencies.append(latency)
        if len(self._latencies) == self._task.mark:
            sys.stdout.buffer.write(b"\n")
            sys.stdout.buffer.flush()

    def _build(self, line: str) -> bytes:
        channel, message_id, status, at = line.split("\t")
        body, path = make_body(message_id, status, int(at)), self._task.path.replace("@CHANNEL@", channel)
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {self._task.authorization}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def _connect(port: int) -> "Connection":
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request on its way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._buffer = transport, b""
        self._waiting: asyncio.Future[int] | None = None
        self._is_lost = False

    async def ask(self, request: bytes) -> int:
        """The status of the answer; OSError when the connection is lost before it came."""
        if self._is_lost:
            raise ConnectionError
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, end + 2) if end >= 0 else None
        if length is not None and len(self._buffer) >= end + 4 + int(length[1]) and self._waiting:
            status, self._buffer = int(self._buffer[9:12]), b""
            self._waiting.set_result(status)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._is_lost = True
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(ConnectionError())


async def main() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(await Insisting(task).run()))


if __name__ == "__main__":
    uvloop.run(main())
