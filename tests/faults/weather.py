"""The faults: what each one does to the place, and how often it was done."""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

import psycopg

from faults import points
from faults.disks import Disk
from faults.place import Place, hold_for, rows_of
from faults.promises import Promises
from faults.proxy import Mode
from harness import wait_for
from stage import signal_all
from test_storm import lives

_SESSIONS = "select pid from pg_stat_activity where application_name = 'tallycast' and state is not null"


class Fault(NamedTuple):
    """`name` is a row of the table. `do` returns when the fault is over, or the process has been started again."""

    name: str
    do: Callable[[Place, random.Random], None]


# Kills at random moments.


def _kill(pids: Sequence[int], dice: random.Random) -> None:
    pid = dice.choice(pids)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid))


def kill_server(place: Place, dice: random.Random) -> None:
    _kill(wait_for(place.servers), dice)
    place.until_ready()


def kill_worker(place: Place, dice: random.Random) -> None:
    _kill(wait_for(place.workers), dice)
    wait_for(lambda: len(place.workers()) == 2)


def kill_parent(place: Place, _dice: random.Random) -> None:
    """Its children must not stay: `serve` starts again on the same port."""
    starts = place.starts
    assert place.process is not None
    place.process.kill()
    wait_for(lambda: place.starts > starts)
    place.until_ready()


def kill_all(place: Place, _dice: random.Random) -> None:
    starts = place.starts
    signal_all(place.processes(), signal.SIGKILL)
    wait_for(lambda: place.starts > starts)
    place.until_ready()


def kill_backend(place: Place, dice: random.Random) -> None:
    """One session, which makes PostgreSQL end all others and recover by itself."""
    with suppress(psycopg.OperationalError, ProcessLookupError, IndexError):
        os.kill(dice.choice(rows_of(place, _SESSIONS))[0], signal.SIGKILL)
    wait_for(partial(_answers, place))


def kill_postgres(place: Place, dice: random.Random) -> None:
    os.kill(place.postgres()[0], signal.SIGKILL)
    hold_for(dice.uniform(0, 3))
    place.revive_postgres()


def stop_postgres(place: Place, dice: random.Random) -> None:
    """An immediate shutdown, as of a machine that reboots."""
    os.kill(place.postgres()[0], signal.SIGQUIT)
    hold_for(dice.uniform(0, 3))
    place.revive_postgres()


def _answers(place: Place) -> bool:
    with suppress(psycopg.OperationalError):
        return bool(rows_of(place, "select 1"))
    return False


# Kills at named points.


def die_at(name: str, most: int, place: Place, dice: random.Random) -> None:
    """Armed until a process has died there; the spool's points need a database that is away."""
    armed = points.arm(place.armed, name, dice.randint(1, most))
    if "spool" in name:
        with away(place, Mode.REFUSE, "server database"):
            hold_for(2)
    wait_for(lambda: not armed.exists(), 60)
    place.until_ready()


# How often a point is passed, at most, before somebody dies there: more for those that come by often.
_OFTEN = {
    "receipt arrived": 30,
    "receipt folded": 30,
    "receipt stored, not answered": 30,
    "spool half drained": 1,
}
_OFTEN |= {"import committed": 1, "import not committed": 1, "taking over, not committed": 1}
_APART = ("retention", "replay")
AT_POINTS = tuple(
    Fault(f"kill -9: {name}", partial(die_at, name, _OFTEN.get(name, 5)))
    for name in points.POINTS
    if not name.startswith(_APART) and name != "taking over, not committed"
)


def die_taking_over(place: Place, dice: random.Random) -> None:
    """The worker that finds what a dead one has left dies, too."""
    armed = points.arm(place.armed, "taking over, not committed", 1)
    while armed.exists():
        _kill(wait_for(place.workers), dice)
        with suppress(AssertionError):
            wait_for(lambda: not armed.exists(), 5)
    place.until_ready()


# The database is there, and does not serve.


def hang_postgres(place: Place, dice: random.Random) -> None:
    pids = place.postgres()
    signal_all(pids, signal.SIGSTOP)
    hold_for(dice.uniform(3, 6))
    signal_all(pids, signal.SIGCONT)


def hang_long(place: Place, _dice: random.Random) -> None:
    """Longer than leases last: another worker may take over what this one still sends."""
    pids = place.postgres()
    signal_all(pids, signal.SIGSTOP)
    hold_for(13)
    signal_all(pids, signal.SIGCONT)


