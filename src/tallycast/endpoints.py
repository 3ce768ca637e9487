"""Webhook endpoints: the addresses of other systems that are told what happens in an app."""

import base64
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import msgspec

from tallycast import apps, db, figures, hosts, notices
from tallycast.apps import random_text
from tallycast.errors import BadQuery, NotFound, Unprocessable
from tallycast.keys import BadKey, Cipher
from tallycast.notices import Event
from tallycast.sql import load

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType
# Both secrets sign for so long after a change.
OVERLAP_SECONDS = 86_400
# An endpoint that takes nothing for so long is disabled.
PATIENCE_SECONDS = 5 * 86_400
_SECRET_BYTES = 32
_PREFIX = "whsec_"
_MAX_ENDPOINTS = 20
_MAX_URL = 2000
_SQL = load("endpoints")
Text = Annotated[str, msgspec.Meta(max_length=200)]
URL = Annotated[str, msgspec.Meta(max_length=_MAX_URL)]


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No events = all of them, those of later versions too."""

    url: URL
    events: list[Event] = []
    description: Text = ""


class EndpointChange(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What is left out stays."""

    url: URL | Unset = UNSET
    events: list[Event] | Unset = UNSET
    description: Text | Unset = UNSET
    is_disabled: bool | Unset = UNSET


class Endpoint(msgspec.Struct, frozen=True):
    """`old_secret` is there as long as it still signs."""

    app_id: str
    endpoint_id: str
    url: str
    description: str
    events: Sequence[str]
    secret: bytes
    old_secret: bytes | None
    created_at: datetime
    failing_since: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None

    def open_secret(self, cipher: Cipher) -> bytes:
        """BadKey."""
        return cipher.open(self.secret, place_of(self.app_id, self.endpoint_id))

    def open_secrets(self, cipher: Cipher) -> list[bytes]:
        """The secrets that sign at the moment, the new one first. BadKey; an old one of a lost key signs no more."""
        secrets = [self.open_secret(cipher)]
        if self.old_secret is not None:
            with suppress(BadKey):
                secrets.append(cipher.open(self.old_secret, place_of(self.app_id, self.endpoint_id)))
        return secrets


def place_of(app_id: str, endpoint_id: str) -> str:
    """Where an endpoint's secrets are sealed for."""
    return f"webhook endpoint {app_id} {endpoint_id}"


def _make_secret(cipher: Cipher, app_id: str, endpoint_id: str) -> bytes:
    return cipher.seal(os.urandom(_SECRET_BYTES), place_of(app_id, endpoint_id))


def show_secret(secret: bytes) -> str:
    """As Standard Webhooks writes it."""
    return _PREFIX + base64.b64encode(secret).decode()


def check_url(url: str, private_hosts: Collection[str]) -> None:
    """hosts.BadTarget where tallycast must not call it. Unlike a provider's address it may have a query."""
    plain, _, query = url.partition("?")
    hosts.check_target(plain, private_hosts)
    if "://" not in plain:
        raise hosts.BadTarget("must start with https://")
    if "#" in query or not url.isascii() or not url.isprintable() or " " in url:
        raise hosts.BadTarget("must be a URL in ASCII, without fragment and spaces")


def _check(url: str, description: str, private_hosts: Collection[str]) -> None:
    if "\0" in description:
        raise BadQuery.of("description must not have NUL")
    try:
        check_url(url, private_hosts)
    except hosts.BadTarget as error:
        raise BadQuery.of(f"url {error}") from None


async def create(
    connection: db.Connection, cipher: Cipher, app_id: str, new: NewEndpoint, private_hosts: Collection[str]
) -> Endpoint:
    """In the caller's transaction; the endpoint's secret is made here. BadQuery, Unprocessable."""
    _check(new.url, new.description, private_hosts)
    await db.fetch_rows(connection, _SQL["hold_app"], {"app_id": app_id})
    if len(await list_all(connection, app_id)) >= _MAX_ENDPOINTS:
        raise Unprocessable(f"an app has at most {_MAX_ENDPOINTS} webhook endpoints")
    endpoint_id = f"ep_{random_text(22)}"
    params = {
        "app_id": app_id,
        "endpoint_id": endpoint_id,
        "url": new.url,
        "description": new.description,
        "events": sorted(set(new.events)),
        "secret": _make_secret(cipher, app_id, endpoint_id),
    }
    await db.execute(connection, _SQL["add_endpoint"], params)
    await _watch(connection, app_id)
    return await find(connection, app_id, endpoint_id)


async def _watch(connection: db.Connection, app_id: str) -> None:
    if await notices.is_heard(connection, app_id, "campaign.figures"):
        await figures.start(connection, app_id)
        await apps.wake(connection, app_id)


