"""Parts and earlier attempts: ids beside a message's own, and what receipts for them say about it."""

import asyncio
import itertools
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage import Stage, at, make_stage, says
from tallycast import attempts, db, handovers, receipts, retries, trials
from tallycast.attempts import Part
from tallycast.channels import Channel
from tallycast.events import ButtonClick, Receipt
from tallycast.handovers import Claim, Desk, Results, Sent
from tallycast.trials import Trial

pytestmark = pytest.mark.anyio
PARTS = ("p1", "p2", "p3")


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


async def sent_in_parts(stage: Stage, *ids: str) -> tuple[Channel, int]:
    """An SMS that was sent in parts, one provider id each."""
    channel = await stage.add_channel("sms")
    campaign_id = await stage.sent(channel, None)
    desk = Desk(stage.app_id, channel.channel_number, "w")
    await handovers.record(
        stage.connection, desk, Results(sent=[Sent(Claim(campaign_id, 0, 0), ids, "text", len(ids))])
    )
    return channel, campaign_id


async def test_a_message_in_parts_is_pending_until_all_parts_are_delivered(stage: Stage) -> None:
    channel, campaign_id = await sent_in_parts(stage, *PARTS)
    assert await stage.counts(campaign_id) == {"total": 1, "pending": 1}
    await stage.apply(channel, says("p2", "delivered", 20))
    await stage.apply(channel, says("p1", "delivered", 10))
    assert await stage.counts(campaign_id) == {"total": 1, "pending": 1}
    await stage.apply(channel, says("p3", "delivered", 5))
    assert await stage.counts(campaign_id) == {"total": 1, "delivered": 1}
    assert (await stage.message(campaign_id))["delivered_at"] == at(20)
    assert await stage.parked() == []


async def test_one_part_that_fails_fails_the_message(stage: Stage) -> None:
    channel, campaign_id = await sent_in_parts(stage, *PARTS)
    await stage.apply(
        channel, says("p1", "delivered", 10), says("p2", "failed", 20, "1", error_title="EXPIRED")
    )
    await stage.apply(channel, says("p3", "delivered", 30))
    assert await stage.counts(campaign_id) == {"total": 1, "failed": 1}
    message = await stage.message(campaign_id)
    assert (message["failed_at"], message["error_code"], message["error_title"]) == (at(20), "1", "EXPIRED")


async def test_receipts_of_parts_that_overtook_the_answer_are_matched_when_it_is_recorded(
    stage: Stage,
) -> None:
    channel = await stage.add_channel("sms")
    campaign_id = await stage.sent(channel, None)
    await stage.apply(channel, says("p1", "delivered", 10), says("p2", "delivered", 11))
    assert await stage.parked() == ["p1", "p2"]
    desk = Desk(stage.app_id, channel.channel_number, "w")
    sent = Sent(Claim(campaign_id, 0, 0), ("p1", "p2"), "text", 2)
    await handovers.record(stage.connection, desk, Results(sent=[sent]))
    assert await stage.counts(campaign_id) == {"total": 1, "delivered": 1}
    assert await stage.parked() == []


RECEIPTS = [
    says("p1", "delivered", 10), says("p2", "delivered", 20), says("p3", "delivered", 30),
    says("p2", "failed", 5, "8"), says("p1", "failed", 40, "9"),
]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations([*RECEIPTS, *RECEIPTS[:3]]), cuts=st.lists(st.integers(1, 7), max_size=3))
async def test_the_order_and_repetition_of_receipts_of_parts_do_not_matter(
    stage: Stage, order: list[Receipt], cuts: list[int]
) -> None:
    channel, campaign_id = await sent_in_parts(stage, *PARTS)
    for first, last in itertools.pairwise(sorted({0, len(order), *cuts})):
        await stage.apply(channel, *order[first:last])
    message = await stage.message(campaign_id)
    del message["accepted_at"]
    assert message == {"delivered_at": at(30), "failed_at": at(5), "error_code": "8"}
    assert await stage.counts(campaign_id) == {"total": 1, "delivered": 1}


async def retried(stage: Stage) -> tuple[Channel, int]:
    """A message whose first attempt `first` failed, and whose second is `second`."""
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "first")
    await stage.apply(channel, says("first", "failed", 10, "131016"))
    key = (stage.connection, stage.app_id, campaign_id, channel.channel_number)
    assert await retries.queue_again(*key, [0], "again") == 1
    assert await stage.counts(campaign_id) == {"total": 1, "queued": 1}
    desk = Desk(stage.app_id, channel.channel_number, "w")
    sent = Sent(Claim(campaign_id, 0, 0), ("second",), None, 1)
    await handovers.record(stage.connection, desk, Results(sent=[sent]))
    return channel, campaign_id


