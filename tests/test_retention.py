"""Retention: recipients become anonymous or go, every figure stays to the digit, and a kill at any moment does no harm."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import App, wait_for
from stage import BEGIN_MS, Stage, at, make_stage, says, until
from tallycast import audit, db, digests, exports, insights, links, reports, retention, retries
from tallycast.channels import Channel
from tallycast.errors import NotFound, Unprocessable
from tallycast.events import ButtonClick, TextReply
from tallycast.keys import Cipher
from tallycast.moments import write_moment
from tallycast.recipients import Filter, list_page, tell_story
from tallycast.references import write_reference
from test_insights import SAYING, URL, a_campaign, click

pytestmark = pytest.mark.anyio
CIPHER = Cipher(bytes(32))
MODES = ["anonymise", "delete"]


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[db.Pool]:
    pool = db.make_pool(database_url, 4)
    await pool.open(wait=True)
    yield pool
    await pool.close()


async def age(stage: Stage, mode: str, days: int = 30) -> None:
    """All campaigns were recorded long ago, and the app has a rule. No worker is woken for it."""
    key = {"app_id": stage.app_id, "mode": mode, "days": days}
    await db.execute(
        stage.connection,
        b"update campaigns set created_at = now() - interval '100 days' where app_id = %(app_id)s",
        key,
    )
    await db.execute(
        stage.connection,
        b"update apps set retention_days = %(days)s, retention_mode = %(mode)s where app_id = %(app_id)s",
        key,
    )


async def retain(stage: Stage, pool: db.Pool, mode: str, days: int = 30) -> None:
    await age(stage, mode, days)
    await retention.work(pool, CIPHER, stage.app_id, lambda: True)


async def answers(stage: Stage, campaign_id: int) -> tuple[Any, ...]:
    """All that is told of a campaign in figures."""
    found = await insights.find_all(stage.connection, stage.app_id, campaign_id)
    page = await reports.summarize(stage.connection, stage.app_id, 200, 0)
    return page.rows, msgspec.structs.replace(found, computed_at=""), await stage.counts(campaign_id)


async def ended(stage: Stage) -> list[int]:
    rows = await db.fetch_rows(
        stage.connection,
        b"select campaign_id from retentions where app_id = %(app_id)s and ended_at is not null",
        {"app_id": stage.app_id},
    )
    return [campaign_id for (campaign_id,) in rows]


async def count_rows(stage: Stage, table: str) -> int:
    query = f"select count(*) from {table} where app_id = %(app_id)s".encode()
    rows = await db.fetch_rows(stage.connection, query, {"app_id": stage.app_id})
    found: int = rows[0][0]
    return found


async def say(
    stage: Stage, channel: Channel, campaign_id: int, saying: tuple[str, int, int, str | None]
) -> None:
    kind, person, ms, said = saying
    if kind == "click":
        await click(stage, campaign_id, person, ms, user_agent=said or "")
    elif kind == "button":
        await stage.apply(channel, ButtonClick(said or "", f"m-{person}"))
    else:
        await stage.apply(channel, says(f"m-{person}", kind, ms, said if kind == "failed" else None))


@settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(before=st.lists(SAYING, max_size=12), late=st.lists(SAYING, max_size=6), mode=st.sampled_from(MODES))
async def test_every_figure_of_any_campaign_is_the_same_before_and_after_and_after_what_comes_late(
    connection: db.Connection, database_url: str, before: list[Any], late: list[Any], mode: str
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "m-0", "m-1", "m-2", "m-3", None, date=write_moment(at(0)))
    for saying in before:
        await say(stage, channel, campaign_id, saying)
    parked = await stage.parked()
    was = await answers(stage, campaign_id)
    async with db.make_pool(database_url, 2) as pool:
        await retain(stage, pool, mode)
    assert await ended(stage) == [campaign_id]
    assert await answers(stage, campaign_id) == was
    assert await stage.drift() == []
    for kind, person, *rest in late:
        # One that nobody recorded waits as ever.
        await say(stage, channel, campaign_id, (kind, min(person, 3), *rest))
    assert await answers(stage, campaign_id) == was
    assert await stage.drift() == []
    if mode == "anonymise":
        assert await stage.parked() == parked
    assert await count_rows(stage, "messages") == (5 if mode == "anonymise" else 0)


async def test_who_is_anonymous_is_a_digest_with_country_state_and_times_and_nothing_else(
    stage: Stage, pool: db.Pool
) -> None:
    channel = await stage.add_channel()
    campaign_id = await a_campaign(stage, channel)
    query = (
        b"update messages set content = 'Hi Ada', variables = array['Ada'], "
        b"error_title = case seq when 3 then 'no route to 85291000003, really' end where app_id = %(app_id)s"
    )
    await db.execute(stage.connection, query, {"app_id": stage.app_id})
    columns = "seq, country, accepted_at, delivered_at, read_at, failed_at, error_code"
    facts = f"select {columns} from messages where app_id = %(app_id)s order by seq".encode()
    known = await db.fetch_rows(stage.connection, facts, {"app_id": stage.app_id})
    await retain(stage, pool, "anonymise")
    assert await db.fetch_rows(stage.connection, facts, {"app_id": stage.app_id}) == known
    [key] = await digests.find_keys(stage.connection, CIPHER, stage.app_id)
    page = await list_page(stage.connection, stage.app_id, campaign_id, Filter(), 0, 20)
    assert [one.recipient for one in page.rows] == [key.digest(f"+8529100000{n}") for n in range(8)]
    assert {one.content for one in page.rows} == {""}
    assert page.rows[3].error_title == f"no route to {key.digest('+85291000003')}, really"
    assert all(str(one.message_id).startswith("anon-") for one in page.rows[:7])
    listed = await list_page(
        stage.connection, stage.app_id, campaign_id, Filter(number=page.rows[2].recipient), 0, 20
    )
    assert [one.seq for one in listed.rows] == [2]
    story = await tell_story(stage.connection, stage.app_id, campaign_id, 0)
    kinds = ["accepted", "delivered", "read", "click", "click"]
    assert [one.kind for one in story.events if one.kind != "button"] == kinds
    agents = b"select distinct user_agent, purpose from clicks where app_id = %(app_id)s"
    assert await db.fetch_rows(stage.connection, agents, {"app_id": stage.app_id}) == [("(removed)", "")]
    assert await links.reclassify(stage.connection, stage.app_id) == 0
    detail = await reports.detail(stage.connection, stage.app_id, str(campaign_id), 1)
    assert detail.rows[0].recipient == page.rows[0].recipient


async def test_of_a_deleted_campaign_lists_are_empty_and_the_audit_says_what_it_compares(
    stage: Stage, pool: db.Pool
) -> None:
    channel = await stage.add_channel()
    campaign_id = await a_campaign(stage, channel)
    await retain(stage, pool, "delete")
    [portion] = [one async for one in audit.audit(stage.connection, stage.app_id)]
    assert (portion.campaigns, portion.messages, portion.drifts, portion.deleted) == (1, 8, [], 8)
    assert (await list_page(stage.connection, stage.app_id, campaign_id, Filter(), 0, 20)).rows == []
    assert (await reports.detail(stage.connection, stage.app_id, str(campaign_id), 10)).rows == []
    table = await exports.find_recipients(stage.connection, stage.app_id, campaign_id)
    assert (table.total, table.note.startswith("its recipients were deleted on ")) == (0, True)
    with pytest.raises(NotFound):
        await tell_story(stage.connection, stage.app_id, campaign_id, 0)
    for left in ("messages", "replies", "handovers", "attempts"):
        assert (left, await count_rows(stage, left)) == (left, 0)
    broken = b"update retentions set failed = failed - 1, total = total - 1 where app_id = %(app_id)s"
    await db.execute(stage.connection, broken, {"app_id": stage.app_id})
    [drift] = await stage.drift()
    assert drift.fields == {"totalRecipients": (8, 7), "failed": (2, 1)}


async def test_what_was_anonymous_is_deleted_when_the_rule_says_so_later(stage: Stage, pool: db.Pool) -> None:
    campaign_id = await a_campaign(stage, await stage.add_channel())
    was = await answers(stage, campaign_id)
    await retain(stage, pool, "anonymise")
    await retain(stage, pool, "delete")
    assert await answers(stage, campaign_id) == was
    assert (await count_rows(stage, "messages"), await stage.drift()) == (0, [])
    await retain(stage, pool, "anonymise")
    assert await answers(stage, campaign_id) == was


@pytest.mark.parametrize("mode", MODES)
async def test_a_frozen_campaign_takes_no_more_recipients_links_followed_or_second_tries(
    stage: Stage, pool: db.Pool, mode: str
) -> None:
    channel = await stage.add_channel()
    campaign_id = await a_campaign(stage, channel)
    was = await answers(stage, campaign_id)
    await retain(stage, pool, mode)
    reference = write_reference(campaign_id, 5)
    await stage.apply(channel, says("raw-5", "read", 9000, reference=reference))
    await stage.apply(channel, ButtonClick("Maybe", None, reference=reference))
    await click(stage, campaign_id, 5, 9000)
    with pytest.raises(Unprocessable, match="cannot change any more: its recipients were"):
        await stage.record(campaign_id, ["m-new"], 50)
    with pytest.raises(Unprocessable):
        await retries.settle(stage.connection, stage.app_id, campaign_id, "sent", None, "somebody")
    assert await answers(stage, campaign_id) == was
    assert (await stage.parked(), await count_rows(stage, "unreadable"), await stage.drift()) == ([], 0, [])


async def test_unknown_outcomes_stay_in_the_funnel_when_their_messages_are_gone(
    stage: Stage, pool: db.Pool
) -> None:
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, None, "m-1", date=write_moment(at(0)))
    key = {"app_id": stage.app_id, "campaign_id": campaign_id, "number": channel.channel_number}
    await db.execute(
        stage.connection,
        b"insert into handovers (app_id, campaign_id, seq, channel_number, status) "
        b"values (%(app_id)s, %(campaign_id)s, 0, %(number)s, 'unknown')",
        key,
    )
    was = await answers(stage, campaign_id)
    assert was[1].funnel.unknown == 1
    await retain(stage, pool, "delete")
    assert await answers(stage, campaign_id) == was


async def test_only_what_was_over_for_long_enough_is_touched(stage: Stage, pool: db.Pool) -> None:
    channel = await stage.add_channel()
    old = await stage.sent(channel, "a", date=write_moment(at(0)))
    recent = await stage.sent(channel, "b")
    grown = await stage.sent(channel, "c", date=write_moment(at(0)))
    await db.execute(
        stage.connection,
        b"update messages set accepted_at = now() where app_id = %(app_id)s and campaign_id = %(campaign_id)s",
        {"app_id": stage.app_id, "campaign_id": grown},
    )
    await age(stage, "anonymise")
    fresh = await stage.sent(channel, "d", date=write_moment(at(0)))
    await retention.work(pool, CIPHER, stage.app_id, lambda: True)
    assert (await ended(stage), recent != fresh) == ([old], True)
    looked = await retention.find_next(stage.connection, stage.app_id)
    await retention.work(pool, CIPHER, stage.app_id, lambda: True)
    assert looked is not None
    assert await retention.find_next(stage.connection, stage.app_id) > looked  # type: ignore[operator]


async def test_without_a_rule_nothing_is_due(stage: Stage, pool: db.Pool) -> None:
    campaign_id = await a_campaign(stage, await stage.add_channel())
    assert await retention.find_next(stage.connection, stage.app_id) is None
    await retention.work(pool, CIPHER, stage.app_id, lambda: True)
    assert (await ended(stage), await count_rows(stage, "messages"), campaign_id > 0) == ([], 8, True)


async def test_texts_bodies_and_receipts_that_nobody_could_place_go_by_their_age(
    stage: Stage, pool: db.Pool
) -> None:
    channel = await stage.add_channel()
    await stage.apply(channel, TextReply("My address is …", "in-1", None, BEGIN_MS, "85291000000"))
    await stage.apply(channel, says("nobody", "read"), ButtonClick("Yes", None))
    for table, column in (("parked", "parked_at"), ("unreadable", "last_at")):
        query = f"update {table} set {column} = now() - interval '31 days' where app_id = %(app_id)s"
        await db.execute(stage.connection, query.encode(), {"app_id": stage.app_id})
    tables = ("texts", "parked", "unreadable")
    assert [await count_rows(stage, one) for one in tables] == [1, 1, 1]
    await retain(stage, pool, "anonymise", 30)
    assert [await count_rows(stage, one) for one in tables] == [0, 0, 0]


KILLED = """
import asyncio, sys
from tallycast import db, retention
from tallycast.keys import Cipher