async def list_all(connection: db.Connection, app_id: str) -> list[Endpoint]:
    return await db.fetch_all(connection, Endpoint, _SQL["list_endpoints"], {"app_id": app_id})


async def find(connection: db.Connection, app_id: str, endpoint_id: str) -> Endpoint:
    endpoint = None
    if endpoint_id.isascii() and endpoint_id.isprintable():
        params = {"app_id": app_id, "endpoint_id": endpoint_id}
        endpoint = await db.fetch_one(connection, Endpoint, _SQL["find_endpoint"], params)
    if endpoint is None:
        raise NotFound(f"no webhook endpoint {endpoint_id}")
    return endpoint


async def require_enabled(connection: db.Connection, app_id: str, endpoint_id: str) -> None:
    """Unprocessable for one that is disabled."""
    if (await find(connection, app_id, endpoint_id)).disabled_at is not None:
        raise Unprocessable("the endpoint is disabled: enable it first")


async def change(
    connection: db.Connection,
    app_id: str,
    endpoint_id: str,
    wanted: EndpointChange,
    private_hosts: Collection[str],
) -> Endpoint:
    """In the caller's transaction. What waits for an endpoint that is disabled has failed."""
    was = await _hold(connection, app_id, endpoint_id)
    is_disabled = was.disabled_at is not None if wanted.is_disabled is UNSET else wanted.is_disabled
    params: dict[str, Any] = {
        "app_id": app_id,
        "endpoint_id": endpoint_id,
        "url": was.url if wanted.url is UNSET else wanted.url,
        "description": was.description if wanted.description is UNSET else wanted.description,
        "events": list(was.events) if wanted.events is UNSET else sorted(set(wanted.events)),
        "is_disabled": is_disabled,
        "reason": "disabled by a person",
    }
    _check(params["url"], params["description"], private_hosts)
    await db.execute(connection, _SQL["change_endpoint"], params)
    if is_disabled:
        await db.execute(connection, _SQL["fail_waiting"], params)
    await _watch(connection, app_id)
    return await find(connection, app_id, endpoint_id)


async def _hold(connection: db.Connection, app_id: str, endpoint_id: str) -> Endpoint:
    await find(connection, app_id, endpoint_id)
    params = {"app_id": app_id, "endpoint_id": endpoint_id}
    await db.fetch_rows(connection, _SQL["hold_endpoint"], params)
    return await find(connection, app_id, endpoint_id)


async def rotate_secret(connection: db.Connection, cipher: Cipher, app_id: str, endpoint_id: str) -> Endpoint:
    """A new secret; the one before it signs too for a day."""
    await find(connection, app_id, endpoint_id)
    params = {
        "app_id": app_id,
        "endpoint_id": endpoint_id,
        "secret": _make_secret(cipher, app_id, endpoint_id),
        "seconds": OVERLAP_SECONDS,
    }
    await db.execute(connection, _SQL["rotate_secret"], params)
    return await find(connection, app_id, endpoint_id)


async def delete(connection: db.Connection, app_id: str, endpoint_id: str) -> None:
    """Forget an endpoint and its log, in the caller's transaction."""
    await _hold(connection, app_id, endpoint_id)
    params = {"app_id": app_id, "endpoint_id": endpoint_id}
    await db.take_time(connection)
    await db.execute(connection, _SQL["delete_endpoint"], params)
    await db.execute(connection, _SQL["delete_notices"], params)


async def note_success(connection: db.Connection, app_id: str, endpoint_id: str) -> None:
    await db.execute(connection, _SQL["note_success"], {"app_id": app_id, "endpoint_id": endpoint_id})


async def note_failure(connection: db.Connection, app_id: str, endpoint_id: str) -> bool:
    """Whether it has failed without a success for longer than we are patient."""
    params = {"app_id": app_id, "endpoint_id": endpoint_id, "patience": PATIENCE_SECONDS}
    rows = await db.fetch_rows(connection, _SQL["note_failure"], params)
    return bool(rows and rows[0][0])


async def disable(connection: db.Connection, endpoint: Endpoint, reason: str) -> bool:
    """Tell an endpoint nothing any more, and the others that it is so; whether it was enabled. In a transaction."""
    params = {"app_id": endpoint.app_id, "endpoint_id": endpoint.endpoint_id, "reason": reason}
    if not await db.execute(connection, _SQL["disable_endpoint"], params):
        return False
    await db.execute(connection, _SQL["fail_waiting"], params)
    data = {"endpointID": endpoint.endpoint_id, "url": endpoint.url, "reason": reason}
    await notices.add(connection, endpoint.app_id, "endpoint.disabled", [(None, data)])
    return True
