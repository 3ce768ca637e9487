"""The intake: natural batches, and what becomes of arrivals while the database is away, hangs, or refuses them."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from stage import BEGIN_MS, Stage, family, make_stage, says, signal_all, until
from tallycast import db, embedded, migrations, receipts
from tallycast.channels import Channel
from tallycast.errors import ServiceUnavailable
from tallycast.events import ButtonClick, Event, Receipt, Status
from tallycast.intake import Intake
from tallycast.links import Click
from tallycast.receipts import Applied, Arrival
from tallycast.spool import Spool

pytestmark = pytest.mark.anyio
PERSON = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
LONG = "".join(chr(code) for code in random.Random(7).choices(range(0x1F300, 0x1F600), k=512))


@dataclass
class Desk:
    """An intake over a pool of its own, with a spool in a folder of its own."""

    intake: Intake
    pool: db.Pool
    data_dir: Path

    @property
    def spooled(self) -> list[Path]:
        folder = self.data_dir / "spool"
        return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with db.make_pool(database_url, 4) as pool:
        yield Desk(Intake(pool, Spool(tmp_path)), pool, tmp_path)


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def channel(stage: Stage) -> Channel:
    return await stage.add_channel()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many arrivals each batch had that the database was given."""
    sizes: list[int] = []
    apply = receipts.apply

    async def note(connection: db.Connection, app_id: str, arrivals: Sequence[Arrival]) -> Applied:
        sizes.append(len(arrivals))
        return await apply(connection, app_id, arrivals)

    monkeypatch.setattr("tallycast.intake.receipts.apply", note)
    return sizes


def arrive(channel: Channel, *events: Event) -> Arrival:
    return Arrival(channel.app_id, channel.channel_number, BEGIN_MS, list(events))


def click(channel: Channel, campaign_id: int, number: int) -> Click:
    click_id = f"00000000-0000-0000-0000-{number:012d}"
    return Click(channel.app_id, click_id, "abcd", campaign_id, 0, BEGIN_MS, "GET", PERSON, "")


async def test_what_arrives_while_a_batch_commits_goes_together_in_the_next(
    desk: Desk, stage: Stage, channel: Channel, batches: list[int]
) -> None:
    campaign = await stage.sent(channel, *(f"m{n}" for n in range(41)))
    async with stage.connection.transaction():
        await stage.connection.execute(b"select from messages where app_id = %s for update", [stage.app_id])
        first = asyncio.create_task(desk.intake.receive(arrive(channel, says("m0", "read"))))
        await until(lambda: _is(batches == [1]))
        others = [
            asyncio.create_task(desk.intake.receive(arrive(channel, says(f"m{n}", "read"))))
            for n in range(1, 41)
        ]
        await asyncio.sleep(0)
        assert not first.done()
    await asyncio.gather(first, *others)
    assert batches == [1, 40]
    assert await stage.counts(campaign) == {"total": 41, "delivered": 41, "read": 41}


async def _is(condition: bool) -> bool:
    return condition


async def test_a_lonely_arrival_waits_for_nothing_but_its_own_commit(
    desk: Desk, stage: Stage, channel: Channel, batches: list[int]
) -> None:
    await stage.sent(channel, "m0")
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        await desk.intake.receive(arrive(channel, says("m0", "read")))
        seconds.append(time.perf_counter() - began)
    assert batches == [1] * 30
    assert min(seconds) < 0.02


async def test_a_busy_app_does_not_hold_up_another(desk: Desk, stage: Stage, channel: Channel) -> None:
    await stage.sent(channel, "m0")
    other = await make_stage(stage.connection)
    campaign = await other.sent(foreign := await other.add_channel(), "m0")
    async with stage.connection.transaction():
        await stage.connection.execute(b"select from messages where app_id = %s for update", [stage.app_id])
        slow = asyncio.create_task(desk.intake.receive(arrive(channel, says("m0", "read"))))
        await desk.intake.receive(arrive(foreign, says("m0", "read")))
        assert not slow.done()
        assert await other.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    await slow


async def test_a_flood_is_cut_into_batches_of_two_thousand_events(
    desk: Desk, stage: Stage, channel: Channel, batches: list[int]
) -> None:
    many = [says("m0", "read", n) for n in range(500)]
    async with asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(desk.intake.receive(arrive(channel, *many)))
    assert batches == [4, 4, 1]
    assert await stage.parked() == ["m0"]