@pytest.mark.parametrize("reference", [False, True])
async def test_a_repeated_failure_of_an_earlier_attempt_does_not_fail_the_message_again(
    stage: Stage, reference: bool
) -> None:
    channel, campaign_id = await retried(stage)
    fields: dict[str, Any] = {"reference": f"tc:{campaign_id}.0"} if reference else {}
    await stage.apply(channel, says("first", "failed", 10, "131016", **fields))
    assert await stage.counts(campaign_id) == {"total": 1, "pending": 1}
    await stage.apply(channel, says("second", "failed", 90, "131026", **fields))
    assert await stage.counts(campaign_id) == {"total": 1, "failed": 1}
    assert await stage.parked() == []


async def test_an_earlier_attempt_that_arrives_after_all_counts(stage: Stage) -> None:
    channel, campaign_id = await retried(stage)
    await stage.apply(channel, says("first", "read", 50))
    assert await stage.counts(campaign_id) == {"total": 1, "delivered": 1, "read": 1}


async def test_a_button_of_an_earlier_attempt_is_a_reply(stage: Stage) -> None:
    channel, campaign_id = await retried(stage)
    await stage.apply(channel, ButtonClick("yes", "first", None, 1_700_000_000_000))
    assert (await stage.counts(campaign_id))["button_replies"] == 1


async def test_parts_of_an_earlier_attempt_say_nothing_any_more(stage: Stage) -> None:
    channel, campaign_id = await sent_in_parts(stage, "p1", "p2")
    await stage.apply(channel, says("p1", "failed", 10, "8"))
    key = (stage.connection, stage.app_id, campaign_id, channel.channel_number)
    assert await retries.queue_again(*key, [0], "again") == 1
    await stage.apply(channel, says("p2", "delivered", 20), says("p1", "failed", 10, "8"))
    assert await stage.counts(campaign_id) == {"total": 1, "queued": 1}
    assert await stage.drift() == []


async def test_receipts_and_clicks_of_every_part_of_a_test_message_are_taken_and_count_nowhere(
    stage: Stage,
) -> None:
    channel = await stage.add_channel("sms")
    campaign_id = await stage.sent(channel, "m-0")
    await stage.apply(channel, says("p2", "delivered", 5))
    desk = Desk(stage.app_id, channel.channel_number, "w")
    trial = Trial(str(uuid.uuid4()), campaign_id, "+85299999999", None, [])
    await trials.answer(stage.connection, desk, trial, "accepted", PARTS, "")
    assert await receipts.match_leftovers(stage.connection, stage.app_id) == 1
    await stage.apply(channel, says("p1", "delivered", 10), says("p3", "failed", 20, "8"))
    await stage.apply(channel, ButtonClick("yes", "p1", None, 1_700_000_000_000))
    assert await stage.parked() == []
    assert await stage.counts(campaign_id) == {"total": 1, "pending": 1}
    assert await stage.drift() == []


async def test_two_parts_that_arrive_at_once_see_each_other(stage: Stage, database_url: str) -> None:
    channel, campaign_id = await sent_in_parts(stage, "p1", "p2")
    for n in range(20):
        ids = [f"{n}.{part}" for part in (1, 2)]
        parts = [Part(one, campaign_id, 0, 3 + 2 * n + k) for k, one in enumerate(ids)]
        await attempts.add(stage.connection, stage.app_id, channel.channel_number, parts)
    async with db.connect(database_url) as other:
        await run_both(
            [stage.apply(channel, says(f"{n}.1", "delivered", n)) for n in range(20)],
            [stage.apply(channel, says(f"{n}.2", "delivered", n), connection=other) for n in range(20)],
        )
    assert await stage.counts(campaign_id) == {"total": 1, "pending": 1}
    await stage.apply(channel, says("p1", "delivered", 1), says("p2", "delivered", 99))
    assert await stage.counts(campaign_id) == {"total": 1, "delivered": 1}


async def run_both(left: list[Any], right: list[Any]) -> None:
    async def one_by_one(calls: list[Any]) -> None:
        for call in calls:
            await call

    await asyncio.gather(one_by_one(left), one_by_one(right))