def use_up_connections(place: Place, dice: random.Random) -> None:
    """Somebody has taken all connections, and ours are closed as well."""
    taken: list[psycopg.Connection[tuple[object, ...]]] = []
    for _ in range(2):
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(place.database.url, autocommit=True))
        taken[0].execute(f"select pg_terminate_backend(pid) from ({_SESSIONS}) as of".encode())
    hold_for(dice.uniform(2, 4))
    for connection in taken:
        connection.close()


# The network.


@contextmanager
def away(place: Place, mode: Mode, *ways: str) -> Iterator[None]:
    for way in ways:
        place.proxies[way].set(mode)
    try:
        yield
    finally:
        for way in ways:
            place.proxies[way].set(Mode.PASS)


def disturb(mode: Mode, ways: tuple[str, ...], place: Place, dice: random.Random) -> None:
    with away(place, mode, *ways):
        hold_for(dice.uniform(1.5, 4))


_WAYS = {
    "server - database": ("server database",),
    "worker - database": ("worker database",),
    "worker - provider": ("provider", "smsc"),
    "provider - server": ("front",),
}


def _network(*names: str) -> tuple[Fault, ...]:
    return tuple(
        Fault(f"network, {name}: {mode}", partial(disturb, mode, _WAYS[name]))
        for name in names
        for mode in Mode
        if mode is not Mode.PASS
    )


TO_DATABASE = _network("server - database", "worker - database")
TO_PROVIDER = _network("worker - provider", "provider - server")

# Disks and clocks.

_STEPPED = "select 1 from messages where abs(extract(epoch from accepted_at - now()) - %s) < 300 limit 1"


@contextmanager
def hearing(place: Place, *words: str) -> Iterator[None]:
    """Returns when the log says that the fault has come to pass."""
    begun = len(place.log)
    yield
    wait_for(lambda: any(word in place.log[begun:] for word in words))


def fill_spool(disk: Disk, place: Place, dice: random.Random) -> None:
    """Database away and spool full: 503, so that the provider keeps it."""
    with away(place, Mode.REFUSE, "server database"):
        hold_for(dice.uniform(0.5, 1))
        with hearing(place, "neither database nor spool"):
            disk.fill(place.processes())
        disk.free()


def fill_database(disk: Disk, place: Place, dice: random.Random) -> None:
    """PostgreSQL may end where it cannot write its log; it is started again when there is room."""
    with hearing(place, "No space left", "File too large"):
        disk.fill(place.postgres())
    hold_for(dice.uniform(1, 4))
    disk.free()
    place.revive_postgres()


def step(seconds: int, place: Place, dice: random.Random) -> None:
    """Forward or backward, and after a while right again."""
    place.step_clock(seconds)
    wait_for(lambda: rows_of(place, _STEPPED, seconds))
    hold_for(dice.uniform(1, 3))
    place.step_clock(0)
    hold_for(1)


CLOCKS = tuple(
    Fault(f"clock {name}", partial(step, seconds))
    for name, seconds in {"+1 h": 3600, "-1 h": -3600, "+1 d": 86_400, "-1 d": -86_400}.items()
)
KILLS = (
    Fault("kill -9: a server process", kill_server),
    Fault("kill -9: a worker", kill_worker),
    Fault("kill -9: the parent of serve", kill_parent),
    Fault("kill -9: all of serve", kill_all),
    Fault("kill -9: a PostgreSQL session", kill_backend),
    Fault("kill -9: the postmaster", kill_postgres),
)
DYING = (*AT_POINTS, Fault("kill -9: taking over, not committed", die_taking_over))
DATABASE = (
    Fault("PostgreSQL hangs (SIGSTOP)", hang_postgres),
    Fault("PostgreSQL hangs longer than a lease", hang_long),
    Fault("PostgreSQL stops at once (SIGQUIT)", stop_postgres),
    Fault("PostgreSQL has no connection left", use_up_connections),
)


def rage(
    place: Place, faults: Sequence[Fault], rounds: int, dice: random.Random, promises: Promises
) -> Counter[str]:
    """Each fault so many times, in a random order, some facts acknowledged between; how often each was injected."""
    injected: Counter[str] = Counter()
    order = [fault for fault in faults for _ in range(rounds)]
    dice.shuffle(order)
    for fault in order:
        known = len(promises.receipts)
        wait_for(lambda known=known: len(promises.receipts) >= known + 30, 60)  # type: ignore[misc] # bound and used now
        fault.do(place, dice)
        injected[fault.name] += 1
    return injected
