"""Sending: at the channel's pace, nobody twice, and what goes wrong is put off, failed, paused or unknown."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import CUT, Provider, Rehearsal, a_worker, accepted, add_sandbox, refused, rehearse
from stage import Stage, make_stage, says, until
from tallycast import channels, db, handovers, leases, migrations, reports, retries, sendings, trials
from tallycast.errors import Unprocessable
from tallycast.keys import load_cipher
from test_sql import new_database

pytestmark = pytest.mark.anyio


def numbers(count: int, first: int = 0) -> list[str]:
    return [f"852{91000000 + first + n}" for n in range(count)]


async def is_in(rehearsal: Rehearsal, *stages: str) -> bool:
    return (await rehearsal.row())["stage"] in stages


async def send(rehearsal: Rehearsal, database_url: str, data_dir: Path, *stages: str) -> dict[str, Any]:
    """Start a campaign and wait until it is in one of the stages (sent, if none is named); its row."""
    await rehearsal.move("start")
    async with a_worker(database_url, data_dir):
        await until(lambda: is_in(rehearsal, *(stages or ("sent",))))
    return await rehearsal.row()


async def test_a_campaign_reaches_every_recipient_once_and_ends(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 500)
    row = await send(rehearsal, database_url, tmp_path)
    assert sorted(provider.recipients) == numbers(500)
    assert await rehearsal.counts() == {"total": 500, "pending": 500}
    assert row["ended_at"] is not None
    assert await rehearsal.handovers() == []
    assert await stage.drift() == []
    assert await stage.message(rehearsal.campaign_id, 7) == {
        "message_id": f"wamid.85291000007.tc:{rehearsal.campaign_id}.7",
        "accepted_at": (await stage.message(rehearsal.campaign_id, 7))["accepted_at"],
    }


@pytest.mark.parametrize(
    ("code", "title"),
    [(131026, "no"), (132005, "no"), (131008, "no")],
)
async def test_a_refusal_of_one_message_fails_that_message_and_the_others_go_on(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path, code: int, title: str
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        return refused(code) if body["to"] == numbers(1)[0] else accepted(body)

    provider.answer = answer
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 5)
    await send(rehearsal, database_url, tmp_path)
    assert await rehearsal.counts() == {"total": 5, "pending": 4, "failed": 1}
    message = await stage.message(rehearsal.campaign_id, 0)
    assert (message["error_code"], message["error_title"]) == (str(code), title)
    assert len(provider.seen) == 5


async def test_who_does_not_want_messages_is_remembered_and_passed_over_next_time(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        return refused(131050) if body["to"] == numbers(1)[0] else accepted(body)

    provider.answer = answer
    channel = await add_sandbox(stage, tmp_path, provider.url)
    await send(await rehearse(stage, channel, 3), database_url, tmp_path)
    again = await rehearse(stage, channel, 3)
    await send(again, database_url, tmp_path)
    assert await again.counts() == {"total": 3, "pending": 2, "failed": 1}
    assert (await stage.message(again.campaign_id, 0))["error_code"] == "optedOut"
    assert provider.recipients.count(numbers(1)[0]) == 1


async def test_a_passing_failure_is_tried_again(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        first = provider.recipients.count(body["to"]) == 1
        return refused(130429) if first else accepted(body)

    provider.answer = answer
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await send(rehearsal, database_url, tmp_path)
    assert await rehearsal.counts() == {"total": 3, "pending": 3}
    assert sorted(provider.recipients) == sorted(numbers(3) * 2)


async def test_an_expired_key_pauses_with_words_that_a_person_understands_and_resuming_sends_exactly_the_rest(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        return refused(190, 401) if len(provider.seen) > 40 else accepted(body)

    provider.answer = answer
    channel = await add_sandbox(stage, tmp_path, provider.url, rate=200)
    rehearsal = await rehearse(stage, channel, 120)
    row = await send(rehearsal, database_url, tmp_path, "paused")
    assert "190" in row["paused_reason"]
    assert "key" in row["paused_reason"] or "token" in row["paused_reason"]
    counts = await rehearsal.counts()
    assert (counts["pending"], counts["queued"]) == (40, 80)
    assert {one["status"] for one in await rehearsal.handovers()} <= {"due"}
    reached = provider.recipients[:40]
    provider.answer = None
    provider.seen.clear()
    await channels.resume(stage.connection, stage.app_id, channel.channel_id)
    await rehearsal.move("resume")
    async with a_worker(database_url, tmp_path):
        await until(lambda: is_in(rehearsal, "sent"))
    assert sorted([*reached, *provider.recipients]) == numbers(120)
    assert await stage.drift() == []


def lose(*lost: str) -> Any:
    """Answers of which those to some recipients never arrive."""

    async def answer(body: dict[str, Any]) -> Any:
        return (CUT, {}) if body["to"] in lost else accepted(body)

    return answer


async def test_an_answer_that_never_comes_leaves_an_unknown_outcome_that_is_not_sent_again(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    provider.answer = lose(numbers(1)[0])
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await send(rehearsal, database_url, tmp_path)
    assert await rehearsal.counts() == {"total": 3, "pending": 3}
    (unknown,) = await handovers.list_unknown(stage.connection, stage.app_id, rehearsal.campaign_id, 10, 0)
    assert unknown.recipient == "+85291000000"
    assert unknown.reason.startswith("no answer: ServerDisconnectedError")
    assert sorted(provider.recipients) == numbers(3)


async def test_a_receipt_settles_an_unknown_outcome(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    provider.answer = lose(*numbers(2))
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 2)
    await send(rehearsal, database_url, tmp_path)
    reference = f"tc:{rehearsal.campaign_id}.0"
    await stage.apply(channel, says("wamid.late", "delivered", None, reference=reference))
    assert await handovers.count_unknown(stage.connection, stage.app_id, rehearsal.campaign_id) == 1
    assert await rehearsal.counts() == {"total": 2, "pending": 1, "delivered": 1}


@pytest.mark.parametrize(
    ("verdict", "counts", "calls"),
    [
        ("sent", {"total": 2, "pending": 2}, 2),
        ("notSent", {"total": 2, "pending": 1, "failed": 1}, 2),
        ("resend", {"total": 2, "pending": 2}, 3),
    ],
)
async def test_a_person_settles_an_unknown_outcome(
    stage: Stage,
    provider: Provider,
    database_url: str,
    tmp_path: Path,
    verdict: retries.Verdict,
    counts: dict[str, int],
    calls: int,
) -> None:
    provider.answer = lose(numbers(1)[0])
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 2)
    await send(rehearsal, database_url, tmp_path)
    provider.answer = None
    key = (stage.connection, stage.app_id, rehearsal.campaign_id)
    async with stage.connection.transaction():
        assert await retries.settle(*key, verdict, ["+85291000000"], "somebody") == 1
    assert await handovers.count_unknown(*key) == 0
    async with a_worker(database_url, tmp_path):
        await until(rehearsal.sent)
    assert await rehearsal.counts() == counts
    assert len(provider.seen) == calls
    assert await stage.drift() == []


async def test_what_a_worker_had_claimed_when_it_was_killed_is_unknown_and_the_rest_goes_out(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 10)
    await rehearsal.move("start")
    dead = handovers.Desk(stage.app_id, channel.channel_number, "dead#1")
    assert await handovers.claim_next(stage.connection, dead, 4) == []  # who has no lease claims nothing
    lease = (stage.connection, stage.app_id, f"channel:{channel.channel_number}", "dead")
    assert await leases.take(*lease)
    assert len(await handovers.claim_next(stage.connection, dead, 4)) == 4
    await leases.give_back(*lease)
    async with a_worker(database_url, tmp_path):
        await until(rehearsal.sent)
    assert sorted(provider.recipients) == numbers(6, 4)
    assert await rehearsal.counts() == {"total": 10, "pending": 10}
    assert await handovers.count_unknown(stage.connection, stage.app_id, rehearsal.campaign_id) == 4


async def test_pausing_takes_effect_at_once_and_resuming_sends_exactly_the_rest(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=100), 300)
    await rehearsal.move("start")

    async def has_begun() -> bool:
        return len(provider.seen) > 20

    async def is_quiet() -> bool:
        return "claimed" not in [one["status"] for one in await rehearsal.handovers()]

    async with a_worker(database_url, tmp_path):
        await until(has_begun)
        await rehearsal.move("pause")
        paused_at = time.monotonic()
        await until(is_quiet)
        assert provider.times[-1] - paused_at < 2
        before = len(provider.seen)
        assert before < 300
        await rehearsal.move("resume")
        await until(rehearsal.sent)
    assert sorted(provider.recipients) == numbers(300)


async def test_a_campaign_that_was_due_long_ago_is_not_sent_late(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    soon = datetime.now(UTC) + timedelta(seconds=30)
    await rehearsal.move("schedule", scheduled_at=soon)
    await rehearsal.set(scheduled_at=datetime.now(UTC) - timedelta(hours=3))
    async with a_worker(database_url, tmp_path):
        await until(lambda: is_in(rehearsal, "paused"))
    assert (await rehearsal.row())["paused_reason"].startswith("It was due at ")
    assert provider.seen == []


async def test_a_campaign_starts_when_its_moment_comes(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    async with a_worker(database_url, tmp_path):
        await rehearsal.move("schedule", scheduled_at=due)
        await until(rehearsal.sent)
    assert (await rehearsal.row())["started_at"] >= due
    assert sorted(provider.recipients) == numbers(3)


async def test_a_campaign_that_stood_still_too_long_waits_for_a_person(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await rehearsal.move("start")
    await rehearsal.set(active_at=datetime.now(UTC) - timedelta(hours=3))
    async with a_worker(database_url, tmp_path):
        await until(lambda: is_in(rehearsal, "paused"))
    assert (await rehearsal.row())["paused_reason"].startswith("Sending stood still since ")
    assert provider.seen == []


async def test_a_restored_database_sends_nothing_by_itself(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await rehearsal.move("start")
    await rehearsal.set(home="another database")
    async with a_worker(database_url, tmp_path):
        await until(lambda: is_in(rehearsal, "paused"))
        assert (await rehearsal.row())["paused_reason"].startswith("The database was restored from a backup")
        assert provider.seen == []
        with pytest.raises(Unprocessable, match="acceptRisk"):
            await rehearsal.move("resume")
        await rehearsal.move("resume", accepts_risk=True)
        await until(rehearsal.sent)
    assert sorted(provider.recipients) == numbers(3)


async def test_a_cancelled_campaign_gives_up_what_it_has_not_sent(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=50), 200)
    await rehearsal.move("start")

    async def has_begun() -> bool:
        return len(provider.seen) > 5

    async def is_over() -> bool:
        return (await rehearsal.row())["ended_at"] is not None

    async with a_worker(database_url, tmp_path):
        await until(has_begun)
        await rehearsal.move("cancel")
        await until(is_over)
    sent = len(provider.seen)
    assert await rehearsal.counts() == {"total": 200, "pending": sent, "failed": 200 - sent}
    assert (await stage.message(rehearsal.campaign_id, 199))["error_code"] == "cancelled"
    assert await stage.drift() == []
    with pytest.raises(Unprocessable, match="the campaign is cancelled"):
        async with stage.connection.transaction():
            await retries.retry_failed(stage.connection, stage.app_id, rehearsal.campaign_id, "somebody")


async def test_a_campaign_that_is_cancelled_before_it_begins_is_in_no_list_of_sent_ones(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await rehearsal.move("cancel")

    async def is_over() -> bool:
        return (await rehearsal.row())["ended_at"] is not None

    async with a_worker(database_url, tmp_path):
        await until(is_over)
    assert await rehearsal.counts() == {"total": 3, "failed": 3}
    assert (await reports.summarize(stage.connection, stage.app_id, 10, 0)).rows == []


async def test_retrying_reaches_only_those_whose_failure_may_have_passed_and_a_late_delivery_still_counts(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 4)
    await send(rehearsal, database_url, tmp_path)
    ids = [f"wamid.{number}.tc:{rehearsal.campaign_id}.{n}" for n, number in enumerate(numbers(4))]
    await stage.apply(
        channel,
        says(ids[0], "failed", 1, "131016"), says(ids[1], "failed", 1, "131026"), says(ids[2], "delivered", 1),
        says(ids[3], "failed", 1, "131016"),
    )  # fmt: skip
    provider.answer = None
    provider.seen.clear()
    key = (stage.connection, stage.app_id, rehearsal.campaign_id)
    async with stage.connection.transaction():
        assert await retries.retry_failed(*key, "somebody") == 2
    # The first attempt of one arrives after all, before its second one is sent; the other's failure is repeated.
    await stage.apply(channel, says(ids[0], "delivered", 5), says(ids[3], "failed", 1, "131016"))
    async with a_worker(database_url, tmp_path):
        await until(rehearsal.sent)
    assert provider.recipients == [numbers(4)[3]]
    assert await rehearsal.counts() == {"total": 4, "pending": 1, "delivered": 2, "failed": 1}
    assert await stage.parked() == []
    assert await stage.drift() == []


async def test_two_workers_share_channels_and_nobody_gets_it_twice(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    three = [await add_sandbox(stage, tmp_path, provider.url, rate=150) for _ in range(3)]
    rehearsals = [await rehearse(stage, channel, 150) for channel in three for _ in range(2)]
    for rehearsal in rehearsals:
        await rehearsal.move("start")
    async with a_worker(database_url, tmp_path), a_worker(database_url, tmp_path):
        for rehearsal in rehearsals:
            await until(rehearsal.sent)
    assert sorted(provider.recipients) == sorted(numbers(150) * 6)


async def test_sessions_that_the_database_ends_in_the_middle_cost_no_message_and_double_none(
    provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async with new_database(database_url, "cut_off") as url:
        migrations.migrate(url)
        async with db.connect(url) as connection:
            stage = await make_stage(connection)
            channel = await add_sandbox(stage, tmp_path, provider.url, rate=200)
            rehearsal = await rehearse(stage, channel, 400)
            await rehearsal.move("start")

            async def has(count: int) -> bool:
                return len(provider.seen) > count

            async with a_worker(url, tmp_path):
                for count in (50, 150, 250):
                    await until(partial(has, count))
                    await connection.execute(
                        b"select pg_terminate_backend(pid) from pg_stat_activity "
                        b"where datname = current_database() and pid <> pg_backend_pid()"
                    )
                await until(rehearsal.sent)
            assert await rehearsal.counts() == {"total": 400, "pending": 400}
    assert sorted(provider.recipients) == numbers(400)


async def test_many_failures_in_a_row_pause_the_campaign_and_say_why(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(_body: dict[str, Any]) -> Any:
        return refused(131008)

    provider.answer = answer
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=100), 300)
    row = await send(rehearsal, database_url, tmp_path, "paused")
    assert "messages in a row were not accepted" in row["paused_reason"]
    assert len(provider.seen) < 100


async def test_a_campaign_whose_channel_is_deleted_pauses_and_says_so(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url, rate=20)
    rehearsal = await rehearse(stage, channel, 100)
    await rehearsal.move("start")

    async def has_begun() -> bool:
        return len(provider.seen) > 5

    async with a_worker(database_url, tmp_path):
        await until(has_begun)
        await channels.delete(stage.connection, stage.app_id, channel.channel_id)
        await until(lambda: is_in(rehearsal, "paused"))
    assert "was deleted" in (await rehearsal.row())["paused_reason"]
    assert len(provider.seen) < 100


async def test_quiet_hours_put_messages_off(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    await stage.connection.execute(
        b"update apps set quiet_from = '00:00', quiet_until = '23:59:59' where app_id = %s", [stage.app_id]
    )
    await rehearsal.move("start")

    async def is_put_off() -> bool:
        rows = await rehearsal.handovers()
        return [row["status"] for row in rows] == ["due"] * 3

    async with a_worker(database_url, tmp_path):
        await until(is_put_off)
    assert provider.seen == []
    assert (await rehearsal.handovers())[0]["reason"].startswith("quiet hours until ")


async def test_a_test_message_overtakes_a_campaign_and_is_in_no_count(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url, rate=50)
    rehearsal = await rehearse(stage, channel, 150)
    await rehearsal.move("start")
    sending = await sendings.find(stage.connection, stage.app_id, rehearsal.campaign_id)
    cipher = load_cipher(None, tmp_path)

    async def has_begun() -> bool:
        return len(provider.seen) > 5

    async with a_worker(database_url, tmp_path):
        await until(has_begun)
        async with stage.connection.transaction():
            trial_id = await trials.ask(stage.connection, sending, "+85299999999", {}, "somebody", cipher)

        async def is_answered() -> bool:
            key = (stage.connection, stage.app_id, rehearsal.campaign_id, trial_id)
            return (await trials.find(*key)).outcome == "accepted"

        await until(is_answered)
        assert len(provider.seen) < 100
        await until(rehearsal.sent)
    assert await rehearsal.counts() == {"total": 150, "pending": 150}
    assert provider.recipients.count("85299999999") == 1


async def test_a_message_says_afterwards_what_was_sent(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 1, "See https://shop.example.com/sale", track_links=True)
    await send(rehearsal, database_url, tmp_path)
    text = provider.seen[0]["text"]["body"]
    assert text.startswith("See https://l.example.com/r/")
    page = await reports.detail(stage.connection, stage.app_id, str(rehearsal.campaign_id), 10)
    assert page.rows[0].content == text
