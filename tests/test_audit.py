"""The audit: what drifts is found, field by field, and nothing else is, also while receipts stream in."""

import asyncio
import json
from pathlib import Path

import pytest

from harness import run
from stage import Stage, make_stage, says
from tallycast import audit, db
from tallycast.channels import Channel
from tallycast.events import ButtonClick
from tallycast.links import Click, count

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def channel(stage: Stage) -> Channel:
    return await stage.add_channel()


async def full(stage: Stage, channel: Channel) -> int:
    """A campaign that has something to count in every field."""
    campaign = await stage.sent(channel, "m0", "m1", "m2", "m3", None)
    await stage.apply(
        channel, says("m0", "read"), says("m1", "delivered"), says("m2", "failed"), ButtonClick("Yes", "m0")
    )
    hit = Click(
        stage.app_id, "00000000-0000-0000-0000-00000000000a", "abcd", campaign, 0, 0, "GET", "Mozilla", ""
    )
    bot = Click(
        stage.app_id, "00000000-0000-0000-0000-00000000000b", "abcd", campaign, 0, 0, "HEAD", "Mozilla", ""
    )
    await count(stage.connection, stage.app_id, [hit, bot])
    return campaign


async def test_counts_that_are_right_show_no_drift(stage: Stage, channel: Channel) -> None:
    campaign = await full(stage, channel)
    assert await stage.counts(campaign) == {
        "total": 5, "queued": 1, "pending": 1, "delivered": 2, "read": 1, "failed": 1, "button_replies": 1, "clicks": 1,
    }  # fmt: skip
    assert await stage.drift() == []


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ("total = total + 1, queued = queued + 1", {"totalRecipients": (6, 5), "queued": (2, 1)}),
        ("queued = queued - 1, pending = pending + 1", {"queued": (0, 1), "pending": (2, 1)}),
        ("pending = pending - 1, delivered = delivered + 1", {"pending": (0, 1), "delivered": (3, 2)}),
        ("read = read + 1", {"read": (2, 1)}),
        ("failed = failed - 1, pending = pending + 1", {"pending": (2, 1), "failed": (0, 1)}),
        ("button_replies = button_replies + 3", {"buttonReplies": (4, 1)}),
        ("clicks = clicks - 1", {"clicks": (0, 1)}),
    ],
)
async def test_every_field_that_drifts_is_found_with_both_numbers(
    stage: Stage, channel: Channel, change: str, fields: dict[str, tuple[int, int]]
) -> None:
    campaign = await full(stage, channel)
    await full_elsewhere(stage)
    query = f"update counts set {change} where app_id = %s and campaign_id = %s"
    await stage.connection.execute(query.encode(), [stage.app_id, campaign])
    (drift,) = await stage.drift()
    assert (drift.app_id, drift.id, drift.fields) == (stage.app_id, str(campaign), fields)
    assert drift.size == sum(abs(counted - recounted) for counted, recounted in fields.values())


async def full_elsewhere(stage: Stage) -> None:
    channel = await stage.add_channel()
    await stage.sent(channel, "x1", "x2")


@pytest.mark.parametrize(
    "change",
    [
        "update messages set delivered_at = now() where app_id = %s and message_id = 'm3'",
        "delete from messages where app_id = %s and message_id = 'm3'",
        "delete from replies where app_id = %s",
        "delete from clicks where app_id = %s and set_aside is null",
        "update clicks set set_aside = null where app_id = %s",
    ],
)
async def test_rows_that_changed_without_their_count_are_found(
    stage: Stage, channel: Channel, change: str
) -> None:
    await full(stage, channel)
    await stage.connection.execute(change.encode(), [stage.app_id])
    assert len(await stage.drift()) == 1


async def test_receipts_that_stream_in_during_an_audit_are_no_drift(
    stage: Stage, channel: Channel, database_url: str
) -> None:
    campaigns = [await stage.sent(channel, *(f"{n}.{m}" for m in range(50))) for n in range(4)]
    rounds = {"delivered": 0, "read": 0}

    def is_over() -> bool:
        return min(rounds.values()) >= 3

    async def stream(status: str) -> None:
        async with db.connect(database_url) as connection:
            while not is_over():
                for m in range(50):
                    receipts = [says(f"{n}.{m}", status, -rounds[status]) for n in range(4)]
                    await stage.apply(channel, *receipts, connection=connection)
                    click = ButtonClick(f"{rounds[status]}", f"0.{m}")
                    await stage.apply(channel, click, connection=connection)
                rounds[status] += 1

    async def look() -> int:
        looks = 0
        async with db.connect(database_url) as connection:
            while not is_over():
                assert await Stage(connection, stage.app_id).drift() == []
                looks += 1
        return looks

    _, _, looks = await asyncio.gather(stream("delivered"), stream("read"), look())
    assert looks > 50
    assert [(await stage.counts(one))["read"] for one in campaigns] == [50] * 4


async def test_a_large_app_is_audited_in_portions_of_whole_campaigns(
    stage: Stage, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_PORTION", 5)
    for n, size in enumerate((3, 2, 4, 1, 7, 1)):
        await stage.sent(channel, *(f"{n}.{m}" for m in range(size)))
    found = [(part.campaigns, part.messages) async for part in audit.audit(stage.connection, stage.app_id)]
    assert found == [(2, 5), (2, 5), (1, 7), (1, 1)]
    assert await audit.size(stage.connection, stage.app_id) == 18


async def test_the_command_exits_with_1_on_drift_and_names_the_campaign(
    stage: Stage, channel: Channel, data_dir: Path
) -> None:
    campaign = await full(stage, channel)
    arguments = ["audit", "--app", stage.app_id, "--json", "--data-dir", str(data_dir)]
    assert json.loads(run(*arguments)) == {"campaigns": 1, "messages": 5, "drift": 0}
    await stage.connection.execute(b"update counts set clicks = 9 where app_id = %s", [stage.app_id])
    assert json.loads(run(*arguments, status=1)) == {
        "campaigns": 1, "messages": 5, "drift": 8,
        "drifting": [{"appID": stage.app_id, "id": str(campaign), "fields": {"clicks": [9, 1]}}],
    }  # fmt: skip