async def test_clicks_are_noted_at_once_and_stored_by_the_end(
    desk: Desk, stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m0")
    for number in (1, 2, 2):
        desk.intake.note_click(click(channel, campaign, number))
    assert await stage.counts(campaign) == {"total": 1, "pending": 1}
    await desk.intake.close()
    assert await stage.counts(campaign) == {"total": 1, "pending": 1, "clicks": 2}


@pytest.mark.parametrize(
    "refused",
    [
        Receipt("poison\0", Status.READ, BEGIN_MS),
        Receipt("poison", Status.READ, 2**62),
        ButtonClick(LONG, "🎈" * 100 + LONG[:155], None, BEGIN_MS),  # too long for an index
    ],
)
async def test_an_event_that_the_database_refuses_costs_no_other_one_and_is_kept_for_people(
    desk: Desk, stage: Stage, channel: Channel, refused: Event
) -> None:
    campaign = await stage.sent(channel, *(f"m{n}" for n in range(5)))
    good = [says(f"m{n}", "read") for n in range(5)]
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.intake.receive(arrive(channel, good[0], good[1])))
        group.create_task(desk.intake.receive(arrive(channel, good[2], refused, good[3])))
        group.create_task(desk.intake.receive(arrive(channel, good[4])))
    assert await stage.counts(campaign) == {"total": 5, "delivered": 5, "read": 5}
    (kept,) = await receipts.list_unreadable(stage.connection, stage.app_id, 10, 0)
    assert kept.reason.startswith("refused by the database: ")
    assert type(refused).__name__.encode() in kept.raw
    assert not desk.intake.is_away
    assert desk.spooled == []


