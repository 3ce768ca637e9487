"""Folding receipts, clicks and texts: what each literal case ends in, what is parked, and who may race whom."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from stage import BEGIN_MS, Stage, at, make_stage, nodes, numbered, says, until_blocked
from tallycast import db, receipts
from tallycast.channels import Channel
from tallycast.events import ButtonClick, Event, TextReply, Unreadable
from tallycast.receipts import Arrival
from tallycast.references import write_reference
from tallycast.sql import load

pytestmark = pytest.mark.anyio
SQL = load("receipts")


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def channel(stage: Stage) -> Channel:
    return await stage.add_channel()


@pytest.fixture
async def others(database_url: str) -> AsyncIterator[list[db.Connection]]:
    """Three more connections, which notice a deadlock soon."""
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(db.connect(database_url)) for _ in range(3)]
        for connection in opened:
            await connection.execute(b"set deadlock_timeout = '20ms'")
        yield opened


async def test_two_statuses_of_one_message_in_one_batch_count_once(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, "m1", "m2", date="2023-11-14T22:13:20Z")
    assert await stage.apply(channel, says("m1", "delivered", 5), says("m1", "read", 9)) == (1, 0)
    assert await stage.counts(campaign) == {"total": 2, "pending": 1, "delivered": 1, "read": 1}
    assert await stage.message(campaign) == {
        "message_id": "m1", "accepted_at": at(0), "delivered_at": at(5), "read_at": at(9),
    }  # fmt: skip


async def test_a_read_message_is_delivered_also_when_its_delivery_comes_later(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1")
    await stage.apply(channel, says("m1", "read", 9))
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    await stage.apply(channel, says("m1", "delivered", 5))
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    assert (await stage.message(campaign))["delivered_at"] == at(5)


async def test_a_delivery_after_a_failure_takes_the_failure_out_of_the_count_and_keeps_its_facts(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1")
    await stage.apply(channel, says("m1", "failed", 3, "131026"))
    assert await stage.counts(campaign) == {"total": 1, "failed": 1}
    await stage.apply(channel, says("m1", "delivered", 8))
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1}
    message = await stage.message(campaign)
    assert (message["failed_at"], message["error_code"]) == (at(3), "131026")


async def test_a_late_accepted_moves_no_count(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, "m1", "m2", "m3")
    await stage.apply(channel, says("m1", "delivered"), says("m2", "read"), says("m3", "failed"))
    before = await stage.counts(campaign)
    await stage.apply(channel, *(says(name, "accepted", -50) for name in ("m1", "m2", "m3")))
    assert await stage.counts(campaign) == before == {"total": 3, "delivered": 2, "read": 1, "failed": 1}
    assert (await stage.message(campaign))["accepted_at"] == at(-50)


async def test_of_two_failures_at_one_time_the_smaller_code_stands_in_either_order(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1", "m2", "m3")
    first, second = ("failed", 7, "131026"), ("failed", 7, "470")
    await stage.apply(channel, says("m1", *first), says("m1", *second))
    await stage.apply(channel, says("m2", *first))
    await stage.apply(channel, says("m2", *second))
    await stage.apply(channel, says("m3", *second))
    await stage.apply(channel, says("m3", *first))
    assert [(await stage.message(campaign, seq))["error_code"] for seq in range(3)] == ["131026"] * 3
    assert await stage.counts(campaign) == {"total": 3, "failed": 3}


async def test_an_earlier_failure_brings_its_own_code_or_none(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, "m1")
    await stage.apply(channel, says("m1", "failed", 7, "470", error_title="Undeliverable"))
    await stage.apply(channel, says("m1", "failed", 2))
    message = await stage.message(campaign)
    assert (message["failed_at"], message.get("error_code"), message.get("error_title")) == (
        at(2),
        None,
        None,
    )


async def test_a_receipt_without_a_time_takes_that_of_its_arrival(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, "m1")
    await stage.apply(channel, says("m1", "delivered", None), arrived_ms=77)
    assert (await stage.message(campaign))["delivered_at"] == at(77)


async def test_receipts_that_come_before_their_message_are_counted_when_it_is_recorded(
    stage: Stage, channel: Channel
) -> None:
    assert await stage.apply(channel, says("m1", "delivered", 5), says("m1", "failed", 3, "470")) == (0, 1)
    assert await stage.apply(channel, says("m1", "read", 9)) == (0, 1)
    assert await stage.parked() == ["m1"]
    campaign = await stage.sent(channel, "m1", date="2023-11-14T22:13:20Z")
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    assert await stage.message(campaign) == {
        "message_id": "m1", "accepted_at": at(0), "delivered_at": at(5), "read_at": at(9), "failed_at": at(3),
        "error_code": "470",
    }  # fmt: skip
    assert await stage.parked() == []


async def test_parked_receipts_are_listed_with_their_age_the_oldest_first(
    stage: Stage, channel: Channel
) -> None:
    await stage.apply(channel, says("young", "read", 9), says("young", "failed", 3, "470"))
    await stage.apply(channel, ButtonClick("Yes", "old", None, BEGIN_MS))
    await stage.connection.execute(
        b"update parked set parked_at = parked_at - interval '1 hour' where app_id = %s and message_id = 'old'",
        [stage.app_id],
    )
    old, young = await receipts.list_parked(stage.connection, stage.app_id, 10, 0)
    assert (old.message_id, old.kinds(), old.channel_id) == ("old", ["button Yes"], channel.channel_id)
    assert 3600 <= old.age_seconds < 3660
    assert (young.message_id, young.kinds(), young.error_code) == ("young", ["read", "failed"], "470")
    assert 0 <= young.age_seconds < 60
    assert (await receipts.count_parked(stage.connection, stage.app_id)) == (2, old.parked_at)


async def test_a_click_that_comes_before_its_message_is_counted_when_it_is_recorded(
    stage: Stage, channel: Channel
) -> None:
    click = ButtonClick("Yes", "m1", None, BEGIN_MS)
    assert await stage.apply(channel, click, click, ButtonClick("No", "m1")) == (0, 2)
    campaign = await stage.sent(channel, "m1")
    assert await stage.counts(campaign) == {"total": 1, "pending": 1, "button_replies": 2}
    assert await stage.parked() == []


async def test_buttons_are_a_set_of_message_and_button_however_the_message_is_named(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1", "m2")
    reference = write_reference(campaign, 0)
    await stage.apply(channel, ButtonClick("Yes", "m1"))
    await stage.apply(channel, ButtonClick("Yes", None, reference), ButtonClick("Yes", "m1", reference))
    await stage.apply(channel, ButtonClick("Yes", "m1"))
    assert (await stage.counts(campaign))["button_replies"] == 1
    await stage.apply(channel, ButtonClick("No", None, reference), ButtonClick("Yes", "m2"))
    assert (await stage.counts(campaign))["button_replies"] == 3


async def test_a_click_that_names_no_message_that_exists_is_kept_as_unreadable(
    stage: Stage, channel: Channel
) -> None:
    for _ in range(2):
        assert await stage.apply(channel, ButtonClick("Yes", None, "tc:12345.6"), ButtonClick("No")) == (0, 0)
    found = await receipts.list_unreadable(stage.connection, stage.app_id, 10, 0)
    assert [(one.reason, one.times) for one in found] == [
        ("a button click for a message that does not exist", 2),
        ("a button click for a message that does not exist", 2),
    ]
    assert {b"12345" in one.raw for one in found} == {True, False}
    assert await stage.parked() == []


async def test_a_click_with_an_unknown_reference_counts_by_its_message_id(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1")
    await stage.apply(
        channel, ButtonClick("Yes", "m1", "tc:12345.6"), says("m1", "read", reference="tc:12345.6")
    )
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1, "button_replies": 1}
    assert await stage.parked() == []


async def test_a_reference_teaches_the_message_id_and_takes_what_was_parked_for_it(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, None)
    await stage.apply(channel, says("m1", "read", 9), ButtonClick("Yes", "m1"))
    assert await stage.counts(campaign) == {"total": 1, "queued": 1}
    await stage.apply(channel, says("m1", "accepted", 1, reference=write_reference(campaign, 0)))
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1, "button_replies": 1}
    assert (await stage.message(campaign))["message_id"] == "m1"
    assert await stage.parked() == []


async def test_one_message_id_under_several_references_costs_no_other_receipt(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, None, None, "m3")
    first, second = write_reference(campaign, 0), write_reference(campaign, 1)
    await stage.apply(
        channel,
        says("same", "delivered", 1, reference=first), says("same", "delivered", 2, reference=second),
        says("stranger", "read", 1, reference="tc:77.1"), says("stranger", "read", 2, reference="tc:77.2"),
        says("m3", "delivered", 3),
    )  # fmt: skip
    assert await stage.counts(campaign) == {"total": 3, "delivered": 3}
    assert [(await stage.message(campaign, seq)).get("message_id") for seq in range(3)] == [
        "same",
        None,
        "m3",
    ]
    assert await stage.parked() == ["stranger"]


async def test_completing_a_message_ends_in_the_same_facts_before_and_after_its_receipts(
    stage: Stage, channel: Channel
) -> None:
    early = await stage.sent(channel, None, date="2023-11-14T22:13:20Z")
    late = await stage.sent(channel, None, date="2023-11-14T22:13:20Z")
    await stage.record(early, ["m1"])
    await stage.apply(channel, says("m1", "accepted", 50, reference=write_reference(early, 0)))
    await stage.apply(channel, says("m2", "accepted", 50, reference=write_reference(late, 0)))
    await stage.record(late, ["m2"])
    assert await stage.message(early) == {"message_id": "m1", "accepted_at": at(0)}
    assert await stage.message(late) == {"message_id": "m2", "accepted_at": at(0)}
    assert await stage.counts(early) == await stage.counts(late) == {"total": 1, "pending": 1}


async def test_texts_are_kept_once_and_count_nothing(stage: Stage, channel: Channel) -> None:
    campaign = await stage.sent(channel, "m1")
    text = TextReply("How much is it?", "in-1", "m1", BEGIN_MS, "85291000000")
    for _ in range(2):
        await stage.apply(channel, text, text, TextReply("Hello", "in-2"))
    query = b"select inbound_id, body, message_id, sender from texts where app_id = %(app_id)s order by inbound_id"
    found = await db.fetch_rows(stage.connection, query, {"app_id": stage.app_id})
    assert found == [("in-1", "How much is it?", "m1", "85291000000"), ("in-2", "Hello", None, None)]
    assert await stage.counts(campaign) == {"total": 1, "pending": 1}


async def test_a_body_that_is_not_understood_is_kept_once_and_counted(stage: Stage, channel: Channel) -> None:
    body = Unreadable("not JSON", b"\xff{]")
    await stage.apply(channel, body, body)
    await stage.apply(channel, body, Unreadable("no receipts", b"{}"))
    found = await receipts.list_unreadable(stage.connection, stage.app_id, 10, 0)
    assert sorted((one.raw, one.reason, one.times) for one in found) == [
        (b"{}", "no receipts", 1), (b"\xff{]", "not JSON", 2),
    ]  # fmt: skip


async def test_ids_of_one_channel_never_touch_another_channels_or_apps_messages(
    stage: Stage, channel: Channel
) -> None:
    sibling, stranger = await stage.add_channel(), await make_stage(stage.connection)
    foreign = await stranger.add_channel()
    mine = await stage.sent(channel, "m1")
    siblings = await stage.sent(sibling, "m1")
    strangers = await stranger.sent(foreign, "m1")
    await stage.apply(channel, says("m1", "read"), ButtonClick("Yes", "m1"))
    for other in (siblings, strangers):
        reference = write_reference(other, 0)
        await stage.apply(
            channel, says("mx", "failed", reference=reference), ButtonClick("Yes", None, reference)
        )
    assert await stage.counts(mine) == {"total": 1, "delivered": 1, "read": 1, "button_replies": 1}
    assert await stage.counts(siblings) == {"total": 1, "pending": 1}
    assert await stranger.counts(strangers) == {"total": 1, "pending": 1}
    assert await stage.parked() == ["mx"]
    assert await stranger.parked() == []


async def test_receipts_parked_while_their_message_is_being_recorded_are_matched_by_whoever_commits_last(
    stage: Stage, channel: Channel, others: list[db.Connection]
) -> None:
    recorder, provider, _ = others
    campaign = await stage.add_campaign(channel)

    async with recorder.transaction():  # the message is there, and not committed
        await stage.record_only(campaign, ["m1"], 0, recorder)
        assert await stage.apply(channel, says("m1", "read"), connection=provider) == (0, 1)
    await receipts.match_recorded(recorder, stage.app_id, channel.channel_number, ["m1"])
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    assert await stage.parked() == []


async def test_a_message_recorded_while_its_receipts_are_being_parked_is_found_by_the_parking_batch(
    stage: Stage, channel: Channel, others: list[db.Connection]
) -> None:
    recorder, provider, holder = others
    campaign = await stage.add_campaign(channel)
    await stage.apply(channel, says("m1", "accepted"))
    async with (
        holder.transaction()
    ):  # the batch waits for the parked row, after it has looked for the message
        await holder.execute(
            b"select from parked where app_id = %s and message_id = 'm1' for update", [stage.app_id]
        )
        batch = asyncio.create_task(stage.apply(channel, says("m1", "read"), connection=provider))
        await until_blocked(stage.connection, provider)
        await stage.record_only(campaign, ["m1"], 0, recorder)
    assert await batch == (0, 1)
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    assert await stage.parked() == []


async def test_what_a_dead_process_left_parked_is_matched_by_the_next_round_of_tidying(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.sent(channel, "m1", "m2")
    await stage.connection.execute(
        b"insert into parked (app_id, channel_number, message_id, button, read_at, replied_at) values "
        b"(%(app)s, %(n)s, 'm1', '', now(), null), (%(app)s, %(n)s, 'm2', 'Yes', null, now()), "
        b"(%(app)s, %(n)s, 'm3', '', now(), null)",
        {"app": stage.app_id, "n": channel.channel_number},
    )
    assert await receipts.match_leftovers(stage.connection, stage.app_id) == 2
    assert await stage.counts(campaign) == {
        "total": 2, "pending": 1, "delivered": 1, "read": 1, "button_replies": 1,
    }  # fmt: skip
    assert await stage.parked() == ["m3"]
    assert await receipts.match_leftovers(stage.connection, stage.app_id) == 0


async def test_a_receipt_that_waits_for_another_writer_moves_the_counts_that_this_one_leaves(
    stage: Stage, channel: Channel, others: list[db.Connection]
) -> None:
    """The first look at the counts is at a version where one more of a state would be less than none."""
    recorder, provider, _ = others
    campaign = await stage.sent(channel, None)
    receipt = says("m1", "delivered", reference=write_reference(campaign, 0))
    async with recorder.transaction():
        await stage.record_only(campaign, ["m1"], 0, recorder)
        batch = asyncio.create_task(stage.apply(channel, receipt, connection=provider))
        await until_blocked(stage.connection, provider)
    assert await batch == (1, 0)
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1}


async def test_two_writers_of_one_message_move_its_count_once(
    stage: Stage, channel: Channel, others: list[db.Connection]
) -> None:
    first, second, _ = others
    campaign = await stage.sent(channel, "m1")
    async with first.transaction():
        await stage.apply(channel, says("m1", "delivered", 5), connection=first)
        batch = asyncio.create_task(stage.apply(channel, says("m1", "read", 3), connection=second))
        await until_blocked(stage.connection, second)
    await batch
    assert await stage.counts(campaign) == {"total": 1, "delivered": 1, "read": 1}
    assert (await stage.message(campaign))["delivered_at"] == at(5)


async def test_concurrent_batches_in_opposite_orders_end_in_exact_counts(
    stage: Stage, channel: Channel, others: list[db.Connection]
) -> None:
    shuffle = random.Random(20231114)
    for number in range(25):
        campaigns = [await stage.add_campaign(channel) for _ in range(3)]
        for n, campaign in enumerate(campaigns):
            await stage.record(campaign, [f"{number}.{n}.{m}" for m in range(4)])
        known = [
            says(f"{number}.{n}.{m}", status, reference=reference and write_reference(campaign, m))
            for n, campaign in enumerate(campaigns)
            for m in range(4)
            for status, reference in (("delivered", ""), ("read", "yes"))
        ]
        clicks = [ButtonClick("Yes", f"{number}.{n}.0") for n in range(3)]
        everything: list[Event] = [*known, *clicks]
        mixed = shuffle.sample(everything, len(everything))
        await asyncio.gather(
            stage.apply(channel, *everything, connection=others[0]),
            stage.apply(channel, *reversed(everything), connection=others[1]),
            stage.apply(channel, *mixed, connection=others[2]),
        )
        for campaign in campaigns:
            assert await stage.counts(campaign) == {
                "total": 4,
                "delivered": 4,
                "read": 4,
                "button_replies": 1,
            }
    assert await stage.drift() == []


async def test_a_batch_of_two_thousand_touches_each_row_a_few_times_only(
    stage: Stage, channel: Channel
) -> None:
    campaign = await stage.add_campaign(channel)
    for first in range(0, 6000, 2000):
        await stage.record(campaign, [f"m{first + n}" for n in range(2000)], first)
    folded = receipts.fold(
        [
            Arrival(
                stage.app_id,
                channel.channel_number,
                BEGIN_MS,
                [says(f"m{n * 4}", "read") for n in range(2000)],
            )
        ]
    )
    plan = await _run_explained(stage, folded)
    touched = [
        (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Join Filter", 0)
        )
        * node["Actual Loops"]
        for node in plan
    ]
    assert max(touched) <= 2 * 2000
    assert (await stage.counts(campaign))["read"] == 1500


async def _run_explained(stage: Stage, folded: receipts.Fold) -> list[dict[str, Any]]:
    """Run the statement as the product does, by a generic plan; the nodes of that plan with what they did."""
    keys, facts = list(folded.facts), list(folded.facts.values())
    nothing = [None] * len(keys)
    values = {
        "app_id": stage.app_id, "channel_number": [key.channel_number for key in keys],
        "message_id": [key.message_id for key in keys], "campaign_id": nothing, "seq": nothing, "accepted_ms": nothing,
        "delivered_ms": nothing, "read_ms": [fact.read_ms for fact in facts], "failed_ms": nothing,
        "error_code": nothing, "error_title": nothing, "opens": True,
    }  # fmt: skip
    text, names = numbered(SQL["fold_receipts"])
    await stage.connection.execute(f"prepare folding as {text}".encode())
    marks = ", ".join(f"%({name})s" for name in names)
    async with psycopg.AsyncClientCursor(stage.connection) as cursor:
        await cursor.execute(
            f"explain (analyze, timing off, format json) execute folding ({marks})".encode(), values
        )
        return nodes((await cursor.fetchall())[0][0][0]["Plan"])
