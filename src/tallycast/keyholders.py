"""Keyholders: which encryption keys each running process has.

A new key seals only when every process can open with it, and an old one goes only when nobody seals with it any more.
"""

import time
from typing import NamedTuple

from tallycast import db, leases
from tallycast.keys import Cipher
from tallycast.sql import load

# How often a process looks at its key file, and how often it says what it has where nothing has changed.
LOOK_SECONDS = 1.0
_TELL_SECONDS = 20.0
# Who has said nothing for so long is gone.
LIVE_SECONDS = 60
_SQL = load("keyholders")


class Holder(NamedTuple):
    """A process, and the ids of its keys, the one that it seals with first."""

    process: str
    key_ids: list[str]


class Keyholder:
    """What this process says of its keys."""

    def __init__(self, connect: db.Connect, cipher: Cipher) -> None:
        self._connect = connect
        self._cipher = cipher
        self._process = leases.name_process()
        self._said: tuple[list[str], float] = ([], 0.0)

    async def tell(self) -> None:
        """Take up what the key file has new, and say so."""
        self._cipher.refresh()
        key_ids = [key.key_id.hex() for key in self._cipher.keys]
        if (known := self._said)[0] == key_ids and time.monotonic() - known[1] < _TELL_SECONDS:
            return
        async with self._connect() as connection:
            params = {"process": self._process, "key_ids": key_ids}
            await db.execute(connection, _SQL["tell"], params)
        self._said = key_ids, time.monotonic()

    async def leave(self) -> None:
        async with self._connect() as connection:
            await db.execute(connection, _SQL["leave"], {"process": self._process})


async def list_live(connection: db.Connection) -> list[Holder]:
    """The processes that run, as far as can be seen; those that have ended on this machine are left out at once."""
    await db.execute(connection, _SQL["forget_dead"], {})
    rows = await db.fetch_rows(connection, _SQL["list_live"], {"seconds": LIVE_SECONDS})
    return [Holder(process, list(key_ids)) for process, key_ids in rows if not leases.is_gone(process)]
