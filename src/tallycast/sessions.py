"""Sessions: who is signed in, with which browser. The browser holds a token, the database its hash."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from tallycast import db
from tallycast.roles import OpenApp, Role
from tallycast.sql import load

_SQL = load("sessions")
# A session ends so long after it was last used, and so long after signing in however much it is used.
IDLE = timedelta(hours=12)
LIFETIME = timedelta(days=7)
_MAX_AGENT = 300


class Person(NamedTuple):
    """Who is signed in. `language`, `theme`: '' = as the browser says."""

    staff_id: str
    email: str
    name: str
    eid: str
    is_owner: bool
    language: str
    theme: str

    @property
    def actor(self) -> str:
        """Who did something, as it is recorded."""
        return f"staff {self.eid} ({self.name})"


class Found(msgspec.Struct, frozen=True):
    """A session's person, and the app that was asked for; `app` is None where they have no role."""

    staff_id: str
    email: str
    name: str
    eid: str
    is_owner: bool
    language: str
    theme: str
    is_stale: bool
    app_id: str | None
    app_name: str | None
    time_zone: str | None
    role: Role | None

    @property
    def person(self) -> Person:
        return Person(
            self.staff_id, self.email, self.name, self.eid, self.is_owner, self.language, self.theme
        )

    @property
    def app(self) -> OpenApp | None:
        if self.app_id is None or self.role is None:
            return None
        return OpenApp(self.app_id, self.app_name or "", self.time_zone or "UTC", self.role)


class Session(msgspec.Struct, frozen=True):
    """One of a person's sessions. Its hash names it and opens nothing."""

    hash: bytes
    created_at: datetime
    last_seen_at: datetime
    user_agent: str


def make_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def start(connection: db.Connection, staff_id: str, user_agent: str) -> str:
    """Sign somebody in, under a new token whatever the browser had before."""
    token = make_token()
    params = {
        "hash": hash_token(token),
        "staff_id": staff_id,
        "lifetime": LIFETIME,
        "user_agent": user_agent.replace("\0", "")[:_MAX_AGENT],
    }
    await db.execute(connection, _SQL["add_session"], params)
    return token


async def find(connection: db.Connection, token: str, app_id: str = "") -> Found | None:
    """Who holds the token; its use is noted once a minute."""
    params = {"hash": hash_token(token), "app_id": app_id, "idle": IDLE}
    found = await db.fetch_one(connection, Found, _SQL["find_person"], params)
    if found is not None and found.is_stale:
        await db.execute(connection, _SQL["touch_session"], {"hash": params["hash"]})
    return found


async def list_all(connection: db.Connection, staff_id: str) -> list[Session]:
    """A person's sessions, the last used first."""
    return await db.fetch_all(
        connection, Session, _SQL["list_sessions"], {"staff_id": staff_id, "idle": IDLE}
    )


async def end(connection: db.Connection, staff_id: str, hash_: bytes) -> None:
    await db.execute(connection, _SQL["end_session"], {"staff_id": staff_id, "hash": hash_})


async def end_all(connection: db.Connection, staff_id: str, but: str = "") -> int:
    """End a person's sessions, but for that of the token `but`; how many there were."""
    return await db.execute(connection, _SQL["end_sessions"], {"staff_id": staff_id, "but": hash_token(but)})


async def forget_old(connection: db.Connection) -> None:
    await db.execute(connection, _SQL["forget_sessions"], {"idle": IDLE})
