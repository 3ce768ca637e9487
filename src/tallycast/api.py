"""One way from a command to the API, whether that runs on another machine or within this process.

`api_remote` and `api_local` each give a `Caller`, which carries one request; `Api` is what commands use.
"""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import msgspec

from tallycast.errors import Problem

PAGE = 200
Query = Mapping[str, Any]
_SAFE = ("GET", "HEAD")
_BUSY = (429, 503)
_TRIES = 5
_LONGEST_WAIT = 60.0
_CHUNK = 65_536
_MOST_SAID = 65_536
_NEXT = re.compile(r'<[^>?]*\?([^>]*)>;\s*rel="next"')
_ADVICE = {
    401: "the token was mistyped, has expired or is revoked: `tallycast token create` on the server's machine makes "
    "another; give it by `tallycast profile add`, TALLYCAST_TOKEN or --token",
    403: "use a token of this app with that scope: `tallycast token create --help` on the server's machine",
}


class Call(NamedTuple):
    """A request: `target` is the path with its query."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | AsyncIterable[bytes]


class Answer(NamedTuple):
    """The beginning of an answer; `body` is read as it comes. The headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]


Caller = Callable[[Call], AbstractAsyncContextManager[Answer]]


class Refused(Problem):
    """The server refused a request; the message says why, and what to do where that is known."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def below(*parts: object) -> str:
    """A path below the app's URL, each part escaped: `below("campaigns", 7)` is `/campaigns/7`."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


async def read_chunks(file: IO[bytes], advance: Callable[[int], None] | None = None) -> AsyncIterator[bytes]:
    """A file's content for an upload; `advance` is told how much of it is sent."""
    while chunk := file.read(_CHUNK):
        yield chunk
        if advance is not None:
            advance(len(chunk))


class Api:
    """The API of one app. `tell` gets a line for people when a request has to wait. `do_import`: does an import in this
    process, where no server's worker may be there to do it; None where a server is asked.

    Every method raises Refused, or where the server cannot be reached api_remote.Unreachable.
    """

    def __init__(
        self,
        caller: Caller,
        app_id: str,
        tell: Callable[[str], None] = lambda _: None,
        do_import: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.app_id = app_id
        self.do_import = do_import
        self._caller = caller
        self._tell = tell

    async def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        json: Any = None,
        stream: AsyncIterable[bytes] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """The answer's `result`. `path` is below the app's URL; of `query` what is None is left out."""
        opened = self.open(method, path, query, json=json, stream=stream, content_type=content_type)
        async with opened as answer:
            return await _read_result(answer)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        json: Any = None,
        stream: AsyncIterable[bytes] | None = None,
        content_type: str = "application/json",
    ) -> AsyncIterator[Answer]:
        """The answer as it comes, for what is long: `async for chunk in answer.body`.

        A safe request that the server is too busy for is asked again, after as long as the server says.
        """
        call = self._write_call(method, path, query, json, stream, content_type)
        for n in range(_TRIES):
            async with self._caller(call) as answer:
                if answer.status < 300:  # noqa: PLR2004 - HTTP's success
                    yield answer
                    return
                problem = await _read_problem(answer)
            seconds = _find_wait(answer, n)
            if (
                method not in _SAFE
                or answer.status not in _BUSY
                or seconds > _LONGEST_WAIT
                or n + 1 == _TRIES
            ):
                raise problem
            self._tell(f"{problem.message}: asking again in {seconds:g} s")
            await asyncio.sleep(seconds)

    async def each(
        self, path: str, query: Query | None = None, limit: int | None = None, offset: int = 0
    ) -> AsyncIterator[Any]:
        """The items of a list page by page, `limit` at most; follows the header `Link` where there is one."""
        asked: dict[str, Any] = {**(query or {}), "offset": offset}
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            async with self.open("GET", path, {**asked, "limit": size}) as answer:
                rows = await _read_result(answer)
            for row in rows:
                yield row
            if len(rows) < size:
                return
            left = None if left is None else left - len(rows)
            asked = _find_next(answer) or {**asked, "offset": int(asked.get("offset", 0)) + len(rows)}

    async def list(
        self, path: str, query: Query | None = None, limit: int | None = None, offset: int = 0
    ) -> list[Any]:
        return [row async for row in self.each(path, query, limit, offset)]

    def _write_call(
        self,
        method: str,
        path: str,
        query: Query | None,
        json: Any,
        stream: AsyncIterable[bytes] | None,
        content_type: str,
    ) -> Call:
        given = {name: _write_value(value) for name, value in (query or {}).items() if value is not None}
        target = f"/v1/api/apps/{quote(self.app_id, safe='')}{path}{'?' if given else ''}{urlencode(given)}"
        body = stream if stream is not None else b"" if json is None else msgspec.json.encode(json)
        return Call(method, target, {"content-type": content_type} if body else {}, body)


def _write_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _read_result(answer: Answer) -> Any:
    body = b"".join([chunk async for chunk in answer.body])
    try:
        return msgspec.json.decode(body)["result"]
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, KeyError):
        raise Refused(answer.status, _tell_stranger(answer)) from None


async def _read_problem(answer: Answer) -> Refused:
    body = b""
    async for chunk in answer.body:
        body += chunk
        if len(body) > _MOST_SAID:
            break
    try:
        message = str(msgspec.json.decode(body)["message"])
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, KeyError):
        message = _tell_stranger(answer)
    advice = _ADVICE.get(answer.status)
    return Refused(answer.status, f"{message}; {advice}" if advice else message)


def _tell_stranger(answer: Answer) -> str:
    """What to say of an answer that is not the API's."""
    said = f"HTTP {answer.status}"
    if target := answer.headers.get("location"):
        said += f", which leads to {target}"
    return (
        f"the address does not answer as tallycast does ({said}): "
        "the URL is where the server is reached, like https://campaigns.example.com, without /v1"
    )


def _find_wait(answer: Answer, n: int) -> float:
    """Seconds until the next try: Retry-After (RFC 9110 section 10.2.3), else more each time."""
    said = answer.headers.get("retry-after", "")
    if said.isdecimal():
        return float(said)
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return 0.5 * 2.0**n
    return max(0.0, round((moment - datetime.now(UTC)).total_seconds(), 1))


def _find_next(answer: Answer) -> dict[str, Any] | None:
    """The parameters of the next page."""
    found = _NEXT.search(answer.headers.get("link", ""))
    return dict(parse_qsl(found[1])) if found else None
