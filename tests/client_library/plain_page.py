"""A server of the API page and no more: `code` 0, no Link header, no idempotency. And a way on which answers get lost."""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit


class Fault(NamedTuple):
    """An answer instead of the right one. `is_cut`: the connection ends in the middle of it."""

    status: int = 503
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    is_cut: bool = False


class Asked(NamedTuple):
    path: str
    params: dict[str, str]
    headers: dict[str, str]


def campaign(number: int, **fields: Any) -> dict[str, Any]:
    """A campaign as the page describes it."""
    row = {
        "id": f"c-{number}", "date": "2022-11-07T00:00:00.000Z", "campaignName": f"Sale {number}", "channel": "WhatsApp",
        "createdBy": "Mei", "sender": {"phone": "+85230001234", "channelName": "Shop", "sourceName": "Marketing"},
        "subject": "sale", "totalRecipients": 10, "delivered": 8, "read": 4, "replied": 2, "pending": 1, "failed": 1,
    }  # fmt: skip
    return row | fields


class PlainPage:
    """`faults` are answered first, one each; `asked` is what was asked for."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.faults: deque[Fault] = deque()
        self.asked: list[Asked] = []
        self.ignores_offset = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, params: dict[str, str]) -> Fault:
        first = 0 if self.ignores_offset else int(params.get("offset", "0"))
        rows = self.rows[first : first + int(params.get("limit", "10"))]
        return Fault(200, json.dumps({"code": 0, "result": rows}).encode())

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                asked = Asked(url.path, dict(parse_qsl(url.query)), dict(self.headers.items()))
                page.asked.append(asked)
                answer = page.faults.popleft() if page.faults else page.answer(asked.params)
                if answer.is_cut and not answer.body:
                    return
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) + answer.is_cut))
                self.end_headers()
                self.wfile.write(answer.body)

            def do_POST(self) -> None:
                while self.rfile.readline() not in {b"0\r\n", b""}:  # the last chunk of a streamed body
                    pass
                self.rfile.readline()
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def losing_answers(port: int, count: int) -> Iterator[str]:
    """A way to a server on which the first `count` answers are lost once they are made; its URL."""
    left = [count]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threads.append(threading.Thread(target=_carry, args=(client, port, left)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        for thread in threads:
            thread.join()


def _carry(client: socket.socket, port: int, left: list[int]) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=_bring_back, args=(server, client, left))
        back.start()
        with suppress(OSError):
            while chunk := client.recv(65_536):
                server.sendall(chunk)
            server.shutdown(socket.SHUT_WR)
        back.join()


def _bring_back(server: socket.socket, client: socket.socket, left: list[int]) -> None:
    with suppress(OSError):
        while chunk := server.recv(65_536):
            if left[0] > 0:
                left[0] -= 1
                break
            client.sendall(chunk)
        client.shutdown(socket.SHUT_RDWR)
