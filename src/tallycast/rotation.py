"""Rotation of the encryption key while everything runs: a new key, all that is sealed put under it, the old one gone.

With a key file: the new key only opens at first; when all processes have it, it seals; when nobody seals with another any
more, every row is sealed anew; then the old key goes. The file says how far that has come, so whatever is cut off is
finished by running it again. Digests of people stay as they are: their secrets are sealed anew, not changed.
"""

import asyncio
import fcntl
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from tallycast import administrations, apps, channels, db, digests, endpoints, keyholders
from tallycast.administrations import HOUSE, Action, By
from tallycast.errors import Problem
from tallycast.keyholders import Holder
from tallycast.keys import BadKey, Cipher, Key, KeyFile, make_key
from tallycast.sql import load

_SQL = load("rotation")
_LOOK_SECONDS = 0.2
_SETTLING_SECONDS = 1.0
_SHOWN = 5


class _Store(NamedTuple):
    """Where sealed bytes are: the query that lists (name, sealed), the one that puts others there, and their place."""

    what: str
    listing: bytes
    resealing: bytes
    place: Callable[[str, str], str]


_STEPS: dict[Action, str] = {
    "key.added": "added a key that opens:",
    "key.used": "from now on this key seals:",
    "key.retired": "taken out:",
}
_STORES = (
    _Store("channel", _SQL["list_channels"], _SQL["reseal_channel"], channels.place_of),
    _Store("webhook endpoint", _SQL["list_endpoints"], _SQL["reseal_endpoint"], endpoints.place_of),
    _Store(
        "old secret of webhook endpoint",
        _SQL["list_old_secrets"],
        _SQL["reseal_old_secret"],
        endpoints.place_of,
    ),
    _Store("digest key", _SQL["list_digest_keys"], _SQL["reseal_digest_key"], digests.place_of),
)


class Sealed(NamedTuple):
    """One sealed secret of an app."""

    store: _Store
    app_id: str
    name: str
    sealed: bytes

    @property
    def place(self) -> str:
        return self.store.place(self.app_id, self.name)


class Waiting(Problem):
    """Processes that run do not have the key that is needed; the message names them."""


async def list_sealed(connection: db.Connection) -> AsyncIterator[Sealed]:
    """All that is sealed, app by app."""
    for app in await apps.list_apps(connection):
        for store in _STORES:
            for name, sealed in await db.fetch_rows(connection, store.listing, {"app_id": app.app_id}):
                yield Sealed(store, app.app_id, name, sealed)


async def count(connection: db.Connection, cipher: Cipher) -> tuple[Counter[Key], list[str]]:
    """How many secrets each key has sealed, and what none of the keys opens."""
    found: Counter[Key] = Counter()
    shut = []
    async for one in list_sealed(connection):
        key = cipher.find_key(one.sealed, one.place)
        if key is None:
            shut.append(f"{one.store.what} {one.name} of {one.app_id}")
        else:
            found[key] += 1
    return found, shut


async def require_open(connection: db.Connection, cipher: Cipher) -> None:
    """BadKey when there is something that none of the keys opens: whatever is wrong, a rotation would not mend it."""
    _, shut = await count(connection, cipher)
    if shut:
        more = f" and {len(shut) - _SHOWN} more" if len(shut) > _SHOWN else ""
        raise BadKey(
            f"nothing was changed: the key here does not open {', '.join(shut[:_SHOWN])}{more}. Put back the key with "
            "which they were sealed, or give those channels their secrets anew, or delete them"
        )


async def reseal(connection: db.Connection, cipher: Cipher) -> int:
    """Seal with the first key what another has sealed, until nothing is left; how many rows that were."""
    done = 0
    while True:
        left = 0
        async for one in list_sealed(connection):
            if cipher.is_current(one.sealed):
                continue
            left += 1
            done += await _reseal_one(connection, cipher, one)
        if not left:
            return done


