"""The edge: what every request gets, whatever answers it. One ASGI layer instead of a stack, for speed.

A `cid`, the access line, metrics, HEAD as GET, CORS for the API, security headers and compression.
"""

import asyncio
import itertools
import logging
import os
import re
import time
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import zstandard
from litestar.types import ASGIApp, Receive, Send

from tallycast.telemetry import ACCESS_LOG, REQUEST_METER

Headers = list[tuple[bytes, bytes]]
# The framework types each message and scope on its own; at the edge they are all just what the server passes.
Message = Any
Scope = Any
log = logging.getLogger("tallycast.edge")
_SMALLEST = 1024
# Seconds for the next part of a body: bodies that stop half way would in the end take all connections there are.
_PATIENCE = 30.0
_COMPRESSIBLE = re.compile(rb"application/(json|javascript|x-ndjson)|text/|image/svg")
_SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
# No inline script or style anywhere, but for the styles of the API's documentation, which is another's work.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'%b; img-src 'self' data:; font-src 'self'; "
    b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGES = (b"content-security-policy", _POLICY % b"")
_DOCS = (b"content-security-policy", _POLICY % b" 'unsafe-inline'")
# The log says of whom a person was erased as little as the database.
_PERSON = re.compile(r"/(people|opt-outs/[^/]+)/[^/]+")
# Its rest opens an account, once.
_SECRET_PATH = "/welcome/"  # noqa: S105 - a path
# What is below these is for whoever asked: no cache keeps it unless it says so itself.
_PRIVATE = ("/v1/api/", "/apps/")
_CORS_METHODS = b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"
_EXPOSED = (
    b"X-Correlation-ID, Link, ETag, Retry-After, Idempotency-Replayed, Content-Disposition, X-Total-Rows, "
    b"Tallycast-Note"
)
_FAILURE = b'{"code":6451001,"message":"Bad response from the service","cid":"%s"}'


class Edge:
    """One per process, made after the fork: each draws a prefix of its own for the ids of its requests."""

    def __init__(self, app: ASGIApp, cors_origins: tuple[str, ...]) -> None:
        self._app = app
        self._prefix = os.urandom(6).hex()
        self._count = itertools.count()
        self._cors_origins = frozenset(origin.encode() for origin in cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await Exchange(self, scope, receive, send).run(self._app)

    def make_cid(self) -> str:
        """An id that no other request has: 48 random bits per process, then a count."""
        return f"{self._prefix}{next(self._count):08x}"

    def cors_headers(self, scope: Scope, origin: bytes | None) -> Headers:
        if not self._cors_origins or not scope["path"].startswith("/v1/api/"):
            return []
        if origin not in self._cors_origins:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]


