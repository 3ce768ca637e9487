"""Delivering notices to endpoints, signed as Standard Webhooks has it (standardwebhooks.com, specification 1.0).

The signature is an HMAC-SHA256 over id, moment and body. A notice that is not taken is tried again after DELAYS, in the
order of its campaign as far as that goes: one that is tried again does not hold up those after it.
"""

import asyncio
import base64
import hmac
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

import aiohttp
import yarl

import tallycast
from tallycast import db, endpoints, figures, hosts, notices
from tallycast.endpoints import Endpoint
from tallycast.errors import NotFound
from tallycast.keys import BadKey
from tallycast.notices import Due
from tallycast.providers.refusals import read_retry_after
from tallycast.sender import Means
from tallycast.telemetry import NOTICES

log = logging.getLogger("tallycast.deliveries")
# Seconds after each failed attempt: nine attempts in a day.
DELAYS = (5, 60, 300, 1_800, 7_200, 18_000, 28_800, 28_800)
_ANSWER_SECONDS = 15.0
_ANSWER_BYTES = 500
_AT_ONCE = 4
_ROUND = 40
_LOOK_SECONDS = 0.5


class Outcome(NamedTuple):
    """The status of an answer, None where none came, and its first characters or what went wrong.

    `wait`: for how many seconds it asks to be left alone.
    """

    status: int | None
    text: str
    wait: float = 0.0

    @property
    def is_success(self) -> bool:
        return self.status is not None and HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


def sign(secrets: Sequence[bytes], notice_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` for each secret, with spaces between."""
    text = b"%b.%d.%b" % (notice_id.encode(), timestamp, body)
    macs = [hmac.digest(secret, text, "sha256") for secret in secrets]
    return " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs)


async def work(means: Means, app_id: str, is_held: Callable[[], bool]) -> None:
    """Tell an app's endpoints what is due until nothing is, each apart: one that hangs holds up only itself."""
    tasks: dict[str, asyncio.Task[None]] = {}
    try:
        while is_held():
            async with means.pool.connection() as connection:
                async with connection.transaction():
                    await figures.tell(connection, app_id)
                due = await notices.list_due_endpoints(connection, app_id)
            for endpoint_id in due:
                if endpoint_id not in tasks:
                    tasks[endpoint_id] = asyncio.create_task(_tell(means, app_id, endpoint_id, is_held))
            if not tasks:
                return
            done, _ = await asyncio.wait(
                tasks.values(), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            tasks = {name: task for name, task in tasks.items() if task not in done}
            for task in done:
                task.result()
    finally:
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _tell(means: Means, app_id: str, endpoint_id: str, is_held: Callable[[], bool]) -> None:
    """One round: what is due for an endpoint, a few campaigns at once, each in order."""
    async with means.pool.connection() as connection:
        try:
            endpoint = await endpoints.find(connection, app_id, endpoint_id)
        except NotFound:  # it was deleted meanwhile
            return
        due = await notices.list_due(connection, app_id, endpoint_id, _ROUND)
    fresh = itertools.count(-1, -1)  # what belongs to no campaign has no order
    rows: dict[int, list[Due]] = {}
    for one in due:
        key = next(fresh) if one.campaign_id is None else one.campaign_id
        rows.setdefault(key, []).append(one)
    room = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for row in rows.values():
            group.create_task(_deliver_row(means, endpoint, row, room, is_held))


async def _deliver_row(
    means: Means, endpoint: Endpoint, row: list[Due], room: asyncio.Semaphore, is_held: Callable[[], bool]
) -> None:
    for one in row:
        async with room:
            if not is_held():
                return
            outcome = await _deliver(means, endpoint, one)
            NOTICES.labels("taken" if outcome.is_success else "not taken").inc()
            async with means.pool.connection() as connection, connection.transaction():
                await _record(connection, endpoint, one, outcome)


async def _deliver(means: Means, endpoint: Endpoint, due: Due) -> Outcome:
    try:
        endpoints.check_url(endpoint.url, means.settings.private_hosts)
        secrets = endpoint.open_secrets(means.cipher)
    except hosts.BadTarget as error:
        return Outcome(None, f"the url {error}")
    except BadKey:
        return Outcome(None, "the secret was encrypted with another key: rotate it")
    body, now = due.body.encode(), int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"tallycast/{tallycast.__version__}",
        "webhook-id": due.notice_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secrets, due.notice_id, now, body),
    }
    return await _post(means.client, endpoint.url, headers, body)


async def _post(client: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> Outcome:
    """A redirect is an answer like any other that is no success: it could lead anywhere."""
    target = yarl.URL(url, encoded=True)
    patience = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    try:
        async with client.post(
            target, data=body, headers=headers, allow_redirects=False, timeout=patience
        ) as answer:
            text = await answer.content.read(_ANSWER_BYTES)
            return Outcome(answer.status, text.decode("utf-8", "replace"), _read_wait(answer))
    except TimeoutError:
        return Outcome(None, f"no answer in {_ANSWER_SECONDS:.0f} seconds")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Outcome(None, f"{type(error).__name__}: {error}")


def _read_wait(answer: aiohttp.ClientResponse) -> float:
    """Only who is busy asks for time, and gets no more than we would leave by ourselves."""
    is_busy = answer.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    return min(read_retry_after(answer.headers) or 0.0, max(DELAYS)) if is_busy else 0.0


async def _record(connection: db.Connection, endpoint: Endpoint, due: Due, outcome: Outcome) -> None:
    """What becomes of the notice and, after too many failures, of the endpoint."""
    key, said = (connection, endpoint.app_id, due.notice_id), (outcome.status, outcome.text)
    if outcome.is_success:
        await endpoints.note_success(connection, endpoint.app_id, endpoint.endpoint_id)
        await notices.note_attempt(*key, "delivered", *said)
        return
    # First the endpoint, then its notices, as when it is disabled: two that lock in different orders would be stuck.
    is_hopeless = await endpoints.note_failure(connection, endpoint.app_id, endpoint.endpoint_id)
    is_gone = outcome.status == HTTPStatus.GONE
    if is_gone or due.attempts >= len(DELAYS):
        await notices.note_attempt(*key, "failed", *said)
    else:
        await notices.note_attempt(*key, "waiting", *said, delay=max(DELAYS[due.attempts], outcome.wait))
    if is_gone:
        await _disable(connection, endpoint, "it answered 410 Gone")
    elif is_hopeless:
        await _disable(connection, endpoint, "it has failed for five days")


async def _disable(connection: db.Connection, endpoint: Endpoint, reason: str) -> None:
    if await endpoints.disable(connection, endpoint, reason):
        extra = {"app": endpoint.app_id, "endpoint": endpoint.endpoint_id}
        log.warning("a webhook endpoint was disabled: %s", reason, extra=extra)
