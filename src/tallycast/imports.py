"""Imports of audiences as they are told: how far each one is, and which rows it has set aside."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from tallycast import db
from tallycast.errors import NotFound
from tallycast.sql import load

_SQL = load("imports")
State = Literal["uploading", "waiting", "running", "done", "refused", "failed"]
ENDED = frozenset({"done", "refused", "failed"})


class Import(msgspec.Struct, frozen=True):
    """An import; its five kinds of rows add up to `rows`. When it is refused, the accepted ones were not kept."""

    import_id: str
    campaign_id: int
    state: State
    file_name: str
    media_type: str
    keeps_valid: bool
    mapping: str
    bytes: int
    bytes_read: int
    first_seq: int | None
    rows: int
    accepted: int
    duplicate: int
    opted_out: int
    invalid: int
    landline: int
    header: Sequence[str]
    reason: str
    asked_as: str
    created_at: datetime
    ended_at: datetime | None

    @property
    def set_aside(self) -> int:
        return self.rows - self.accepted

    @property
    def percent(self) -> int:
        """How much of the file is read; 100 only when the import has ended."""
        return 100 if self.state in ENDED else min(99, self.bytes_read * 100 // max(self.bytes, 1))


class SetAside(msgspec.Struct, frozen=True, gc=False):
    """A row that was not taken: its line in the file, its cells as they came, and why."""

    n: int
    line: int
    cells: Sequence[str]
    error: str


async def find_import(connection: db.Connection, app_id: str, campaign_id: int, import_id: str) -> Import:
    try:
        params = {"app_id": app_id, "import_id": str(uuid.UUID(import_id))}
    except ValueError:
        raise NotFound(f"no import {import_id[:40]}") from None
    found = await db.fetch_one(connection, Import, _SQL["find_import"], params)
    if found is None or found.campaign_id != campaign_id:
        raise NotFound(f"no import {import_id} of campaign {campaign_id}")
    return found


async def list_imports(
    connection: db.Connection, app_id: str, campaign_id: int, limit: int, offset: int
) -> list[Import]:
    """The latest first."""
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": limit, "offset": offset}
    return await db.fetch_all(connection, Import, _SQL["list_imports"], params)


async def list_errors(
    connection: db.Connection, app_id: str, import_id: str, from_n: int, limit: int
) -> list[SetAside]:
    params = {"app_id": app_id, "import_id": import_id, "from_n": from_n, "limit": limit}
    return await db.fetch_all(connection, SetAside, _SQL["list_errors"], params)
