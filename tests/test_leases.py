"""Leases: one holder at a time, as long as he renews, and free at once when his process is seen to have ended."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage import Stage, make_stage
from tallycast import db, leases

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The id of a process that lives."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def named(pid: int) -> str:
    """Another process's name, on this machine."""
    code = "import sys; from tallycast import leases; print(leases.name_process())"
    if pid == 0:  # one that has ended by now
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
    host, place, _, _ = leases.name_process().rsplit(" ", 3)
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{host} {place} {pid} {started}"


def elsewhere(number: int) -> str:
    return f"another-host 0a1b2c3d.4026531836 {number} 12345"


async def set_until(stage: Stage, name: str, seconds: float) -> None:
    await stage.connection.execute(
        b"update leases set until = now() + %s * interval '1 second' where app_id = %s and name = %s",
        [seconds, stage.app_id, name],
    )


async def test_a_lease_has_one_holder_until_it_ends(stage: Stage) -> None:
    key = (stage.connection, stage.app_id, "channel:1")
    assert await leases.take(*key, elsewhere(1))
    assert not await leases.take(*key, elsewhere(2))
    assert await leases.take(*key, elsewhere(1))
    await set_until(stage, "channel:1", -1)
    assert await leases.take(*key, elsewhere(2))
    assert await leases.renew(stage.connection, stage.app_id, ["channel:1"], elsewhere(1)) == set()
    assert await leases.renew(stage.connection, stage.app_id, ["channel:1", "no"], elsewhere(2)) == {
        "channel:1"
    }


async def test_a_lease_that_is_given_back_is_free(stage: Stage) -> None:
    key = (stage.connection, stage.app_id, "channel:1")
    assert await leases.take(*key, elsewhere(1))
    await leases.give_back(*key, elsewhere(2))
    assert not await leases.take(*key, elsewhere(2))
    await leases.give_back(*key, elsewhere(1))
    assert await leases.take(*key, elsewhere(2))


async def test_the_lease_of_a_process_that_has_ended_here_is_free_at_once(stage: Stage) -> None:
    key = (stage.connection, stage.app_id, "channel:1")
    assert await leases.take(*key, named(0))
    assert await leases.take(*key, leases.name_process())


async def test_the_lease_of_a_process_that_lives_or_that_cannot_be_seen_is_kept(
    stage: Stage, sleeper: int
) -> None:
    for n, holder in enumerate((named(sleeper), elsewhere(1), leases.name_process())):
        key = (stage.connection, stage.app_id, f"channel:{n}")
        assert await leases.take(*key, holder)
        assert not await leases.take(*key, elsewhere(2))


async def test_a_process_id_that_another_process_has_now_is_no_sign_of_life(stage: Stage) -> None:
    key = (stage.connection, stage.app_id, "channel:1")
    host, place, pid, _ = leases.name_process().rsplit(" ", 3)
    assert await leases.take(*key, f"{host} {place} {pid} 1")
    assert await leases.take(*key, leases.name_process())


async def test_leases_of_another_app_are_its_own(stage: Stage) -> None:
    other = await make_stage(stage.connection)
    assert await leases.take(stage.connection, stage.app_id, "channel:1", elsewhere(1))
    assert await leases.take(other.connection, other.app_id, "channel:1", elsewhere(2))
