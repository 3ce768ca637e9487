"""Clients that mean harm or cannot do better: the server refuses them, keeps its memory, and answers others meanwhile."""

import asyncio
import gzip
import re
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from litestar.types import Send

from harness import App, Server
from tallycast.web import edge

pytestmark = pytest.mark.anyio
MEGABYTE = 1_000_000
BODY = b'{"receipts":[]}'
NEXT = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def many_files(server: Server) -> None:
    """Let the server and its clients have as many connections as the machine allows, however it was started."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for pid in (0, *processes(server)):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(autouse=True)
def no_failures(server: Server) -> Iterator[None]:
    """Whatever a client does is its own fault: nothing is answered 500."""
    began = server.log.stat().st_size
    yield
    log = server.log.read_bytes()[began:].decode()
    assert re.findall(r".* 500 cid=.*|.*Traceback.*|.*a request failed.*", log) == []


@pytest.fixture
def hook(app: App) -> str:
    return f"/webhooks/generic/{app.add_channel()}"


def processes(server: Server) -> list[int]:
    """The server's process and those that it started."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [server.process.pid, *map(int, children)]


@contextmanager
def memory_grows_less_than(server: Server, megabytes: int) -> Iterator[None]:
    """No process's peak (VmHWM of proc(5)) is that much above what it has now."""
    before = {}
    for pid in processes(server):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        before[pid] = peak_of(pid)
    yield
    assert max(peak_of(pid) - megabytes_before for pid, megabytes_before in before.items()) < megabytes


def peak_of(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1000


@contextmanager
def others_are_served(server: Server, hook: str) -> Iterator[Callable[[], None]]:
    """Receipts of an honest provider, each on a connection of its own: each is answered 200 in less than a second.

    The function that it gives waits until one more has been asked and answered.
    """
    is_over = threading.Event()
    answered = threading.Semaphore(0)
    receipts = {"receipts": [{"messageID": "m-1", "status": "delivered"}]}

    def post() -> list[tuple[int, float]]:
        seen: list[tuple[int, float]] = []
        anew = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=server.url, timeout=10, limits=anew) as client:
            while not is_over.wait(0.02) or not seen:
                began = time.monotonic()
                seen.append((client.post(hook, json=receipts).status_code, time.monotonic() - began))
                answered.release()
        return seen

    def wait() -> None:
        while answered.acquire(blocking=False):
            pass
        for _ in range(2):  # the first may have been asked before
            assert answered.acquire(timeout=10), "nobody else is answered"

    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post)
        try:
            yield wait
        finally:
            is_over.set()
    assert {status for status, _ in posting.result()} == {200}
    assert max(seconds for _, seconds in posting.result()) < 1


def head_of(path: str, *headers: str, token: str = "") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, *([f"Authorization: Bearer {token}"] if token else []), "", ""]).encode()


