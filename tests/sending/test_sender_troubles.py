"""Sending when things go wrong around it: nobody twice, nobody forgotten, and no channel stands still for one message."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import web
from test_sender import is_in, numbers, send

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
from harness import free_port
from stage import Stage, says, until
from tallycast import calls, channels, db, drafts, handovers, leases, quiet, retries, sendings, trials
from tallycast.drafts import Fallback, SendingChange
from tallycast.handovers import Claim, Desk, Results, Sent
from tallycast.keys import load_cipher
from tallycast.lines import HttpLine
from tallycast.providers.contract import Accepted, Outgoing

pytestmark = pytest.mark.anyio


async def has_ended(rehearsal: Rehearsal) -> bool:
    return (await rehearsal.row())["ended_at"] is not None


@pytest.mark.parametrize("error", [psycopg.errors.UndefinedTable, psycopg.errors.InternalError_, KeyError])
async def test_records_that_the_database_refuses_for_a_while_double_nobody(
    stage: Stage,
    provider: Provider,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=200), 100)
    real = handovers.record
    refusals: list[int] = []

    async def record(*arguments: Any) -> None:
        if len(refusals) < 40:
            refusals.append(1)
            raise error("not now")
        await real(*arguments)

    monkeypatch.setattr(handovers, "record", record)
    monkeypatch.setattr("tallycast.recorder._STUCK_SECONDS", 0.2)
    await send(rehearsal, database_url, tmp_path)
    assert sorted(provider.recipients) == numbers(100)
    assert await rehearsal.counts() == {"total": 100, "pending": 100}


async def test_one_record_that_is_never_taken_leaves_one_unknown_and_all_others_as_they_are(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 20)
    real = handovers.record

    async def record(connection: db.Connection, desk: Desk, results: Results) -> None:
        if any(one.claim.seq == 7 for one in results.sent):
            raise psycopg.errors.DataError("odd")
        await real(connection, desk, results)

    async def all_but_one() -> bool:
        return (await rehearsal.counts()).get("pending") == 19

    monkeypatch.setattr(handovers, "record", record)
    monkeypatch.setattr("tallycast.recorder._SETTLE_SECONDS", 0.2)
    await rehearsal.move("start")
    async with a_worker(database_url, tmp_path):
        await until(all_but_one)
    async with a_worker(database_url, tmp_path):
        await until(rehearsal.sent)
    assert sorted(provider.recipients) == numbers(20)
    assert await handovers.count_unknown(stage.connection, stage.app_id, rehearsal.campaign_id) == 1


async def test_a_test_messages_answer_that_cannot_be_recorded_stops_nothing(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: Any) -> None:
        raise psycopg.errors.UndefinedTable("trials")

    channel = await add_sandbox(stage, tmp_path, provider.url, rate=100)
    rehearsal = await rehearse(stage, channel, 60)
    sending = await sendings.find(stage.connection, stage.app_id, rehearsal.campaign_id)
    monkeypatch.setattr(trials, "answer", answer)
    async with stage.connection.transaction():
        await trials.ask(
            stage.connection, sending, "+85299999999", {}, "somebody", load_cipher(None, tmp_path)
        )
    await send(rehearsal, database_url, tmp_path)
    assert await rehearsal.counts() == {"total": 60, "pending": 60}


async def test_a_text_that_is_corrected_after_a_test_message_is_the_one_that_goes_out(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    busy = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=1), 100)
    rehearsal = await rehearse(stage, channel, 3, "wrong price")
    sending = await sendings.find(stage.connection, stage.app_id, rehearsal.campaign_id)
    keep_busy = await rehearse(stage, channel, 1)

    async def is_tested() -> bool:
        return "wrong price" in str(provider.seen)

    async with a_worker(database_url, tmp_path):
        await busy.move("start")
        async with stage.connection.transaction():
            cipher = load_cipher(None, tmp_path)
            await trials.ask(stage.connection, sending, "+85299999999", {}, "somebody", cipher)
        await keep_busy.move("start")
        await until(is_tested)
        async with stage.connection.transaction():
            change = SendingChange(content="right price")
            await drafts.change(stage.connection, stage.app_id, rehearsal.campaign_id, change)
        await rehearsal.move("start")
        await until(rehearsal.sent)
    texts = [one["text"]["body"] for one in provider.seen if one["to"] in numbers(3)]
    assert texts.count("right price") == 3
    assert "wrong price" not in texts


async def test_a_message_that_cannot_be_prepared_keeps_no_other_one_waiting(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = quiet.next_window

    def next_window(policy: Any, recipient: str, *rest: Any) -> Any:
        if recipient == "+85291000002":
            raise KeyError("zone")
        return real(policy, recipient, *rest)

    monkeypatch.setattr(quiet, "next_window", next_window)
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 5)
    await send(rehearsal, database_url, tmp_path)
    assert await rehearsal.counts() == {"total": 5, "pending": 4, "failed": 1}
    assert (await stage.message(rehearsal.campaign_id, 2))["error_code"] == "unfit"


async def test_a_campaign_that_is_done_ends_while_another_one_goes_on_over_the_channel(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url, rate=50)
    small, large = await rehearse(stage, channel, 5), await rehearse(stage, channel, 400)
    await small.move("start")
    await large.move("start")
    async with a_worker(database_url, tmp_path):
        await until(small.sent)
        assert (await large.row())["stage"] == "sending"
        await large.move("cancel")


async def test_many_that_are_tried_again_do_not_keep_a_new_campaign_waiting(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url, rate=100)
    old, new = await rehearse(stage, channel, 500), await rehearse(stage, channel, 50)
    await old.move("start")
    await new.move("start")
    key = (stage.connection, stage.app_id, f"channel:{channel.channel_number}", "test")
    assert await leases.take(*key)
    desk = Desk(stage.app_id, channel.channel_number, "test#1")
    claims = []
    while more := await handovers.claim_next(stage.connection, desk, 200):
        claims += [claim for claim in more if claim.campaign_id == old.campaign_id]
        back = [
            handovers.PutOff(claim, 0, 0, "again") for claim in more if claim.campaign_id == old.campaign_id
        ]
        await handovers.record(stage.connection, desk, Results(put_off=back))
        if len(claims) == 500:
            break
    await new.set(next_seq=0)
    await stage.connection.execute(
        b"delete from handovers where app_id = %s and campaign_id = %s", [stage.app_id, new.campaign_id]
    )
    await leases.give_back(*key)
    async with a_worker(database_url, tmp_path):
        await until(new.sent)
        assert (await old.row())["stage"] == "sending"
        await until(old.sent)
    assert sorted(provider.recipients) == sorted(numbers(500) + numbers(50))


async def test_a_message_on_its_way_is_not_queued_again(
    stage: Stage, provider: Provider, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 2)
    await rehearsal.move("start")
    key = (stage.connection, stage.app_id, f"channel:{channel.channel_number}", "test")
    assert await leases.take(*key)
    desk = Desk(stage.app_id, channel.channel_number, "test#1")
    first, second = await handovers.claim_next(stage.connection, desk, 2)
    await handovers.record(
        stage.connection, desk, Results(failed=[handovers.Failed(first, "131016", "down")])
    )
    again = (stage.connection, stage.app_id, rehearsal.campaign_id, channel.channel_number)
    assert await retries.queue_again(*again, [0, 1], "again") == 1
    assert await retries.queue_again(*again, [0, 1], "again") == 0
    # The first claim's record is repeated, as after a commit whose answer was lost: the new one is left alone.
    await handovers.record(stage.connection, desk, Results(put_off=[handovers.PutOff(first, 99, 3, "late")]))
    rows = await rehearsal.handovers()
    assert [(row["status"], row["attempts"], row["reason"]) for row in rows] == [
        ("due", 0, "again"),
        ("claimed", 0, ""),
    ]
    assert second.seq == 1


async def test_a_long_sms_of_which_a_part_arrived_is_not_sent_again(stage: Stage, tmp_path: Path) -> None:
    cipher = load_cipher(None, tmp_path)
    new = channels.NewChannel(
        "sms", "smpp", "SHOP", credentials={"host": "smsc.example.com", "systemID": "s"}
    )
    channel = await channels.create(stage.connection, cipher, stage.app_id, new)
    rehearsal = await rehearse(stage, channel, 2)
    await rehearsal.move("start")
    desk = Desk(stage.app_id, channel.channel_number, "w")
    for seq in (0, 1):
        sent = Sent(Claim(rehearsal.campaign_id, seq), (f"{seq}.1", f"{seq}.2"), "text", 2)
        await handovers.record(stage.connection, desk, Results(sent=[sent]))
    await stage.apply(channel, says("0.1", "delivered", 1), says("0.2", "failed", 2, "0x08"))
    await stage.apply(channel, says("1.1", "failed", 3, "0x08"))
    assert (await rehearsal.counts())["failed"] == 2
    async with stage.connection.transaction():
        retried = await retries.retry_failed(
            stage.connection, stage.app_id, rehearsal.campaign_id, "somebody"
        )
    assert retried == 1
    assert [row["seq"] for row in await rehearsal.handovers()] == [1]


async def test_a_deleted_fallback_channel_pauses_the_campaign_and_sends_nothing_more(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    sms = await add_sandbox(stage, tmp_path, provider.url)
    whatsapp = await add_whatsapp(stage, tmp_path, provider.url)
    way = Fallback(sms.channel_id, "Hello by SMS", 1)
    rehearsal = await rehearse(stage, whatsapp, 3, fallback=way)
    await rehearsal.move("start")
    await channels.delete(stage.connection, stage.app_id, sms.channel_id)
    async with a_worker(database_url, tmp_path):
        await until(lambda: is_in(rehearsal, "paused"))
    assert "was deleted" in (await rehearsal.row())["paused_reason"]
    assert [one for one in provider.seen if one["type"] == "text"] == []


async def test_a_cancelled_campaign_ends_although_a_dead_worker_had_claims_on_a_deleted_channel(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    channel = await add_sandbox(stage, tmp_path, provider.url)
    rehearsal = await rehearse(stage, channel, 10)
    await rehearsal.move("start")
    key = (stage.connection, stage.app_id, f"channel:{channel.channel_number}", "dead")
    assert await leases.take(*key)
    assert (
        len(
            await handovers.claim_next(
                stage.connection, Desk(stage.app_id, channel.channel_number, "dead#1"), 4
            )
        )
        == 4
    )
    await channels.delete(stage.connection, stage.app_id, channel.channel_id)
    await rehearsal.move("cancel")
    async with a_worker(database_url, tmp_path):
        await until(lambda: has_ended(rehearsal))
    assert await rehearsal.counts() == {"total": 10, "pending": 4, "failed": 6}
    assert provider.seen == []


async def test_failures_of_a_resumed_campaign_are_counted_anew(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    async def answer(body: dict[str, Any]) -> Any:
        return refused(131008) if len(provider.seen) <= 22 else accepted(body)

    provider.answer = answer
    rehearsal = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url, rate=40), 60)
    await rehearsal.move("start")
    async with a_worker(database_url, tmp_path):
        await until(lambda: is_in(rehearsal, "paused"))
        await rehearsal.move("resume")
        await until(rehearsal.sent)
    assert (await rehearsal.counts())["pending"] >= 30


async def test_an_answer_that_comes_in_pieces_is_read_whole_and_no_cookie_is_kept() -> None:
    cookies: list[str] = []

    async def take(request: web.Request) -> web.StreamResponse:
        cookies.append(request.headers.get("Cookie", ""))
        answer = web.StreamResponse(
            headers={"Content-Type": "application/json", "Set-Cookie": "a=tenant; Path=/"}
        )
        await answer.prepare(request)
        for piece in (b'{"messages": [{"id":', b' "wamid.1"', b"}]}"):
            await answer.write(piece)
            await asyncio.sleep(0.02)
        return answer

    app = web.Application()
    app.router.add_post("/messages", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "localhost", port).start()
    async with calls.make_client(["localhost"]) as client:
        line = HttpLine(client, "sandbox", {"baseURL": f"http://localhost:{port}", "apiKey": "k"})
        for _ in range(2):
            outcome = await line.send(Outgoing("+85291000000", "+85230001234", "tc:1.0", "Hello"))
            assert outcome == Accepted(["wamid.1"])
    await runner.cleanup()
    assert cookies == ["", ""]
