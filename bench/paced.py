"""Open-loop load: requests leave at a fixed rate, whether or not earlier ones were answered.

Latency counts from the moment at which a request should have left, so a server that stalls is charged for all that
waited meanwhile, and so is this program if it is late itself (`lag`). Without a rate every connection sends its next
request when it has its answer, which stands in for wrk where that is missing. Reads a `Job` from standard input, writes
a `Told` to standard output.
"""

import asyncio
import re
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import msgspec
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE_SECONDS = 30


class Job(msgspec.Struct):
    """`path` and `body` may hold @CHANNEL@ and @ID@, which lines of the file `ids` fill ("channel id<TAB>message id"),
    from line `first` on. A `rate` of 0 is a closed loop.
    """

    port: int
    rate: float
    seconds: float
    connections: int
    method: str
    path: str
    authorization: str
    body: str = ""
    ids: str = ""
    first: int = 0


class Told(msgspec.Struct):
    """Latencies in milliseconds. `answered` are the requests that got a 200."""

    sent: int
    answered: int
    errors: int
    seconds: float
    p50: float
    p90: float
    p99: float
    worst: float
    lag_p99: float


class Load:
    def __init__(self, job: Job) -> None:
        self.job = job
        self.sent = 0
        self.lines = Path(job.ids).read_text().splitlines() if job.ids else []
        # In turn: the server closes a connection that was not used for half a minute.
        self.idle: deque[Connection] = deque()
        self.waiting: deque[tuple[int, float]] = deque()
        self.latencies: list[float] = []
        self.lags: list[float] = []
        self.errors = 0
        self.done = asyncio.Event()
        self._is_over = False
        self._now = time.perf_counter  # the event loop's clock ticks in whole milliseconds

    def build(self, n: int) -> bytes:
        job, path, body = self.job, self.job.path, self.job.body
        if self.lines:
            channel, _, message_id = self.lines[(job.first + n) % len(self.lines)].partition("\t")
            path, body = path.replace("@CHANNEL@", channel), body.replace("@ID@", message_id)
        head = f"{job.method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nAuthorization: {job.authorization}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n{body}".encode()

    async def run(self) -> Told:
        loop = asyncio.get_running_loop()
        for _ in range(self.job.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.job.port)
            self.idle.append(connection)
        began = self._now()
        await (self._keep_pace(began) if self.job.rate else self._keep_busy(began))
        self._is_over = True
        seconds = self._now() - began
        async with asyncio.timeout(_PATIENCE_SECONDS):
            self._tick_off()
            await self.done.wait()
        return self._tell(seconds)

    async def _keep_pace(self, began: float) -> None:
        total = round(self.job.rate * self.job.seconds)
        while self.sent < total:
            now = self._now()
            while self.sent < total and (due := began + self.sent / self.job.rate) <= now:
                self.lags.append(now - due)
                self._dispatch(due)
            await asyncio.sleep(0.001)

    async def _keep_busy(self, began: float) -> None:
        while self.idle:
            self._dispatch(self._now())
        await asyncio.sleep(self.job.seconds - (self._now() - began))

    def _dispatch(self, due: float) -> None:
        n, self.sent = self.sent, self.sent + 1
        if self.idle:
            self.idle.popleft().send(self.build(n), due)
        else:
            self.waiting.append((n, due))

    def finish(self, connection: "Connection", due: float, status: int) -> None:
        if status == 200:
            self.latencies.append(self._now() - due)
        else:
            self.errors += 1
        if self.waiting:
            n, due = self.waiting.popleft()
            connection.send(self.build(n), due)
            return
        self.idle.append(connection)
        self._tick_off()
        if not self.job.rate and not self._is_over:
            self._dispatch(self._now())

    def _tick_off(self) -> None:
        if self._is_over and len(self.latencies) + self.errors == self.sent:
            self.done.set()

    def _tell(self, seconds: float) -> Told:
        found, lags = sorted(self.latencies), sorted(self.lags) or [0.0]

        def at(share: float, values: list[float]) -> float:
            return round(values[min(len(values) - 1, int(len(values) * share))] * 1000, 3)

        return Told(
            self.sent, len(found), self.errors, seconds, at(0.5, found), at(0.9, found), at(0.99, found), at(1, found),
            at(0.99, lags),
        )  # fmt: skip


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request on its way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due = 0.0
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's, which is not a subclass

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._buffer, 0, end + 2) if end >= 0 else None
        if length is not None and len(self._buffer) >= end + 4 + int(length[1]):
            status, self._buffer = int(self._buffer[9:12]), b""
            self._load.finish(self, self._due, status)

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self._load.done.is_set():
            sys.exit("the server closed a connection")


async def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    told = await Load(job).run()
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    uvloop.run(main())