@asynccontextmanager
async def connected(
    server: Server, count: int = 1, buffer: int | None = None
) -> AsyncIterator[list[socket.socket]]:
    """Plain sockets: what the server has said can be read even after it has cut off what was being written."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.setblocking(False)
            if buffer is not None:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.sock_connect(one, ("127.0.0.1", server.port)) for one in sockets))
        yield sockets
    finally:
        for one in sockets:
            one.close()


async def write(one: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(one, data)


async def write_all(sockets: list[socket.socket], data: bytes) -> None:
    await asyncio.gather(*(write(one, data) for one in sockets))


async def read_to_end(one: socket.socket) -> bytes:
    """All that the server says until it closes."""
    said = b""
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            while part := await asyncio.get_running_loop().sock_recv(one, 65536):
                said += part
    return said


async def ask(server: Server, data: bytes) -> bytes:
    """What the server answers before it closes; a client may be cut off while it still writes."""
    async with connected(server) as [one]:
        with suppress(ConnectionError):
            await write(one, data)
        return await read_to_end(one)


def statuses(said: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


async def test_heads_that_come_byte_by_byte_hold_nobody_up(server: Server, hook: str) -> None:
    request = head_of(hook, "Connection: close", f"Content-Length: {len(BODY)}") + BODY
    with others_are_served(server, hook):
        async with connected(server, 50) as slow:
            for byte in request:
                await write_all(slow, bytes([byte]))
            said = await asyncio.gather(*map(read_to_end, slow))
    assert [statuses(one) for one in said] == [[200]] * 50, "slow is not wrong"


async def test_bodies_that_stop_half_way_hold_nobody_up(server: Server, hook: str) -> None:
    with others_are_served(server, hook) as wait:
        async with connected(server, 500) as stopped:
            await write_all(stopped, head_of(hook, "Content-Length: 1000000") + b'{"receipts":[')
            await asyncio.to_thread(wait)
            for one in stopped[:100]:
                one.shutdown(socket.SHUT_WR)
            said = await asyncio.gather(*map(read_to_end, stopped[:100]))
    assert [statuses(one) for one in said] == [[400]] * 100
    assert all(b"the body was cut off" in one for one in said)


async def test_a_body_of_which_nothing_more_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "_PATIENCE", 0.05)
    parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])
    sent: list[edge.Message] = []

    async def receive() -> edge.Message:
        for part in parts:
            return part
        return await asyncio.Event().wait()

    async def send(message: edge.Message) -> None:
        sent.append(message)

    async def answer(_: edge.Scope, receive: Callable[[], Awaitable[edge.Message]], send: Send) -> None:
        heard = [(await receive())["type"] for _ in range(2)]
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": repr(heard).encode(), "more_body": False})

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/webhooks/x",
        "state": {},
        "headers": [(b"content-length", b"9")],
    }
    async with asyncio.timeout(5):
        await edge.Edge(answer, ())(scope, receive, send)
    assert sent[1]["body"] == b"['http.request', 'http.disconnect']"
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_client_that_never_reads_holds_nobody_up(server: Server, hook: str) -> None:
    large = b"GET /static/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 100
    with others_are_served(server, hook) as wait, memory_grows_less_than(server, 150):
        async with connected(server, 30, buffer=4096) as deaf:
            for one in deaf:
                with suppress(BlockingIOError):
                    one.send(large)
            await asyncio.to_thread(wait)


async def test_two_thousand_idle_connections_hold_nobody_up(server: Server, hook: str) -> None:
    with others_are_served(server, hook) as wait:
        async with connected(server, 2000) as idle:
            await asyncio.to_thread(wait)
            await write_all(idle[:200], NEXT)
            said = await asyncio.gather(*map(read_to_end, idle[:200]))
    assert [statuses(one) for one in said] == [[200]] * 200, "they were not dropped"


async def send_endlessly(server: Server, head: bytes, part: bytes) -> tuple[list[int], int]:
    """The statuses of what is answered, and how many bytes were taken until then."""
    taken = 0
    async with connected(server) as [one]:
        await write(one, head)
        with suppress(ConnectionError):
            while taken < 200 * MEGABYTE:
                await write(one, part)
                taken += len(part)
        return statuses(await read_to_end(one)), taken


@pytest.mark.parametrize("path", ["hook", "channels", "sent-campaigns"])
async def test_a_body_without_an_end_is_refused_at_the_limit(
    server: Server, app: App, hook: str, path: str
) -> None:
    url = hook if path == "hook" else f"/v1/api/apps/{app.app_id}/{path}"
    head = head_of(url, "Transfer-Encoding: chunked", token=app.token)
    part = b"40000\r\n" + b" " * 0x40000 + b"\r\n"
    with others_are_served(server, hook), memory_grows_less_than(server, 64):
        for _ in range(4):
            answered, taken = await send_endlessly(server, head, part)
            assert answered == [413]
            assert 16 * MEGABYTE < taken < 40 * MEGABYTE, "the limit, and what sockets hold"


@pytest.mark.parametrize("path", ["hook", "channels"])
async def test_a_body_that_says_it_is_too_large_is_not_read(
    server: Server, app: App, hook: str, path: str
) -> None:
    url = hook if path == "hook" else f"/v1/api/apps/{app.app_id}/{path}"
    head = head_of(url, "Content-Length: 1000000000000", token=app.token)
    with others_are_served(server, hook), memory_grows_less_than(server, 8):
        answered, taken = await send_endlessly(server, head, b" " * 100_000)
        assert answered == [413]
        assert taken < 16 * MEGABYTE


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param(b"".join(b"x%d: y\r\n" % n for n in range(5000)), 431, id="many"),
        pytest.param(b"x: " + b"a" * 5_000_000 + b"\r\n", 431, id="huge"),
        pytest.param(b"x: a\r\n b\r\n", 400, id="folded"),
        pytest.param(b"x: a\0b\r\n", 400, id="a NUL"),
        pytest.param(b"x" * 500_000, 431, id="without an end"),
    ],
)
async def test_header_bombs_are_refused(server: Server, hook: str, lines: bytes, status: int) -> None:
    request = f"POST {hook} HTTP/1.1\r\nHost: x\r\n".encode() + lines + b"\r\n"
    with others_are_served(server, hook), memory_grows_less_than(server, 64):
        said = await asyncio.gather(*(ask(server, request) for _ in range(20)))
    assert [statuses(one) for one in said] == [[status]] * 20


async def test_a_url_without_an_end_and_what_is_no_http_are_refused(server: Server, hook: str) -> None:
    with others_are_served(server, hook):
        assert statuses(await ask(server, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == [
            414
        ]
        assert statuses(
            await ask(server, b"\x16\x03\x01\x00\xa5\x01\x00\x00" + bytes(100) + b"\r\n\r\n")
        ) == [400]
        assert statuses(await ask(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000)) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"-1\r\n" + BODY + b"\r\n0\r\n\r\n", id="negative"),
        pytest.param(b"0xf\r\n" + BODY + b"\r\n0\r\n\r\n", id="no hexadecimal"),
        pytest.param(b"f" * 17 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", id="beyond 64 bits"),
        pytest.param(b"5\r\n" + BODY + b"\r\n0\r\n\r\n", id="too short"),
        pytest.param(b"\r\n\r\n", id="none"),
        pytest.param(b"f;" + b"a" * 200_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", id="an endless extension"),
        pytest.param(b"f\r\n" + BODY + b"\r\n0\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", id="endless trailers"),
    ],
)
async def test_wrong_chunks_are_refused_and_nothing_after_them_is_a_request(
    server: Server, hook: str, body: bytes
) -> None:
    said = await ask(server, head_of(hook, "Transfer-Encoding: chunked") + body + NEXT)
    assert statuses(said) == [400]
    assert b"alive" not in said


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        # RFC 9112 section 6.3: Transfer-Encoding counts, and the connection is closed after the answer.
        pytest.param(["Content-Length: 6", "Transfer-Encoding: chunked"], 200, id="both"),
        pytest.param(["Transfer-Encoding: chunked", "Content-Length: 6"], 200, id="both, turned"),
        pytest.param(["Content-Length: 5", "Content-Length: 6"], 400, id="two lengths"),
        pytest.param(["Content-Length: 5, 5"], 400, id="a list of lengths"),
        pytest.param(["Content-Length: +5"], 400, id="a sign"),
        pytest.param(["Content-Length: -1"], 400, id="a negative length"),
        pytest.param(["Content-Length: " + "9" * 5000], 400, id="a length beyond all numbers"),
        pytest.param(["Transfer-Encoding: xchunked"], 400, id="an unknown encoding"),
        pytest.param(["Transfer-Encoding: chunked, identity"], 400, id="an encoding after the chunks"),
        pytest.param(["Transfer-Encoding : chunked"], 400, id="a space before the colon"),
        pytest.param(["X: y", " Transfer-Encoding: chunked"], 400, id="hidden in a folded line"),
    ],
)
async def test_no_request_is_smuggled_in_anothers_body(
    server: Server, hook: str, lines: list[str], status: int
) -> None:
    said = await ask(server, head_of(hook, *lines) + b"0\r\n\r\n" + NEXT)
    assert statuses(said) == [status]
    assert b"alive" not in said


async def test_chunks_in_http_1_0_are_refused(server: Server, hook: str) -> None:
    old = head_of(hook, "Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0")
    assert b" 400 Bad Request\r\n" in await ask(server, old + b"0\r\n\r\n" + NEXT)


async def test_compressed_bodies_are_never_unpacked(server: Server, app: App, hook: str) -> None:
    """A gzip file may be several, one after the other: a gigabyte of blanks in a megabyte."""
    bomb = gzip.compress(b" " * 10 * MEGABYTE) * 100
    with others_are_served(server, hook), memory_grows_less_than(server, 32):
        said = {
            path: await ask(
                server,
                head_of(
                    path,
                    "Content-Encoding: gzip",
                    "Connection: close",
                    f"Content-Length: {len(bomb)}",
                    token=app.token,
                )
                + bomb,
            )
            for path in (hook, f"/v1/api/apps/{app.app_id}/channels")
        }
    assert [statuses(one) for one in said.values()] == [[200], [415]]
