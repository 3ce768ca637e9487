"""Storms of everything that can break: nothing that was acknowledged is lost, nothing counted or sent twice."""

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from faults import weather
from faults.checker import Checker, Verdict
from faults.disks import small_disk
from faults.figures import Storm
from faults.place import make_place
from faults.traffic import Traffic
from faults.weather import Fault

Note = Callable[[Storm], None]
pytestmark = pytest.mark.faults
# How often each fault is injected.
ROUNDS = int(os.environ.get("TALLYCAST_FAULTS", "").replace("full", "20") or 1)


def storm(
    folder: Path,
    client: httpx.Client,
    note: Note,
    name: str,
    faults: Sequence[Fault],
    *,
    may_be_unknown: bool,
) -> None:
    """Traffic in both directions, faults on top, then the reckoning."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown when the storm fails
    with make_place(folder, client) as place:
        app = place.new_app(client)
        traffic = Traffic(
            app,
            place.simulator,
            f"http://127.0.0.1:{place.proxies['provider'].port}",
            place.proxies["smsc"].port,
        )
        traffic.start()
        began = time.monotonic()
        try:
            injected = weather.rage(place, faults, ROUNDS, random.Random(seed), traffic.promises)
        finally:
            place.calm()
            traffic.stop()
        seconds = time.monotonic() - began
        verdict = Checker(place, app, traffic.promises).check(may_be_unknown=may_be_unknown)
        note(Storm.of(name, injected, verdict, seconds))
        assert found_wrong(verdict) == []
        assert verdict.acknowledged > 100
        assert place.stop() == 0


def found_wrong(verdict: Verdict) -> list[str]:
    return verdict.lost[:20] + verdict.twice[:20] + verdict.wrong[:20]


@pytest.mark.parametrize(
    ("name", "faults", "may_be_unknown"),
    [
        ("kills at random moments", weather.KILLS, True),
        ("kills at named points", weather.DYING, True),
        ("database", weather.DATABASE, False),
        ("network to the database", weather.TO_DATABASE, False),
        ("network to providers", weather.TO_PROVIDER, True),
        ("clocks", weather.CLOCKS, False),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_storm_loses_and_doubles_nothing(
    name: str,
    faults: Sequence[Fault],
    may_be_unknown: bool,
    tmp_path: Path,
    client: httpx.Client,
    note: Note,
) -> None:
    storm(tmp_path, client, note, name, faults, may_be_unknown=may_be_unknown)


def test_full_disks_lose_and_double_nothing(tmp_path: Path, client: httpx.Client, note: Note) -> None:
    with ExitStack() as disks:
        spool = disks.enter_context(small_disk(tmp_path / "data" / "spool", 1))
        database = disks.enter_context(small_disk(tmp_path / "database", 320))
        faults = (
            Fault("disk of the spool full", partial(weather.fill_spool, spool)),
            Fault("disk of the database full", partial(weather.fill_database, database)),
        )
        storm(tmp_path, client, note, "full disks", faults * 2, may_be_unknown=False)
