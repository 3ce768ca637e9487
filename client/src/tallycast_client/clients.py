"""The clients: what does the steps of a script, with threads waiting or with tasks."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, closing, contextmanager
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from tallycast_client.pages import AsyncPages, Listing, Pages
from tallycast_client.retries import USUAL, Retries
from tallycast_client.steps import Call, Save, Script, Send, Step, Target, Wait
from tallycast_client.verbs import Verbs
from tallycast_client.version import __version__

Result = TypeVar("Result")
Row = TypeVar("Row")
_TIMEOUT_SECONDS = 30.0


class Client(Verbs):
    """A client of one app on a server; to be closed, or used with `with`. May be shared among threads.

    `timeout`: seconds for each of connecting, sending and being answered. `transport`: another way than the network,
    for tests.
    """

    def __init__(
        self,
        url: str,
        app_id: str,
        token: str,
        *,
        timeout: float = _TIMEOUT_SECONDS,
        retries: Retries = USUAL,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, app_id, timeout, retries)
        self._http = httpx.Client(headers=_headers(token), base_url=_base(url, app_id), transport=transport)

    def run(self, script: Script[Result]) -> Result:
        outcome: Any = None
        while True:
            try:
                step = script.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = self._do(step)

    def each(self, listing: Listing[Row]) -> Pages[Row]:
        return Pages(self, listing)

    def _do(self, step: Step) -> Any:
        match step:
            case Wait(seconds):
                return time.sleep(seconds)
            case Send(call):
                return self._send(call)
            case Save(response, target):
                return self._save(response, target)

    def _send(self, call: Call) -> httpx.Response | httpx.RequestError:
        if isinstance(call.body, AsyncIterable):
            raise TypeError("an async iterable is for AsyncClient")
        request = self._http.build_request(**_arguments(call, self._timeout), content=call.body)
        try:
            response = self._http.send(request, stream=True)
            if not (call.is_streamed and response.is_success):
                with closing(response):
                    response.read()
        except httpx.RequestError as error:
            return error
        return response

    def _save(self, response: httpx.Response, target: Target) -> int | httpx.RequestError:
        try:
            with closing(response), _opened(target) as file:
                return sum(file.write(chunk) for chunk in response.iter_bytes())
        except httpx.RequestError as error:
            return error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(Verbs):
    """The same with `async with`, `await` and `async for`, under asyncio."""

    def __init__(
        self,
        url: str,
        app_id: str,
        token: str,
        *,
        timeout: float = _TIMEOUT_SECONDS,
        retries: Retries = USUAL,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, app_id, timeout, retries)
        self._http = httpx.AsyncClient(
            headers=_headers(token), base_url=_base(url, app_id), transport=transport
        )

    async def run(self, script: Script[Result]) -> Result:
        outcome: Any = None
        while True:
            try:
                step = script.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            outcome = await self._do(step)

    def each(self, listing: Listing[Row]) -> AsyncPages[Row]:
        return AsyncPages(self, listing)

    async def _do(self, step: Step) -> Any:
        match step:
            case Wait(seconds):
                return await asyncio.sleep(seconds)
            case Send(call):
                return await self._send(call)
            case Save(response, target):
                return await self._save(response, target)

    async def _send(self, call: Call) -> httpx.Response | httpx.RequestError:
        body = call.body
        content = body if body is None or isinstance(body, bytes | AsyncIterable) else _aiter(body)
        request = self._http.build_request(**_arguments(call, self._timeout), content=content)
        try:
            response = await self._http.send(request, stream=True)
            if not (call.is_streamed and response.is_success):
                async with aclosing(response):
                    await response.aread()
        except httpx.RequestError as error:
            return error
        return response

    async def _save(self, response: httpx.Response, target: Target) -> int | httpx.RequestError:
        size = 0
        try:
            async with aclosing(response):
                with _opened(target) as file:
                    async for chunk in response.aiter_bytes():
                        size += file.write(chunk)
        except httpx.RequestError as error:
            return error
        return size

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


def _headers(token: str) -> dict[str, str]:
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be an AppToken")  # which is not shown
    return {
        "Authorization": f"Bearer {token}",
        "User-Agent": f"tallycast-client/{__version__} httpx/{httpx.__version__}",
    }


def _base(url: str, app_id: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise ValueError("url must be a server's, like https://tallycast.example.com")
    if not app_id:
        raise ValueError("app_id must not be empty")
    return f"{url.rstrip('/')}/v1/api/apps/{quote(app_id, safe='')}"


def _arguments(call: Call, timeout: float) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params) or None,
        "headers": {"Accept": "*/*" if call.is_streamed else "application/json", **call.headers},
        "timeout": httpx.Timeout(timeout, read=timeout + call.seconds),
    }


async def _aiter(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@contextmanager
def _opened(target: Target) -> Iterator[IO[bytes]]:
    """A stream as it is; a file that has its name only once it is whole."""
    if not isinstance(target, str | PathLike):
        yield target
        return
    part = Path(f"{Path(target)}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
