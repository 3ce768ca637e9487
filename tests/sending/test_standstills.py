"""Standstills: who looks at a campaign that does not move is told why, and who looks at one that moves is not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_sender import is_in, numbers

from engine import Provider, Rehearsal, a_worker, accepted, add_sandbox, add_whatsapp, refused, rehearse
from harness import free_port
from stage import Stage, says, until
from tallycast import channels, handovers, leases, sendings, standings, trials
from tallycast.drafts import Fallback
from tallycast.handovers import Desk, PutOff, Results
from tallycast.keys import load_cipher
from tallycast.moments import write_moment
from tallycast.standstills import NO_WORKER, WaitingFor

pytestmark = pytest.mark.anyio


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


async def waits_for(rehearsal: Rehearsal) -> WaitingFor | None:
    """What the campaign's answer says."""
    stage = rehearsal.stage
    found = (await standings.find(stage.connection, stage.app_id, rehearsal.campaign_id)).waiting_for
    return found if isinstance(found, WaitingFor) else None


async def reason(rehearsal: Rehearsal) -> str:
    found = await waits_for(rehearsal)
    return "" if found is None else found.reason


async def begin(rehearsal: Rehearsal, worker: str = "test") -> Desk:
    """Start a campaign, as a worker that looks after its channel, and has done so for a while."""
    await rehearsal.move("start")
    await rehearsal.set(active_at=ago(10))
    desk = Desk(rehearsal.stage.app_id, rehearsal.channel.channel_number, f"{worker}#1")
    name = f"channel:{desk.channel_number}"
    assert await leases.take(rehearsal.stage.connection, desk.app_id, name, worker)
    return desk


async def test_a_campaign_that_no_worker_looks_after_says_so_after_a_moment(
    stage: Stage, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, "http://127.0.0.1:9"), 3)
    assert await waits_for(rehearsal) is None, "a draft"
    await rehearsal.move("start")
    assert await waits_for(rehearsal) is None, "it has just begun"
    await rehearsal.set(active_at=ago(4))
    assert await waits_for(rehearsal) == WaitingFor(NO_WORKER)
    key = (stage.connection, stage.app_id, f"channel:{rehearsal.channel.channel_number}", "test")
    assert await leases.take(*key)
    assert await waits_for(rehearsal) is None
    await stage.connection.execute(b"update leases set until = now() where app_id = %s", [stage.app_id])
    assert await waits_for(rehearsal) == WaitingFor(NO_WORKER)
    await rehearsal.move("pause")
    assert await waits_for(rehearsal) is None, "it has a pausedReason"


async def test_a_campaign_whose_moment_has_come_waits_for_a_worker(stage: Stage, tmp_path: Path) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, "http://127.0.0.1:9"), 3)
    await rehearsal.move("schedule", scheduled_at=ago(-3600))
    assert await waits_for(rehearsal) is None
    await rehearsal.set(scheduled_at=ago(1))
    assert await waits_for(rehearsal) is None
    await rehearsal.set(scheduled_at=ago(4))
    assert await waits_for(rehearsal) == WaitingFor(NO_WORKER)
    name = f"start:{rehearsal.campaign_id}"
    assert await leases.take(stage.connection, stage.app_id, name, "test")
    assert await waits_for(rehearsal) is None, "it starts"


async def test_a_paused_channel_is_named_with_its_reason(stage: Stage, tmp_path: Path) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, "http://127.0.0.1:9"), 3)
    await begin(rehearsal)
    await channels.pause(stage.connection, stage.app_id, rehearsal.channel.channel_number, "wrong key")
    assert await reason(rehearsal) == (
        f"Its channel {rehearsal.channel.channel_id} is paused (wrong key): mend that, then resume the channel, "
        "by POST …/channels/{channelID}/resume or `tallycast channel resume`"
    )


async def test_quiet_hours_say_until_when(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await stage.connection.execute(
        b"update apps set quiet_from = '00:00', quiet_until = '23:59:59' where app_id = %s", [stage.app_id]
    )
    await rehearsal.move("start")
    async with a_worker(database_url, tmp_path):
        await until(lambda: reason(rehearsal))
        found = await waits_for(rehearsal)
    rows = await rehearsal.handovers()
    assert found == WaitingFor(
        f"What is left was put off: {rows[0]['reason']}", write_moment(min(row["due_at"] for row in rows))
    )
    assert rows[0]["reason"].startswith("quiet hours until ")


async def test_a_provider_that_is_not_reached_shows_although_most_is_not_tried_yet(
    stage: Stage, database_url: str, tmp_path: Path
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, nobody, rate=200), 2000)
    await rehearsal.move("start")

    async def says_so() -> bool:
        return "The provider cannot be reached" in await reason(rehearsal)

    async with a_worker(database_url, tmp_path):
        await until(says_so)
        assert (await rehearsal.row())["next_seq"] < 2000
        await rehearsal.move("pause")


async def test_a_few_that_are_tried_again_later_are_no_standstill(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        return refused(131057) if body["to"] in numbers(3, 50) else accepted(body)

    provider.answer = answer
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=50), 150)
    await rehearsal.move("start")
    seen = []

    async def is_nearly_done() -> bool:
        seen.append(await waits_for(rehearsal))
        return len(provider.seen) > 130

    async with a_worker(database_url, tmp_path):
        await until(is_nearly_done)
        assert len([row for row in await rehearsal.handovers() if row["status"] == "due"]) == 3
        assert set(seen) == {None}
        await until(lambda: reason(rehearsal))
        assert (await reason(rehearsal)).startswith("What is left was put off: ")
        await rehearsal.move("cancel")