async def main(url, app_id):
    retention._BATCH = 5
    pool = db.make_pool(url, 2)
    await pool.open()
    await retention.work(pool, Cipher(bytes(32)), app_id, lambda: True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("mode", MODES)
async def test_a_worker_that_is_killed_half_way_leaves_figures_that_agree_and_another_goes_on(
    stage: Stage, pool: db.Pool, database_url: str, mode: str
) -> None:
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, *(f"m-{n}" for n in range(2000)), date=write_moment(at(0)))
    await stage.apply(channel, *(says(f"m-{n}", "read", n) for n in range(0, 2000, 3)))
    was = await answers(stage, campaign_id)
    await age(stage, mode)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, database_url, stage.app_id)

    async def is_half_way() -> bool:
        query = b"select next_seq from retentions where app_id = %(app_id)s and next_seq > 100"
        return bool(await db.fetch_rows(stage.connection, query, {"app_id": stage.app_id}))

    await until(is_half_way)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert await ended(stage) == []
    assert (await answers(stage, campaign_id), await stage.drift()) == (was, [])
    # Late ones meanwhile change nothing either, whether their message is still there or not.
    await stage.apply(channel, says("m-1", "read"), says("m-1999", "read"))
    assert (await answers(stage, campaign_id), await stage.drift()) == (was, [])
    await retention.work(pool, CIPHER, stage.app_id, lambda: True)
    assert await ended(stage) == [campaign_id]
    assert (await answers(stage, campaign_id), await stage.drift()) == (was, [])


