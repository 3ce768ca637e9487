"""The change feed: nothing that changes is missed, whatever is being written meanwhile, and pages hold together."""

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tallycast
from harness import App
from stage import Stage, make_stage, says
from tallycast import changes, channels, db, drafts, reports, sendings, stages
from tallycast.changes import Change
from tallycast.channels import Channel, NewChannel
from tallycast.drafts import NewSending
from tallycast.errors import BadQuery
from tallycast.keys import Cipher
from tallycast.reports import Summary
from tallycast.sql import load

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[db.Connection]:
    """A connection beside the stage's."""
    async with db.connect(database_url) as connection:
        yield connection


@pytest.fixture
def no_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is never set back, so that a test sees what comes twice for another reason."""
    monkeypatch.setattr(changes, "_OVERLAP", timedelta(0))


async def read_all(stage: Stage, since: str | None = None, limit: int = 200) -> tuple[list[Change], str]:
    """What the feed has, through all its pages, and the cursor at their end."""
    found: list[Change] = []
    while True:
        page = await changes.list_page(stage.connection, stage.app_id, since, limit)
        found += page.changes
        since = page.cursor
        if not page.has_more:
            return found, since


def ids(found: list[Change]) -> list[int]:
    return [int(one.id) for one in found]


async def test_a_row_is_the_summarys_with_queued_and_the_moment_of_change(stage: Stage) -> None:
    channel = await stage.add_channel()
    campaign = await stage.sent(channel, "m-1", "m-2", None)
    await stage.apply(channel, says("m-1", "read"))
    [row], _ = await read_all(stage)
    [summary] = (await reports.summarize(stage.connection, stage.app_id, 10, 0)).rows
    told = msgspec.to_builtins(row)
    assert {name: told[name] for name in msgspec.to_builtins(summary)} == msgspec.to_builtins(summary)
    assert (row.id, row.total_recipients, row.delivered, row.pending, row.queued) == (
        str(campaign),
        3,
        1,
        1,
        1,
    )
    assert set(told) - set(msgspec.to_builtins(summary)) == {"queued", "changedAt"}


@pytest.mark.usefixtures("no_overlap")
async def test_after_a_cursor_only_what_changed_since_comes_in_the_order_of_change(stage: Stage) -> None:
    channel = await stage.add_channel()
    first, second, third = [await stage.sent(channel, f"m-{n}") for n in range(3)]
    found, cursor = await read_all(stage)
    assert ids(found) == [first, second, third]
    found, cursor = await read_all(stage, cursor)
    assert found == []
    await stage.apply(channel, says("m-2", "delivered"))
    await stage.apply(channel, says("m-0", "delivered"))
    found, cursor = await read_all(stage, cursor)
    assert [(int(one.id), one.delivered) for one in found] == [(third, 1), (first, 1)]
    assert (await read_all(stage, cursor))[0] == []
    assert second not in ids(found)


@pytest.mark.usefixtures("no_overlap")
async def test_every_way_in_which_figures_move_is_in_the_feed(stage: Stage) -> None:
    channel = await stage.add_channel()
    campaign = await stage.sent(channel, "m-1", None)
    _, cursor = await read_all(stage)
    moves = []
    for name, move in {
        "receipt": stage.apply(channel, says("m-1", "delivered")),
        "recording": stage.record(campaign, ["m-2"], 5),
        "button": stage.apply(channel, says("m-1", "read"), says("m-1", "failed")),
    }.items():
        await move
        found, cursor = await read_all(stage, cursor)
        moves.append((name, ids(found)))
    assert moves == [(name, [campaign]) for name in ("receipt", "recording", "button")]


@pytest.mark.usefixtures("no_overlap")
@pytest.mark.parametrize("writes_first", [True, False], ids=["written before", "begun before"])
async def test_a_transaction_that_commits_late_is_not_missed(
    stage: Stage, other: db.Connection, writes_first: bool
) -> None:
    channel = await stage.add_channel()
    late, early = await stage.sent(channel, "m-1"), await stage.sent(channel, "m-2")
    _, cursor = await read_all(stage)
    async with other.transaction():
        await other.execute(b"select 1")
        if writes_first:
            await stage.apply(channel, says("m-1", "delivered"), connection=other)
        await stage.apply(channel, says("m-2", "delivered"))
        found, cursor = await read_all(stage, cursor)
        assert [(int(one.id), one.delivered) for one in found if one.delivered] == [(early, 1)]
        found, cursor = await read_all(stage, cursor)
        if not writes_first:
            await stage.apply(channel, says("m-1", "delivered"), connection=other)
    found, cursor = await read_all(stage, cursor)
    assert {int(one.id): one.delivered for one in found} == {early: 1, late: 1}
    assert (await read_all(stage, cursor))[0] == [], "no transaction holds it back any more"


@pytest.mark.usefixtures("no_overlap")
async def test_a_change_that_commits_late_within_the_pages_is_not_missed(
    stage: Stage, other: db.Connection
) -> None:
    channel = await stage.add_channel()
    campaigns = [await stage.sent(channel, f"m-{n}") for n in range(5)]
    async with other.transaction():
        await other.execute(b"select 1")
        for n in range(5):
            await stage.apply(channel, says(f"m-{n}", "delivered"))
        page = await changes.list_page(stage.connection, stage.app_id, None, 2)
        assert ids(page.changes) == campaigns[:2]
        # It began before all others, so it takes its row back in the order, past which the pages are already.
        await stage.apply(channel, says("m-4", "read"), connection=other)
    rest, cursor = await read_all(stage, page.cursor, 2)
    again, _ = await read_all(stage, cursor, 2)
    mirror = {int(one.id): one.read for one in [*page.changes, *rest, *again]}
    assert mirror == dict.fromkeys(campaigns[:4], 0) | {campaigns[4]: 1}


@pytest.mark.usefixtures("no_overlap")
async def test_pages_end_while_everything_changes_all_the_time(stage: Stage) -> None:
    channel = await stage.add_channel()
    campaigns = [await stage.sent(channel, f"d-{n}", f"r-{n}") for n in range(6)]
    mirror: dict[int, int] = {}
    since, pages = None, 0
    while True:
        page = await changes.list_page(stage.connection, stage.app_id, since, 2)
        mirror |= {int(one.id): one.delivered for one in page.changes}
        since, pages = page.cursor, pages + 1
        if not page.has_more:
            break
        for n in range(6):
            await stage.apply(channel, says(f"{'dr'[pages % 2]}-{n}", "delivered"))
    assert pages <= 3, "what changes meanwhile is left to the next time"
    found, _ = await read_all(stage, since, 2)
    mirror |= {int(one.id): one.delivered for one in found}
    assert mirror == dict.fromkeys(campaigns, 1 if pages < 3 else 2)


async def write(stage: Stage, channel: Channel, connection: db.Connection, dice: random.Random) -> None:
    """Transactions of any length, each with a receipt."""
    for _ in range(60):
        async with connection.transaction():
            await connection.execute(b"select 1")
            await asyncio.sleep(dice.random() / 100)
            receipt = says(f"m-{dice.randrange(60)}", dice.choice(("delivered", "read", "failed")))
            await stage.apply(channel, receipt, connection=connection)
            await asyncio.sleep(dice.random() / 100)


@pytest.mark.usefixtures("no_overlap")
async def test_a_mirror_that_follows_the_feed_equals_the_summary(stage: Stage, database_url: str) -> None:
    channel = await stage.add_channel()
    for n in range(12):
        await stage.sent(channel, *(f"m-{n * 5 + k}" for k in range(5)))
    mirror: dict[str, Change] = {}
    cursor: str | None = None

    async def follow() -> None:
        nonlocal cursor
        page = await changes.list_page(stage.connection, stage.app_id, cursor, 5)
        cursor = page.cursor
        mirror.update((one.id, one) for one in page.changes)

    async with db.connect(database_url) as first, db.connect(database_url) as second:
        writers = [
            asyncio.create_task(write(stage, channel, connection, random.Random(seed)))
            for seed, connection in enumerate((first, second))
        ]
        while not all(writer.done() for writer in writers):
            await follow()
        await asyncio.gather(*writers)
    found, _ = await read_all(stage, cursor)
    mirror.update((one.id, one) for one in found)
    rows: list[Summary] = (await reports.summarize(stage.connection, stage.app_id, 200, 0)).rows
    told = {one: msgspec.to_builtins(change) for one, change in mirror.items()}
    assert {row.id: msgspec.to_builtins(row) for row in rows} == {
        one: {name: value for name, value in row.items() if name not in {"queued", "changedAt"}}
        for one, row in told.items()
    }


@pytest.mark.usefixtures("no_overlap")
async def test_a_stage_is_told_and_what_was_never_sent_is_not(stage: Stage) -> None:
    credentials = {"baseURL": "https://s.example.com", "apiKey": "k"}
    new = NewChannel("sms", "sandbox", "+85230001234", credentials=credentials)
    channel = await channels.create(stage.connection, Cipher(bytes(32)), stage.app_id, new)
    made = await drafts.create(
        stage.connection,
        stage.app_id,
        NewSending("Sale", kind="smsDynamic", channel_id=channel.channel_id, content="Hi"),
        "Mei",
    )
    await stage.record(made.campaign_id, [None, None])
    found, cursor = await read_all(stage)
    assert found == []
    for action in ("start", "pause"):
        async with stage.connection.transaction():
            await stages.move(stage.connection, stage.app_id, made.campaign_id, action, "Mei")
    assert (await sendings.find(stage.connection, stage.app_id, made.campaign_id)).stage == "paused"
    await stage.connection.execute(b"update campaigns set sent_at = now() where app_id = %s", [stage.app_id])
    found, cursor = await read_all(stage, cursor)
    assert [(one.stage, one.queued, one.total_recipients) for one in found] == [("paused", 2, 2)]
    async with stage.connection.transaction():
        await stages.move(stage.connection, stage.app_id, made.campaign_id, "resume", "Mei")
    found, _ = await read_all(stage, cursor)
    assert [one.stage for one in found] == ["sending"], "no figure moved"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda cursor: cursor[:-1], id="cut off"),
        pytest.param(lambda cursor: cursor[::-1], id="turned round"),
        pytest.param(lambda cursor: cursor + "A", id="longer"),
        pytest.param(lambda _: "7", id="a number"),
        pytest.param(lambda _: "ä", id="not ASCII"),
        pytest.param(lambda cursor: cursor * 1000, id="very long"),
    ],
)
async def test_a_cursor_that_this_feed_did_not_give_is_refused(stage: Stage, change: Any) -> None:
    await stage.sent(await stage.add_channel(), "m-1")
    _, cursor = await read_all(stage)
    with pytest.raises(BadQuery, match="Bad query: since must be a cursor that this feed gave for app"):
        await read_all(stage, change(cursor))


@pytest.mark.parametrize(
    "position",
    [
        pytest.param([1], id="too short"),
        pytest.param([2**62, 0, 0, -1], id="after all time"),
        pytest.param([0, 1, -(2**62), -1], id="before all time"),
        pytest.param([0, 0, 0, 2**63], id="after all ids"),
        pytest.param(["a", 0, 0, 0], id="no number"),
    ],
)
async def test_a_cursor_that_somebody_made_up_is_refused(stage: Stage, position: list[Any]) -> None:
    body = msgspec.msgpack.encode(position)
    digest = blake2b(b"1 %b %b" % (stage.app_id.encode(), body), digest_size=8).digest()
    cursor = base64.urlsafe_b64encode(digest + body).rstrip(b"=").decode()
    with pytest.raises(BadQuery, match="since must be a cursor"):
        await read_all(stage, cursor)


async def test_a_cursor_of_another_app_is_refused(stage: Stage) -> None:
    stranger = await make_stage(stage.connection)
    _, cursor = await read_all(stranger)
    with pytest.raises(BadQuery, match="since must be a cursor"):
        await read_all(stage, cursor)


def test_the_feed_over_http_has_pages_a_cursor_and_bounds(app: App) -> None:
    channel = app.add_channel()
    known = [app.record(channel, [f"m-{n}"]) for n in range(3)]
    first = app.result("GET", "/data/campaign-changes", params={"limit": 2})
    assert [row["id"] for row in first["campaigns"]] == known[:2]
    assert first["hasMore"] is True
    second = app.result("GET", "/data/campaign-changes", params={"since": first["cursor"]})
    assert ([row["id"] for row in second["campaigns"]], second["hasMore"]) == (known[2:], False)
    app.post_receipts(channel, {"messageID": "m-1", "status": "delivered"})
    third = app.result("GET", "/data/campaign-changes", params={"since": second["cursor"]})
    assert [(row["id"], row["delivered"]) for row in third["campaigns"]][-1] == (known[1], 1)
    for query, message in {
        "limit=0": "Bad query: limit must be at least 1",
        "limit=-1": "Bad query: limit must be at least 1",
        "limit=201": "exceed maximum limit 200",
        "since=abc": "Bad query: since must be a cursor that this feed gave",
    }.items():
        answer = app.request("GET", f"/data/campaign-changes?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
        assert answer.json()["message"].startswith(message)


def test_every_statement_that_moves_counts_says_when() -> None:
    domains = (Path(tallycast.__file__).parent / "sql").glob("*.sql")
    moving = [query for path in domains if path.stem != "schema" for query in load(path.stem).values()]
    moving = [query for query in moving if b"update counts" in query]
    assert len(moving) >= 10
    assert [query for query in moving if b"changed_at = now()" not in query] == []