class Exchange:
    """One request and its answer on their way through the edge."""

    __slots__ = (
        "_cid", "_cors", "_edge", "_encodings", "_has_unread", "_is_head", "_path", "_receive", "_scope", "_send", "_start",
        "_started",
    )  # fmt: skip

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send = send
        self._cid = edge.make_cid()
        self._start: Message | None = None
        self._started = False
        self._is_head = False
        self._path = ""
        self._has_unread = False
        self._cors: Headers = []
        self._encodings = b""

    async def run(self, app: ASGIApp) -> None:
        scope, began = self._scope, time.perf_counter()
        method = scope["method"]
        scope["state"]["cid"] = self._cid
        scope["state"]["method"] = method
        scope["state"]["path"] = self._path = scope["path"]
        if method == "HEAD":
            self._is_head = True
            scope["method"] = "GET"
        origin = None
        preflight = None
        for name, value in scope["headers"]:
            if name == b"accept-encoding":
                self._encodings = value
            elif name == b"origin":
                origin = value
            elif name == b"access-control-request-method":
                preflight = value
            elif name in {b"content-length", b"transfer-encoding"}:
                self._has_unread = value != b"0"
        self._cors = self._edge.cors_headers(scope, origin)
        try:
            if method == "OPTIONS" and preflight is not None and len(self._cors) > 1:
                await self._answer_preflight()
            else:
                await app(scope, self.receive, self.send)
        except Exception:
            log.exception("a request failed", extra={"cid": self._cid})
            if not self._started:
                await self._answer_failure()
        self._report(method, time.perf_counter() - began)
        # Who is still held by a failure's traceback must not hold the connection.
        del self._receive, self._send

    def _report(self, method: str, seconds: float) -> None:
        status: int = self._start["status"] if self._start else 500
        route = self._scope.get("path_template") or "none"
        REQUEST_METER.note(method, route, status, seconds)
        if ACCESS_LOG.is_on():
            ACCESS_LOG.write(f"{method} {self._logged_path()} {status}", self._cid, seconds)

    def _logged_path(self) -> str:
        """The path; without secrets and numbers, as it came where it could write lines of its own."""
        path = _SECRET_PATH + "..." if self._path.startswith(_SECRET_PATH) else self._path
        path = _PERSON.sub(r"/\1/...", path)
        return path if path.isprintable() else repr(path)

    async def receive(self) -> Message:
        if not self._has_unread:  # to wait for the client's leave is not to wait for its body
            return await self._receive()
        try:
            async with asyncio.timeout(_PATIENCE):
                message: Message = await self._receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        self._has_unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if not self._started:
            assert self._start is not None
            self._started = True
            headers: Headers = [*self._start["headers"], *_SECURITY, *self._cors]
            headers.append(_DOCS if self._path == "/docs" else _PAGES)
            headers.append((b"x-correlation-id", self._cid.encode()))
            if self._path.startswith(_PRIVATE) and b"cache-control" not in dict(headers):
                headers.append((b"cache-control", b"no-store"))
            if (
                self._has_unread
            ):  # the rest of the body cannot be told from a next request: the server will close
                headers.append((b"connection", b"close"))
            body: bytes = message["body"]
            if len(body) >= _SMALLEST and not message.get("more_body"):
                message["body"], headers = _compress(body, headers, self._encodings)
            self._start["headers"] = headers
            await self._send(self._start)
        if self._is_head:
            message["body"] = b""
        await self._send(message)

    async def _answer_preflight(self) -> None:
        asked = next((v for n, v in self._scope["headers"] if n == b"access-control-request-headers"), b"")
        allowed = (
            asked if re.fullmatch(rb"[A-Za-z0-9\-, ]{1,1000}", asked) else b"Authorization, Content-Type"
        )
        headers = [
            (b"access-control-allow-methods", _CORS_METHODS),
            (b"access-control-allow-headers", allowed),
            (b"access-control-max-age", b"600"),
        ]
        await self.send({"type": "http.response.start", "status": 204, "headers": headers})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer_failure(self) -> None:
        headers = [(b"content-type", b"application/json")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send(
            {"type": "http.response.body", "body": _FAILURE % self._cid.encode(), "more_body": False}
        )


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(6, wbits=31)
    return packer.compress(body) + packer.flush()


_PACKERS: dict[str, Callable[[bytes], Any]] = {
    "zstd": lambda body: zstandard.compress(body, 3),
    "br": lambda body: brotli.compress(body, quality=4),
    "gzip": _gzip,
}


def choose_encoding(accepted: str) -> str | None:
    """The encoding that the client likes best (RFC 9110 section 12.5.3); of equals the one that costs least."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = re.search(r"q\s*=\s*([0-9.]+)", parameters)
        try:
            weights[name.strip()] = float(weight[1]) if weight else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    liked = {name: weights.get(name, weights.get("*", 0.0)) for name in _PACKERS}
    best = max(liked, key=lambda name: liked[name])
    return best if liked[best] > 0 and liked[best] >= weights.get("identity", 0.0) else None


def _compress(body: bytes, headers: Headers, accepted: bytes) -> tuple[bytes, Headers]:
    names = dict(headers)
    if not _COMPRESSIBLE.match(names.get(b"content-type", b"")) or b"content-encoding" in names:
        return body, headers
    headers = [*headers, (b"vary", b"Accept-Encoding")]
    encoding = choose_encoding(accepted.decode("latin-1")) if accepted else None
    if encoding is None:
        return body, headers
    body = _PACKERS[encoding](body)
    headers = [(name, value) for name, value in headers if name != b"content-length"]
    return body, [*headers, (b"content-encoding", encoding.encode()), (b"content-length", b"%d" % len(body))]
