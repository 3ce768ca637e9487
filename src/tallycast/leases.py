"""Leases: who does what at the moment, among any number of workers on any number of machines.

A lease only keeps two workers from doing the same at once, for the sake of pace. That nothing is sent twice does not
depend on it: messages are claimed by rows.
"""

import os
import re
import secrets
import socket
from pathlib import Path

from tallycast import db
from tallycast.sql import load

SECONDS = 10.0
RENEW_SECONDS = 2.0
_SQL = load("leases")


def name_process() -> str:
    """A worker of this process: a name of its own and the host, the kernel and process namespace, process id, start."""
    return f"{secrets.token_hex(3)}@{socket.gethostname()} {_place()} {os.getpid()} {_started(os.getpid())}"


def is_gone(worker: str) -> bool:
    """Whether a process named by `name_process` has ended, as far as this one can see it."""
    match = re.fullmatch(r".+ (\S+) ([0-9]+) ([0-9]+)", worker)
    return match is not None and match[1] == _place() and _started(int(match[2])) != match[3]


def _place() -> str:
    """Where process ids mean the same as here."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"


def _started(pid: int) -> str:
    """In clock ticks since the machine started (proc(5), field 22 of stat); empty for no process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


async def take(connection: db.Connection, app_id: str, name: str, worker: str) -> bool:
    """Whether the lease is the worker's now, for `SECONDS`. That of a process which is seen to have ended is free."""
    params = {"app_id": app_id, "name": name, "worker": worker, "seconds": SECONDS}
    if await db.fetch_rows(connection, _SQL["take_lease"], params):
        return True
    holders = await db.fetch_rows(connection, _SQL["find_holder"], params)
    if not holders or not is_gone(holders[0][0]):
        return False
    await give_back(connection, app_id, name, holders[0][0])
    return bool(await db.fetch_rows(connection, _SQL["take_lease"], params))


async def renew(connection: db.Connection, app_id: str, names: list[str], worker: str) -> set[str]:
    """The names that the worker still holds, now for another `SECONDS`."""
    params = {"app_id": app_id, "names": names, "worker": worker, "seconds": SECONDS}
    return {name for (name,) in await db.fetch_rows(connection, _SQL["renew_leases"], params)}


async def give_back(connection: db.Connection, app_id: str, name: str, worker: str) -> None:
    params = {"app_id": app_id, "name": name, "worker": worker}
    await db.execute(connection, _SQL["give_back_lease"], params)


async def list_workers(connection: db.Connection, app_id: str) -> set[str]:
    """Who holds a lease at the moment; a worker that has nothing to do in an app holds none."""
    return {name for (name,) in await db.fetch_rows(connection, _SQL["list_workers"], {"app_id": app_id})}
