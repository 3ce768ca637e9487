"""The simulated SMSC, with a real client."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
import smpp34

from harness import free_port
from outside import AT_ONCE, Outside, change, outside
from tallycast.simulator.profiles import Profile
from tallycast.simulator.smsc import Part, read_part

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def bound(profile: Profile = AT_ONCE, **plan: Any) -> AsyncIterator[tuple[Outside, smpp34.Smsc]]:
    port = free_port()
    async with outside(profile, smpp_port=port, **plan) as ours:
        client = smpp34.Client("127.0.0.1", port, "esme1", "any", bind_type="TRX", window_size=20)
        session = await client.connect()
        yield ours, session
        await session.unbind()
        await client.stop()


async def listen(session: smpp34.Smsc, amount: int) -> list[smpp34.DeliverSmEvent]:
    found = [await asyncio.wait_for(session.next(), 10) for _ in range(amount)]
    assert all(isinstance(one, smpp34.DeliverSmEvent) for one in found)
    return found  # type: ignore[return-value]


def submit(session: smpp34.Smsc, text: bytes = b"Hi", **fields: Any) -> Awaitable[smpp34.SubmitSmResp]:
    fields = {"source_addr": "15550100000", "registered_delivery": 1, **fields}
    return session.submit_sm("85290000001", text, **fields)


async def test_the_smsc_takes_a_message_in_parts_and_sends_a_receipt_for_each() -> None:
    async with bound() as (ours, session):
        first = await submit(session, b"\x05\x00\x03\x09\x02\x01Hello ", esm_class=0x40)
        assert (await ours.ledger())[0]["became"] == "incomplete"
        second = await submit(session, b"\x05\x00\x03\x09\x02\x02world", esm_class=0x40)
        receipts = await listen(session, 2)
        await ours.settle()
        [line] = await ours.ledger()
        assert line["messageIDs"] == [first.message_id, second.message_id]
        assert (line["text"], line["recipient"], line["told"]) == (
            "Hello world",
            "+85290000001",
            ["delivered"],
        )
        assert {receipt.tlvs[0].value.rstrip(b"\0").decode() for receipt in receipts} == set(
            line["messageIDs"]
        )
        assert {(one.esm_class, one.source_addr, one.destination_addr) for one in receipts} == {
            (4, "85290000001", "15550100000")
        }


async def test_the_file_gets_a_message_in_parts_when_all_are_there_or_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "ledger.ndjson"
    async with bound(ledger=file) as (_, session):
        await submit(session, b"\x05\x00\x03\x09\x02\x01Hello ", esm_class=0x40)
        await submit(session, b"\x05\x00\x03\x0a\x02\x01alone", esm_class=0x40)
        await submit(session, b"\x05\x00\x03\x09\x02\x02world", esm_class=0x40)
        await submit(session, b"Hi")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["text"], line["became"]) for line in lines] == [
        ("Hello world", "delivered"), ("Hi", "delivered"), ("alone", "incomplete"),
    ]  # fmt: skip


async def test_a_message_that_cannot_be_read_is_refused_and_the_next_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bound() as (ours, session):
        refused = await asyncio.wait_for(submit(session, b"\x00", esm_class=0x40), 10)
        assert not refused.is_success
        assert (await asyncio.wait_for(submit(session), 10)).is_success
        assert [line["text"] for line in await ours.ledger()] == ["Hi"]
    assert "the SMSC could not take what came" in caplog.text


@pytest.mark.parametrize("form", ["both", "text", "tlvs"])
async def test_a_receipt_is_text_or_options_or_both(form: Any) -> None:
    async with bound(change(receipt_forms=(form,), failed=1.0, sms_failures=(30003,))) as (_, session):
        answer = await submit(session)
        [receipt] = await listen(session, 1)
        text = receipt.short_message.decode()
        assert (f"id:{answer.message_id} " in text and "stat:EXPIRED err:003" in text) == (form != "tlvs")
        tags = {tlv.tag: tlv.value for tlv in receipt.tlvs}
        assert tags == (
            {}
            if form == "text"
            else {0x1E: f"{answer.message_id}\0".encode(), 0x427: b"\x03", 0x423: b"\x03\0\x03"}
        )


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"throttled": 1.0}, 0x58), ({"limited": 1.0}, 0x14), ({"broken": 1.0}, 0x08),
        ({"expires_after": 1, "invalid_keys": ("esme1",)}, 0x0E),
    ],
)  # fmt: skip
async def test_the_smsc_refuses_by_command_status(fields: dict[str, Any], status: int) -> None:
    async with bound(change(**fields)) as (ours, session):
        answer = await submit(session)
        assert (answer.command_status, [line["code"] for line in await ours.ledger()]) == (
            status,
            [f"0x{status:02X}"],
        )


async def test_people_answer_stop_to_a_number_and_cannot_to_a_name() -> None:
    async with bound(change(stop_texts=1.0)) as (ours, session):
        await submit(session, source_addr="ACME", registered_delivery=0)
        await submit(session, registered_delivery=0)
        [reply] = await listen(session, 1)
        assert (reply.short_message, reply.source_addr, reply.esm_class) == (b"STOP", "85290000001", 0)
        await ours.settle()
        assert [line["replies"] for line in await ours.ledger()] == [[], ["stopText"]]


async def test_the_smsc_can_take_a_message_and_stay_silent() -> None:
    async with bound(change(hung=1.0)) as (ours, session):
        waiting = asyncio.ensure_future(submit(session))
        await listen(session, 1)
        assert not waiting.done()
        assert [(line["answer"], line["became"]) for line in await ours.ledger()] == [("hung", "delivered")]
        waiting.cancel()


async def test_receipts_wait_for_a_session_that_hears_them() -> None:
    profile = change(delivered_seconds=(0.2, 0.2), webhook_backoff_seconds=(0.02, 0.05))
    port = free_port()
    async with outside(profile, smpp_port=port) as ours:
        for turn in range(2):
            client = smpp34.Client("127.0.0.1", port, "esme1", "any", bind_type="TRX")
            session = await client.connect()
            if turn == 0:
                answer = await submit(session)
                await session.unbind()
                await client.stop()
        [receipt] = await listen(session, 1)
        assert f"id:{answer.message_id} ".encode() in receipt.short_message
        await ours.settle()
        await session.unbind()
        await client.stop()


@pytest.mark.parametrize(
    ("octets", "esm_class", "data_coding", "tlvs", "part"),
    [
        (b"caf\x05 \x1b\x65", 0, 0, [], Part("café €")),
        ("日本".encode("utf-16-be"), 0, 8, [], Part("日本")),
        (b"caf\xe9", 0, 3, [], Part("café")),
        (b"\x06\x08\x04\x01\x02\x03\x02x", 0x40, 0, [], Part("x", 0x102, 3, 2)),
        (b"y", 0, 0, [(0x20C, b"\x00\x07"), (0x20E, b"\x02"), (0x20F, b"\x01")], Part("y", 7, 2, 1)),
        (b"", 0, 0, [(0x424, b"long")], Part("long")),
    ],
)
async def test_a_part_is_read_in_each_of_its_forms(
    octets: bytes, esm_class: int, data_coding: int, tlvs: list[tuple[int, bytes]], part: Part
) -> None:
    assert read_part(octets, esm_class, data_coding, [smpp34.Tlv(*one) for one in tlvs]) == part