async def test_what_is_tried_again_now_is_no_standstill(stage: Stage, tmp_path: Path) -> None:
    """Of all that was taken up last, so that nothing is left but what was put off."""
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, "http://127.0.0.1:9"), 30)
    desk = await begin(rehearsal)
    claims = await handovers.claim_next(stage.connection, desk, 30)
    assert await waits_for(rehearsal) is None, "all are on their way"
    sent = [handovers.Sent(claim, [f"id-{claim.seq}"], None, 1) for claim in claims[10:]]
    late = [PutOff(claim, 60, 0, "slow down") for claim in claims[:9]]
    now = [PutOff(claims[9], 0, 0, "slow down")]
    await handovers.record(stage.connection, desk, Results(sent=sent, put_off=late))
    assert await waits_for(rehearsal) is None, "one is on its way"
    await handovers.record(stage.connection, desk, Results(put_off=now))
    assert await waits_for(rehearsal) is None, "the time of one has come"
    await stage.connection.execute(
        b"update handovers set due_at = now() + interval '50 seconds' where app_id = %s and due_at <= now()",
        [stage.app_id],
    )
    first = (await rehearsal.handovers())[9]["due_at"]
    assert await waits_for(rehearsal) == WaitingFor(
        "What is left was put off: slow down", write_moment(first)
    )


async def test_where_most_is_on_its_way_a_few_that_were_put_off_are_no_standstill(
    stage: Stage, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, "http://127.0.0.1:9"), 30)
    desk = await begin(rehearsal)
    claims = await handovers.claim_next(stage.connection, desk, 25)
    for first, last, found in ((0, 10, ""), (10, 20, "What is left was put off: slow down")):
        late = [PutOff(claim, 60, 0, "slow down") for claim in claims[first:last]]
        await handovers.record(stage.connection, desk, Results(put_off=late))
        assert await reason(rehearsal) == found


async def test_a_fallback_says_what_it_waits_for(stage: Stage, provider: Provider, tmp_path: Path) -> None:
    sms = await add_sandbox(stage, tmp_path, provider.url)
    whatsapp = await add_whatsapp(stage, tmp_path, provider.url)
    way = Fallback(sms.channel_id, "Hello by SMS", 3600)
    rehearsal = await rehearse(stage, whatsapp, 2, fallback=way)
    desk = await begin(rehearsal)
    claims = await handovers.claim_next(stage.connection, desk, 2)
    sent = [handovers.Sent(claim, [f"id-{claim.seq}"], None, 1) for claim in claims]
    await handovers.record(stage.connection, desk, Results(sent=sent))
    assert await reason(rehearsal) == (
        "All messages are handed over. What is not delivered falls back to SMS, 3600 s after it was handed over"
    )
    await stage.apply(whatsapp, says("id-0", "failed", 1, "131026"))
    await stage.connection.execute(
        b"insert into handovers (app_id, campaign_id, seq, channel_number, status, reason) "
        b"values (%s, %s, 0, %s, 'due', 'fallback')",
        [stage.app_id, rehearsal.campaign_id, sms.channel_number],
    )
    await rehearsal.set(active_at=ago(10))
    assert await waits_for(rehearsal) == WaitingFor(NO_WORKER), "none looks after the channel of the SMS"
    name = f"channel:{sms.channel_number}"
    assert await leases.take(stage.connection, stage.app_id, name, "test")
    assert await waits_for(rehearsal) is None
    await channels.pause(stage.connection, stage.app_id, sms.channel_number, "no credit")
    assert (await reason(rehearsal)).startswith(
        f"Its fallback's channel {sms.channel_id} is paused (no credit)"
    )


async def test_a_test_message_that_no_worker_took_in_ten_minutes_is_never_sent(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    sending = await sendings.find(stage.connection, stage.app_id, rehearsal.campaign_id)
    cipher = load_cipher(None, tmp_path)

    async def ask(recipient: str, seconds: float) -> str:
        async with stage.connection.transaction():
            trial_id = await trials.ask(stage.connection, sending, recipient, {}, "somebody", cipher)
        await stage.connection.execute(
            b"update trials set asked_at = %s where app_id = %s and trial_id = %s",
            [ago(seconds), stage.app_id, trial_id],
        )
        return trial_id

    async def find(trial_id: str) -> trials.Outcome:
        return await trials.find(stage.connection, stage.app_id, rehearsal.campaign_id, trial_id)

    async def is_asleep() -> object:
        query = b"select 1 from apps where app_id = %s and woken_at is null"
        return await (await stage.connection.execute(query, [stage.app_id])).fetchone()

    old, late, fresh = (
        await ask("+85291000077", 3600),
        await ask("+85291000078", 606),
        await ask("+85291000079", 590),
    )
    assert [(await find(one)).outcome for one in (old, late, fresh)] == ["refused", "refused", "waiting"]
    async with a_worker(database_url, tmp_path):
        await until(is_asleep)
    assert provider.recipients == ["85291000079"]
    assert (await find(fresh)).outcome == "accepted"
    assert (await find(old)).reason == (
        "No worker took it within ten minutes, so it is not sent any more. Start one, and test again"
    )
    assert await is_in(rehearsal, "draft")
