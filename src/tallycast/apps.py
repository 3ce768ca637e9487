"""Apps, the tenants, and the tokens that open them."""

import hashlib
import re
import secrets
import string
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from tallycast import db
from tallycast.errors import BadQuery, Forbidden, NotFound, Unauthorized
from tallycast.sql import load

SCOPES = ("reports:read", "campaigns:write", "campaigns:approve", "channels:write", "people:write")
TOKEN_PREFIX = "tct_"  # noqa: S105 - a prefix that secret scanners and people recognise, not a secret
_SQL = load("apps")
_BASE62 = string.digits + string.ascii_letters
_APP_ID = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9])*")
_TOKEN = re.compile(r"tct_([A-Za-z0-9](?:-?[A-Za-z0-9])*)_([0-9A-Za-z]{43})")
_MAX_APP_ID = 40
# A revocation must bite within five seconds; the rest is for the way to the database and back.
_TRUST_SECONDS = 3.0
_PATIENCE_SECONDS = 10.0
_CACHE_SIZE = 20_000


class App(msgspec.Struct, frozen=True):
    app_id: str
    app_key: str
    name: str
    created_at: datetime


class Token(msgspec.Struct, frozen=True, rename="camel"):
    token_id: str = msgspec.field(name="tokenID")
    name: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Grant(msgspec.Struct, frozen=True):
    """What a token allows, as the database said at `checked_at` (monotonic seconds)."""

    app_id: str
    token_id: str
    name: str
    scopes: frozenset[str]
    expires_at: datetime | None
    is_revoked: bool
    checked_at: float

    def is_valid(self) -> bool:
        return not self.is_revoked and (self.expires_at is None or datetime.now(UTC) < self.expires_at)


class NewToken(NamedTuple):
    plain: str
    token: Token


def random_text(length: int) -> str:
    """Random base62, 5.95 bits a character."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


async def create_app(connection: db.Connection, name: str, app_id: str | None = None) -> App:
    """Make a tenant. A given id is kept, so that clients of another system can keep their URLs."""
    if app_id is not None and (len(app_id) > _MAX_APP_ID or not _APP_ID.fullmatch(app_id)):
        raise BadQuery.of(
            f"app id must be up to {_MAX_APP_ID} letters, digits and single hyphens, not {app_id!r}"
        )
    if "\0" in name or not name.strip():
        raise BadQuery.of("an app needs a name")
    while True:
        app = App(app_id or f"app-{random_text(12)}", random_text(4), name, datetime.now(UTC))
        params = {"app_id": app.app_id, "app_key": app.app_key, "name": app.name}
        if await db.execute(connection, _SQL["add_app"], params):
            return app
        if app_id is not None and await find_app(connection, app_id):
            raise BadQuery.of(f"app {app_id} exists already")


async def list_apps(connection: db.Connection) -> list[App]:
    return await db.fetch_all(connection, App, _SQL["list_apps"], {})


async def find_app(connection: db.Connection, app_id: str) -> App | None:
    return await db.fetch_one(connection, App, _SQL["find_app"], {"app_id": app_id})


async def find_app_by_key(connection: db.Connection, app_key: str) -> App | None:
    return await db.fetch_one(connection, App, _SQL["find_app_by_key"], {"app_key": app_key})


async def wake(connection: db.Connection, app_id: str) -> None:
    """Say that something may be due in an app; a worker looks within a second. Part of the caller's transaction.

    The last that it locks: all changes of an app meet in this row, and who waits for another with it in hand may wait
    for ever.
    """
    await db.execute(connection, _SQL["wake"], {"app_id": app_id})


async def create_token(
    connection: db.Connection,
    app_id: str,
    scopes: Sequence[str] = SCOPES,
    name: str = "",
    expires_at: datetime | None = None,
) -> NewToken:
    """Make a token: 256 random bits, of which only the SHA-256 is stored."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise BadQuery.of(f"scopes are {', '.join(SCOPES)}; not {', '.join(unknown) or 'none'}")
    if await find_app(connection, app_id) is None:
        raise NotFound(f"no app {app_id}")
    plain = f"{TOKEN_PREFIX}{app_id}_{random_text(43)}"
    params = {
        "app_id": app_id,
        "token_id": random_text(10),
        "hash": _hash(plain),
        "name": name,
        "scopes": sorted(set(scopes)),
        "expires_at": expires_at,
    }
    token = await db.fetch_one(connection, Token, _SQL["add_token"], params)
    assert token is not None
    return NewToken(plain, token)


async def list_tokens(connection: db.Connection, app_id: str) -> list[Token]:
    return await db.fetch_all(connection, Token, _SQL["list_tokens"], {"app_id": app_id})


async def revoke_token(connection: db.Connection, app_id: str, token_id: str) -> Token:
    params = {"app_id": app_id, "token_id": token_id}
    token = await db.fetch_one(connection, Token, _SQL["revoke_token"], params)
    if token is None:
        raise NotFound(f"no token {token_id} in app {app_id}")
    return token


def _hash(plain: str) -> bytes:
    return hashlib.sha256(plain.encode()).digest()


class Tokens:
    """One process's memory of token checks: the hot path asks the database once in three seconds per token."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool
        self._grants: dict[str, Grant] = {}
        self._used: dict[tuple[str, str], datetime] = {}

    async def check(self, plain: str, app_id: str, scope: str) -> Grant:
        """The grant of a token for an app and a scope; else Unauthorized or Forbidden."""
        grant = self._grants.get(plain)
        if grant is None or time.monotonic() - grant.checked_at > _TRUST_SECONDS:
            grant = await db.within(_PATIENCE_SECONDS, self._look_up(plain))
        if not grant.is_valid():
            raise Unauthorized
        if grant.app_id != app_id:
            raise Forbidden("the token belongs to another app")
        if scope not in grant.scopes:
            raise Forbidden(f"the token does not have the scope {scope}")
        self._used[app_id, grant.token_id] = datetime.now(UTC)
        return grant

    async def _look_up(self, plain: str) -> Grant:
        match = _TOKEN.fullmatch(plain)
        if match is None:
            raise Unauthorized
        async with self._pool.connection() as connection:
            params = {"app_id": match[1], "hash": _hash(plain)}
            rows = await db.fetch_rows(connection, _SQL["find_token"], params)
        if not rows:
            self._grants.pop(plain, None)
            raise Unauthorized
        token_id, name, scopes, expires_at, revoked_at = rows[0]
        grant = Grant(
            match[1], token_id, name, frozenset(scopes), expires_at, revoked_at is not None, time.monotonic()
        )
        if len(self._grants) >= _CACHE_SIZE:
            self._grants.clear()
        self._grants[plain] = grant
        return grant

    async def write_last_uses(self) -> None:
        """Write the last uses that have gathered; called now and then, and at the end."""
        used, self._used = self._used, {}
        by_app: dict[str, list[tuple[str, datetime]]] = {}
        for (app_id, token_id), used_at in used.items():
            by_app.setdefault(app_id, []).append((token_id, used_at))
        for app_id, uses in by_app.items():
            async with self._pool.connection() as connection:
                await db.execute(
                    connection,
                    _SQL["mark_used"],
                    {"app_id": app_id, "token_id": [i for i, _ in uses], "used_at": [at for _, at in uses]},
                )