async def test_a_spool_with_a_refused_event_and_a_damaged_line_is_drained_of_all_else(
    desk: Desk, stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m0", "m1", "m2")
    spool = Spool(desk.data_dir)
    spool.write([arrive(channel, says("m0", "read")), arrive(channel, Receipt("x\0", Status.READ))])
    spool.write([arrive(channel, says("m1", "read")), click(channel, campaign, 1)])
    spool.close()
    (path,) = desk.spooled
    path.write_bytes(b"{damaged\n" + path.read_bytes())
    spool.write([arrive(channel, says("m2", "read"))])
    spool.close()
    await desk.intake.recover()
    assert await stage.counts(campaign) == {"total": 3, "delivered": 3, "read": 3, "clicks": 1}
    assert len(await receipts.list_unreadable(stage.connection, stage.app_id, 10, 0)) == 1
    assert desk.spooled == [path.with_suffix(".odd")]
    assert path.with_suffix(".odd").read_bytes().startswith(b"{damaged\n")


async def test_draining_a_file_again_after_a_crash_counts_nothing_twice(
    desk: Desk, stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m0", "m1")
    spool = Spool(desk.data_dir)
    spool.write([arrive(channel, says("m0", "read"), ButtonClick("Yes", "m0")), click(channel, campaign, 1)])
    spool.close()
    (path,) = desk.spooled
    content = path.read_bytes()
    for _ in range(3):
        path.write_bytes(content)
        assert await desk.intake.drain() == 2
    expected = {"total": 2, "pending": 1, "delivered": 1, "read": 1, "button_replies": 1, "clicks": 1}
    assert await stage.counts(campaign) == expected
    assert desk.spooled == []


async def test_two_processes_drain_each_item_once(
    desk: Desk, stage: Stage, channel: Channel, database_url: str
) -> None:
    await stage.sent(channel, *(f"m{n}" for n in range(20)))
    for n in range(20):
        spool = Spool(desk.data_dir)
        spool.write([arrive(channel, says(f"m{n}", "read"))])
        spool.close()
    async with db.make_pool(database_url, 2) as pool:
        other = Intake(pool, Spool(desk.data_dir))
        assert sum(await asyncio.gather(desk.intake.drain(), other.drain())) == 20
    assert desk.spooled == []


@dataclass
class Own:
    """A database server of our own, which a test may kill."""

    data_dir: Path
    server: embedded.Server

    def start(self) -> None:
        """Start it again after it was killed."""
        self.server.stop()
        self.server = embedded.start(self.data_dir)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    server = embedded.start(tmp_path / "own")
    migrations.migrate(server.url)
    one = Own(tmp_path / "own", server)
    yield one
    signal_all(family(one.server.pid), signal.SIGCONT)
    one.server.stop()


async def test_while_the_database_is_away_arrivals_are_spooled_and_counted_once_when_it_is_back(
    own: Own, tmp_path: Path
) -> None:
    async with db.make_pool(own.server.url, 4) as pool:
        desk = Desk(Intake(pool, Spool(tmp_path)), pool, tmp_path)
        async with db.connect(own.server.url) as connection:
            stage = await make_stage(connection)
            channel = await stage.add_channel()
            campaign = await stage.sent(channel, *(f"m{n}" for n in range(30)))
        await desk.intake.receive(arrive(channel, says("m0", "read")))
        signal_all(family(own.server.pid), signal.SIGKILL)

        began = time.monotonic()
        await asyncio.gather(
            *(desk.intake.receive(arrive(channel, says(f"m{n}", "read"))) for n in range(20))
        )
        desk.intake.note_click(click(channel, campaign, 1))
        assert time.monotonic() - began < 5
        assert len(desk.spooled) == 1
        await desk.intake.recover()  # not yet
        assert desk.intake.is_away
        await desk.intake.receive(arrive(channel, says("m20", "read"), says("m0", "read")))

        own.start()

        async def is_drained() -> bool:
            await desk.intake.recover()
            return desk.spooled == []

        await until(is_drained)
        async with db.connect(own.server.url) as connection:
            stage = Stage(connection, stage.app_id)
            expected = {"total": 30, "pending": 9, "delivered": 21, "read": 21, "clicks": 1}
            assert await stage.counts(campaign) == expected
            assert await stage.drift() == []


async def test_a_database_that_hangs_keeps_an_arrival_less_than_five_seconds_and_counts_it_once(
    own: Own, tmp_path: Path
) -> None:
    async with db.make_pool(own.server.url, 4) as pool:
        desk = Desk(Intake(pool, Spool(tmp_path)), pool, tmp_path)
        async with db.connect(own.server.url) as connection:
            stage = await make_stage(connection)
            channel = await stage.add_channel()
            campaign = await stage.sent(channel, "m0", "m1", "m2")
            await desk.intake.receive(arrive(channel, says("m0", "read")))
            signal_all(family(own.server.pid), signal.SIGSTOP)
            began = time.monotonic()
            await asyncio.gather(
                desk.intake.receive(arrive(channel, says("m1", "read"), ButtonClick("Yes", "m1"))),
                desk.intake.receive(arrive(channel, says("m2", "failed"))),
            )
            assert time.monotonic() - began < 4
            began = time.monotonic()
            await desk.intake.receive(arrive(channel, says("m2", "failed")))  # it is known to be away by now
            assert time.monotonic() - began < 0.5
            signal_all(family(own.server.pid), signal.SIGCONT)

            async def is_drained() -> bool:
                await desk.intake.recover()
                return desk.spooled == []

            await until(is_drained)
            expected = {"total": 3, "delivered": 2, "read": 2, "failed": 1, "button_replies": 1}
            assert await stage.counts(campaign) == expected
            assert await stage.drift() == []


async def test_with_database_and_spool_both_away_the_provider_is_told_and_may_try_again(
    own: Own, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file is in the way")
    async with db.make_pool(own.server.url, 4) as pool:
        desk = Desk(Intake(pool, Spool(tmp_path)), pool, tmp_path)
        async with db.connect(own.server.url) as connection:
            stage = await make_stage(connection)
            channel = await stage.add_channel()
            campaign = await stage.sent(channel, "m0", "m1")
        signal_all(family(own.server.pid), signal.SIGKILL)
        for name in ("m0", "m1"):
            with pytest.raises(ServiceUnavailable):
                await desk.intake.receive(arrive(channel, says(name, "read")))
        (tmp_path / "spool").unlink()
        await desk.intake.receive(arrive(channel, says("m0", "read")))
        own.start()

        async def is_drained() -> bool:
            await desk.intake.recover()
            return desk.spooled == []

        await until(is_drained)
        async with db.connect(own.server.url) as connection:
            assert await Stage(connection, stage.app_id).counts(campaign) == {
                "total": 2, "pending": 1, "delivered": 1, "read": 1,
            }  # fmt: skip


async def test_a_caller_that_goes_away_takes_no_receipt_with_it(
    desk: Desk, stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m0", "m1")
    async with stage.connection.transaction():
        await stage.connection.execute(b"select from messages where app_id = %s for update", [stage.app_id])
        gone = asyncio.create_task(desk.intake.receive(arrive(channel, says("m0", "read"))))
        stays = asyncio.create_task(desk.intake.receive(arrive(channel, says("m1", "read"))))
        await asyncio.sleep(0)
        gone.cancel()
    await stays
    assert await stage.counts(campaign) == {"total": 2, "delivered": 2, "read": 2}
