"""Administrations: who changed what of an app beside its campaigns, written in the transaction of the change.

Nothing here changes an entry later; only the erasure of a person takes a number out of what people have typed. No entry
has a secret, and none a recipient's number: a person stands in it as a digest.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec.structs import fields

from tallycast import db
from tallycast.sql import load

Action = Literal[
    "app.created",
    "channel.changed",
    "channel.created",
    "channel.deleted",
    "channel.paused",
    "channel.resumed",
    "digestKey.renewed",
    "endpoint.changed",
    "endpoint.created",
    "endpoint.deleted",
    "endpoint.secretRotated",
    "key.added",
    "key.retired",
    "key.used",
    "optOut.removed",
    "person.erased",
    "person.shown",
    "policy.changed",
    "recipients.exported",
    "signIn.refused",
    "staff.created",
    "staff.disabled",
    "staff.enabled",
    "staff.invited",
    "staff.ownerChanged",
    "staff.passwordChanged",
    "staff.roleChanged",
    "staff.signedOut",
    "token.created",
    "token.revoked",
]
ACTIONS: tuple[Action, ...] = get_args(Action)
# The app id of what concerns no single app: staff as such, owners, keys.
HOUSE = ""
_SQL = load("administrations")


class By(NamedTuple):
    """Who does something, as it is recorded, and from which address; '' on the server's own machine."""

    actor: str
    address: str = ""


class Entry(NamedTuple):
    """`subject`: what it was done to, as people know it or by its id."""

    entry_id: str
    at: datetime
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    address: str


async def note(
    connection: db.Connection, app_id: str, by: By, action: Action, subject: str = "", /, **details: object
) -> None:
    """Write down what is done, in the caller's transaction. `details` never have a secret."""
    await db.execute(connection, _SQL["add_entry"], _write(app_id, by, action, subject, details))


async def note_once(
    connection: db.Connection, app_id: str, by: By, action: Action, subject: str, seconds: int
) -> None:
    """The same for what strangers can repeat: once in so many seconds per subject."""
    params = {**_write(app_id, by, action, subject, {}), "seconds": seconds}
    await db.execute(connection, _SQL["add_entry_once"], params)


def describe(change: msgspec.Struct) -> dict[str, Any]:
    """What was asked for, as details: of secrets their names alone, and of a URL not its query, which may have some."""
    names = {one.name: one.encode_name for one in fields(change) if getattr(change, one.name) != one.default}
    said: dict[str, Any] = msgspec.to_builtins({names[name]: getattr(change, name) for name in names})
    secrets = [name for name in ("webhookSecret",) if name in said]
    secrets += [f"credentials.{name}" for name in sorted(said.get("credentials") or {})]
    if "credentials" in said and said["credentials"] is None:
        secrets.append("credentials")
    plain = {name: value for name, value in said.items() if name not in {"webhookSecret", "credentials"}}
    if "url" in plain:
        plain["url"] = plain["url"].partition("?")[0]
    return {**plain, **({"secrets": secrets} if secrets else {})}


def _write(
    app_id: str, by: By, action: Action, subject: str, details: Mapping[str, object]
) -> dict[str, object]:
    return {
        "app_id": app_id,
        "entry_id": str(uuid.uuid4()),
        "actor": by.actor,
        "action": action,
        "subject": subject,
        "details": msgspec.json.encode(details).decode(),
        "address": by.address,
    }


async def list_page(
    connection: db.Connection,
    app_id: str,
    limit: int,
    offset: int,
    action: Action | None = None,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> list[Entry]:
    """The latest first."""
    params = {
        "app_id": app_id,
        "limit": limit,
        "offset": offset,
        "action": action,
        "start_at": start_at,
        "end_at": end_at,
    }
    return [
        Entry(entry_id, at, actor, did, subject, msgspec.json.decode(details), address)
        for entry_id, at, actor, did, subject, details, address in await db.fetch_rows(
            connection, _SQL["list_entries"], params
        )
    ]
