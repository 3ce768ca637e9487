"""Leases: who does what at the moment, among any number of workers on any number of machines.

A lease only keeps two workers from doing the same at once, for the sake of pace. That nothing is sent twice does not
depend on it: messages are claimed by rows.
"""

from tallycast import db
from tallycast.sql import load

SECONDS = 10.0
RENEW_SECONDS = 2.0
_SQL = load("leases")


async def take(connection: db.Connection, app_id: str, name: str, worker: str) -> bool:
    """Whether the lease is the worker's now, for `SECONDS`."""
    params = {"app_id": app_id, "name": name, "worker": worker, "seconds": SECONDS}
    return bool(await db.fetch_rows(connection, _SQL["take_lease"], params))


async def renew(connection: db.Connection, app_id: str, names: list[str], worker: str) -> set[str]:
    """The names that the worker still holds, now for another `SECONDS`."""
    params = {"app_id": app_id, "names": names, "worker": worker, "seconds": SECONDS}
    return {name for (name,) in await db.fetch_rows(connection, _SQL["renew_leases"], params)}


async def give_back(connection: db.Connection, app_id: str, name: str, worker: str) -> None:
    params = {"app_id": app_id, "name": name, "worker": worker}
    await db.execute(connection, _SQL["give_back_lease"], params)
