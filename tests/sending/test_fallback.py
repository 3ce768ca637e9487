"""Fallback: one recipient, one row, two ways; what is not delivered by WhatsApp in time goes out as an SMS."""

from pathlib import Path
from typing import Any

import pytest

from engine import (
    Provider,
    Rehearsal,
    a_worker,
    accepted,
    add_sandbox,
    add_whatsapp,
    refused,
    rehearse,
)
from stage import Stage, says, until
from tallycast import fallback, reports
from tallycast.channels import Channel
from tallycast.drafts import Fallback

pytestmark = pytest.mark.anyio


async def prepare(stage: Stage, provider: Provider, data_dir: Path, size: int) -> tuple[Rehearsal, Channel]:
    """A WhatsApp campaign that falls back to SMS after a second."""
    sms = await add_sandbox(stage, data_dir, provider.url)
    whatsapp = await add_whatsapp(stage, data_dir, provider.url)
    way = Fallback(sms.channel_id, "Hello by SMS", 1)
    rehearsal = await rehearse(stage, whatsapp, size, fallback=way)
    await rehearsal.move("start")
    return rehearsal, sms


def kinds(provider: Provider) -> list[tuple[str, str]]:
    return sorted((one["to"], one["type"]) for one in provider.seen)


async def test_who_is_not_delivered_in_time_gets_an_sms_and_stays_one_row(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal, sms = await prepare(stage, provider, tmp_path, 3)
    first = f"wamid.85291000000.tc:{rehearsal.campaign_id}.0"

    async def has_begun() -> bool:
        return len(provider.seen) >= 3

    async with a_worker(database_url, tmp_path):
        await until(has_begun)
        await stage.apply(rehearsal.channel, says(first, "delivered", None))
        await until(rehearsal.sent)
    assert kinds(provider) == [
        ("85291000000", "template"), ("85291000001", "template"), ("85291000001", "text"),
        ("85291000002", "template"), ("85291000002", "text"),
    ]  # fmt: skip
    assert await rehearsal.counts() == {"total": 3, "pending": 2, "delivered": 1}
    await stage.apply(
        sms, says((await stage.message(rehearsal.campaign_id, 1))["message_id"], "delivered", None)
    )
    late = f"wamid.85291000002.tc:{rehearsal.campaign_id}.2"
    await stage.apply(rehearsal.channel, says(late, "read", None))
    assert await rehearsal.counts() == {"total": 3, "delivered": 3, "read": 1}
    split = await fallback.split(stage.connection, stage.app_id, rehearsal.campaign_id)
    assert split == fallback.Split(total=2, delivered=1, delivered_late=1, failed=0, pending=0, queued=0)
    (row,) = (await reports.summarize(stage.connection, stage.app_id, 10, 0)).rows
    assert (row.total_recipients, row.delivered, row.pending, row.failed) == (3, 3, 0, 0)
    assert await stage.drift() == []


async def test_who_cannot_be_reached_by_whatsapp_gets_an_sms_and_who_wants_none_gets_none(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        codes = {"85291000000": 131026, "85291000001": 131050}
        return (
            refused(codes[body["to"]])
            if body["to"] in codes and body["type"] == "template"
            else accepted(body)
        )

    provider.answer = answer
    rehearsal, _ = await prepare(stage, provider, tmp_path, 2)
    async with a_worker(database_url, tmp_path):
        await until(rehearsal.sent)
    assert kinds(provider) == [
        ("85291000000", "template"), ("85291000000", "text"), ("85291000001", "template"),
    ]  # fmt: skip
    assert await rehearsal.counts() == {"total": 2, "pending": 1, "failed": 1}
    split = await fallback.split(stage.connection, stage.app_id, rehearsal.campaign_id)
    assert split == fallback.Split(total=1, delivered=0, delivered_late=0, failed=0, pending=1, queued=0)


async def test_a_repeated_whatsapp_failure_does_not_fail_who_got_the_sms(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal, sms = await prepare(stage, provider, tmp_path, 1)
    first = f"wamid.85291000000.tc:{rehearsal.campaign_id}.0"
    failure = says(first, "failed", None, "131026", reference=f"tc:{rehearsal.campaign_id}.0")

    async def has_begun() -> bool:
        return len(provider.seen) >= 1

    async with a_worker(database_url, tmp_path):
        await until(has_begun)
        await stage.apply(rehearsal.channel, failure)
        await until(rehearsal.sent)
    await stage.apply(rehearsal.channel, failure)
    assert await rehearsal.counts() == {"total": 1, "pending": 1}
    await stage.apply(
        sms, says((await stage.message(rehearsal.campaign_id))["message_id"], "failed", None, "1")
    )
    assert await rehearsal.counts() == {"total": 1, "failed": 1}
    assert await stage.parked() == []