async def test_freezing_waits_for_who_began_before_the_campaign_was_marked(
    stage: Stage, pool: db.Pool, database_url: str
) -> None:
    """A receipt that is on its way into the counts is among what is frozen."""
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "m-0", date=write_moment(at(0)))
    async with db.connect(database_url) as other:
        async with other.transaction():
            await stage.apply(channel, says("m-0", "read"), connection=other)
            await age(stage, "delete")
            asked: list[int] = []

            def is_held() -> bool:
                asked.append(1)
                return True

            async def waits() -> bool:
                return len(asked) > 4  # twice while it finds what is due, then each time that it looks again

            working = asyncio.create_task(retention.work(pool, CIPHER, stage.app_id, is_held))
            await until(waits)
            assert (working.done(), await count_rows(stage, "insights")) == (False, 0)
        await working
    assert await stage.counts(campaign_id) == {"total": 1, "delivered": 1, "read": 1}
    found = await insights.find_all(stage.connection, stage.app_id, campaign_id)
    assert (found.funnel.read, sum(one.read for one in found.timeline.points)) == (1, 1)
    assert await stage.drift() == []


def test_a_worker_does_what_the_policy_says_and_every_answer_stays(app: App, database_url: str) -> None:
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, ["m-0", "m-1", None], date="2024-01-01T00:00:00Z")
    app.post_receipts(channel_id, {"messageID": "m-0", "status": "read"})
    [link] = app.result("POST", f"/sent-campaigns/{campaign_id}/links", json={"url": URL})["links"][:1]
    paths = [
        "/data/sent-campaigns-summary?limit=200", f"/data/campaigns/{campaign_id}/insights",
        f"/data/campaigns/{campaign_id}/recipients?limit=0",
    ]  # fmt: skip

    def told() -> list[Any]:
        found = [app.result("GET", path) for path in paths]
        found[1].pop("computedAt")
        return found

    was = told()
    rewind(database_url, app)
    assert app.result("PATCH", "/policy", json={"retention": {"days": 30, "mode": "delete"}})["retention"] == {
        "days": 30, "mode": "delete",
    }  # fmt: skip
    wait_for(lambda: app.result("GET", f"/data/sent-campaigns-detail?historyID={campaign_id}") == [])
    assert told() == was
    for path in (
        f"/data/sent-campaigns-detail?historyID={campaign_id}",
        f"/data/campaigns/{campaign_id}/recipients",
        f"/exports/recipients?campaign={campaign_id}",
    ):
        assert "its recipients were deleted on" in app.request("GET", path).headers["Tallycast-Note"]
    assert app.client.get(link["url"], follow_redirects=False).status_code == 302
    answer = app.request(
        "POST", f"/sent-campaigns/{campaign_id}/messages", content=b'{"recipient":"+85291000009"}',
        headers={"Content-Type": "application/x-ndjson"},
    )  # fmt: skip
    assert "cannot change any more" in answer.text


def rewind(database_url: str, app: App) -> None:
    """All campaigns of an app were recorded long ago."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            b"update campaigns set created_at = now() - interval '9 days' where app_id = %s", [app.app_id]
        )
