"""Lines: how messages get to a provider, by HTTP or over SMPP, and what a failure of the way means.

The one question is whether the provider may have the message: if it certainly has not, it is sent again later; if it
may have, the outcome is unknown, and it is not.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

import aiohttp

from tallycast import channels, hosts, smsc
from tallycast.events import Event
from tallycast.providers import CARRIERS, smpp
from tallycast.providers.contract import (
    Action,
    Carrier,
    Outcome,
    Outgoing,
    Refused,
    Rule,
    SendError,
    Unknown,
)

log = logging.getLogger("tallycast.lines")
_MAX_ANSWER = 1_000_000
_LONGEST_WAIT = 60.0
UNREACHABLE = Rule(Action.SLOW_DOWN, "The provider cannot be reached. It is tried again by itself.", 5.0)
_UNFIT = Rule(Action.PAUSE_CAMPAIGN, "The message cannot be put together for this provider.")
_FORBIDDEN = Rule(Action.PAUSE_CHANNEL, "The channel's address is not one that may be called.")
# What happens before a request leaves this machine.
_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    PermissionError,
)


class Line(Protocol):
    window: int
    """How many messages may be in flight."""

    async def send(self, message: Outgoing) -> Outcome:
        """Send one message; every failure is an outcome."""

    async def close(self) -> None: ...


class HttpLine:
    window = 256

    def __init__(self, client: aiohttp.ClientSession, provider: str, credentials: Mapping[str, str]) -> None:
        self._client = client
        self._carrier: Carrier = CARRIERS[provider]
        self._credentials = credentials

    async def send(self, message: Outgoing) -> Outcome:
        try:
            call = self._carrier.compose(self._credentials, message)
        except ValueError as error:
            return Refused(SendError("unfit", str(error), _UNFIT))
        try:
            async with self._client.request(
                call.method, call.url, headers=dict(call.headers), data=call.body, allow_redirects=False
            ) as answer:
                body = await _read(answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return self._carrier.read_answer(answer.status, headers, body)
        except _NOT_SENT as error:
            return Refused(SendError("unreachable", str(error), UNREACHABLE))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Unknown(f"no answer: {type(error).__name__} {error}".strip())

    async def close(self) -> None:
        """The client belongs to the process."""


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, or as much of it as an answer can have."""
    body = b""
    while len(body) < _MAX_ANSWER and (chunk := await answer.content.readany()):
        body += chunk
    return body


def _read_window(credentials: Mapping[str, str]) -> int:
    """As the session will read it; what is wrong there is told when it binds."""
    try:
        return smpp.read_options(credentials).window
    except ValueError:
        return 1


class SmppLine:
    """A session that is bound again when it ends, at growing intervals with some chance in them."""

    def __init__(
        self,
        credentials: Mapping[str, str],
        private_hosts: Collection[str],
        on_events: Callable[[list[Event]], Awaitable[None]],
    ) -> None:
        self.window = _read_window(credentials)
        self._credentials = credentials
        self._private_hosts = private_hosts
        self._on_events = on_events
        self._session: smsc.Session | None = None
        self._refusal: SendError | None = None
        self._keeper = asyncio.create_task(self._keep())

    async def send(self, message: Outgoing) -> Outcome:
        session = self._session
        if session is None or not session.is_open:
            return Refused(self._refusal or SendError("unreachable", "not bound yet", UNREACHABLE))
        return await session.send(message)

    async def _keep(self) -> None:
        """Stay bound: receipts come as long as somebody is."""
        wait = 1.0
        while True:
            try:
                channels.check_target("smpp", self._credentials, self._private_hosts)
                self._session = await smsc.open_session(
                    self._credentials, self._on_events, self._find_address
                )
            except hosts.BadTarget as error:
                self._refusal = SendError("host", str(error), _FORBIDDEN)
            except smsc.BindError as error:
                self._refusal = error.error
                log.warning("cannot bind: %s", error)
            else:
                self._refusal, wait = None, 1.0
                await self._session.closed.wait()
                log.warning("the SMSC ended the session")
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            wait = min(_LONGEST_WAIT, wait * 2)

    async def _find_address(self, host: str, port: int) -> str:
        return await hosts.find_address(host, port, self._private_hosts)

    async def close(self) -> None:
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