async def _reseal_one(connection: db.Connection, cipher: Cipher, one: Sealed) -> int:
    resealed = cipher.seal(cipher.open(one.sealed, one.place), one.place)
    params = {"app_id": one.app_id, "name": one.name, "sealed": one.sealed, "resealed": resealed}
    return await db.execute(connection, one.store.resealing, params)


@dataclass(frozen=True)
class Rotation:
    """`patience`: seconds to wait for processes to take up a key. `tell` hears of each step."""

    connection: db.Connection
    by: By
    tell: Callable[[str], None]
    patience: float

    async def run_file(self, file: KeyFile, *, keeps: bool) -> None:
        """The whole of it, from where the key file says that it stands. BadKey, Waiting."""
        cipher = Cipher(file=file)
        await require_open(self.connection, cipher)
        with _alone(file):
            if len(cipher.keys) == 1:
                await self._write(file, [*cipher.keys, make_key()._replace(is_next=True)], "key.added")
            if any(key.is_next for key in file.read()):
                await self._promote(file)
            await self.run(cipher)
            if not keeps:
                await self._retire(file)

    async def _promote(self, file: KeyFile) -> None:
        keys = file.read()
        new = next(key for key in keys if key.is_next)
        await self._await_all(lambda one: new.key_id.hex() in one.key_ids, new, "do not have")
        others = [key for key in keys if key != new]
        await self._write(file, [new._replace(is_next=False), *others], "key.used")

    async def run(self, cipher: Cipher) -> int:
        """Seal everything with the first key, once no process seals with another; how many rows that were."""
        cipher.refresh()
        newest = cipher.keys[0]
        await self._await_all(lambda one: one.key_ids[0] == newest.key_id.hex(), newest, "do not seal with")
        await self._await_others()
        done = await reseal(self.connection, cipher)
        self.tell(f"{done} secrets were sealed with key {newest.key_id.hex()}")
        return done

    async def _await_all(self, suits: Callable[[Holder], bool], key: Key, lack: str) -> None:
        """Waiting when some process has not come so far in time."""
        until = time.monotonic() + self.patience
        while late := [one for one in await keyholders.list_live(self.connection) if not suits(one)]:
            if time.monotonic() > until:
                names = "; ".join(one.process for one in late)
                raise Waiting(
                    f"these processes {lack} key {key.key_id.hex()}: {names}. Give them the same keys "
                    "(secret.key or TALLYCAST_ENCRYPTION_KEY), then run this again: it goes on from here"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    async def _await_others(self) -> None:
        """Until all transactions that have begun before are finished: one of them may have sealed with another key.

        What was sealed a moment before its transaction began is given that moment.
        """
        await asyncio.sleep(_SETTLING_SECONDS)
        _, begun = await db.find_horizon(self.connection)
        until = time.monotonic() + self.patience
        while (await db.find_horizon(self.connection))[0] < begun:
            if time.monotonic() > until:
                raise Waiting("a transaction has been open for long: run this again when it has ended")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _retire(self, file: KeyFile) -> None:
        newest, *old = file.read()
        if old:
            await self._write(file, [newest], "key.retired")

    async def run_given(self, cipher: Cipher) -> None:
        """With keys of the environment, which all processes must have already. BadKey, Waiting."""
        await require_open(self.connection, cipher)
        await self.run(cipher)
        key_id = cipher.keys[0].key_id.hex()
        await administrations.note(self.connection, HOUSE, self.by, "key.used", key_id)

    async def _write(self, file: KeyFile, keys: list[Key], action: Action) -> None:
        """Change the key file, and note what that was."""
        before, after = ({key.key_id.hex() for key in some} for some in (file.read(), keys))
        changed = ", ".join(sorted(before ^ after)) or keys[0].key_id.hex()
        async with self.connection.transaction():
            await administrations.note(self.connection, HOUSE, self.by, action, changed)
            file.write(keys)
        self.tell(f"{_STEPS[action]} {changed}")


@contextmanager
def _alone(file: KeyFile) -> Iterator[None]:
    """Problem while another rotation changes this file; a killed one holds nothing."""
    folder = os.open(file.path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Problem("another rotation is running here: wait for it") from None
    finally:
        os.close(folder)
