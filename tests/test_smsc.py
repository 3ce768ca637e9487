"""A session with an SMSC, which is `smpp34`'s own server on loopback."""

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import smpp34

from harness import free_port
from mobile import LONG, Answer, Desk, Smsc, accept, come, hurry, outgoing, refusal, say_nothing, throttle
from tallycast import smsc
from tallycast.events import Receipt, Status, TextReply
from tallycast.providers.contract import Accepted, Action, Outgoing, Unknown

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[Smsc]:
    found = Smsc(free_port())
    started = smpp34.Server("127.0.0.1", found.port, system_id="SMSC")
    await started.start()
    serving = asyncio.create_task(found.serve(started))
    yield found
    serving.cancel()
    await started.stop()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def session(server: Smsc, desk: Desk) -> AsyncIterator[smsc.Session]:
    opened = await smsc.open_session(server.credentials, desk.store)
    yield opened
    await opened.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_a_message_that_the_smsc_takes_is_accepted_under_its_id(
    server: Smsc, session: smsc.Session
) -> None:
    assert await session.send(outgoing("Grüße €")) == Accepted(["id-1"])
    [submit] = server.submits
    assert (submit.source_addr, submit.source_addr_ton, submit.destination_addr, submit.dest_addr_ton) == (
        "ACME", 5, "85298765432", 1,
    )  # fmt: skip
    assert (submit.short_message, submit.data_coding, submit.registered_delivery) == (
        b"Gr\x7e\x1ee \x1b\x65",
        0,
        1,
    )


async def test_the_parts_of_a_message_arrive_in_order(server: Smsc, session: smsc.Session) -> None:
    assert await session.send(outgoing(LONG)) == Accepted(["id-1", "id-2", "id-3"])
    headers = [submit.short_message[:6] for submit in server.submits]
    number = headers[0][3]
    assert headers == [bytes([5, 0, 3, number, 3, position]) for position in (1, 2, 3)]
    assert b"".join(submit.short_message[6:] for submit in server.submits) == b"a" * 400


async def test_messages_in_parts_are_told_apart(server: Smsc, session: smsc.Session) -> None:
    await asyncio.gather(*(session.send(outgoing(LONG, seq)) for seq in range(8)))
    assert len({submit.short_message[3] for submit in server.submits}) == 8


async def test_no_more_messages_are_on_their_way_than_the_window_holds(server: Smsc, desk: Desk) -> None:
    server.answers = [say_nothing]
    session = await smsc.open_session(server.credentials | {"window": "3"}, desk.store)
    sending = [asyncio.create_task(session.send(outgoing(seq=seq))) for seq in range(9)]
    for answered in range(9):
        await come(lambda: len(server.submits) == min(answered + 3, 9))  # noqa: B023 - asked at once
        accept(server.submits[answered], answered)
    assert {type(await sent) for sent in sending} == {Accepted}
    await session.close()


@pytest.mark.parametrize(
    ("status", "code", "action"),
    [
        pytest.param(0x58, "0x58", Action.SLOW_DOWN, id="throttled"),
        pytest.param(0x14, "0x14", Action.SLOW_DOWN, id="queue full"),
        pytest.param(0x08, "0x08", Action.RETRY, id="system error"),
        pytest.param(0x0B, "0x0B", Action.FAIL, id="recipient"),
    ],
)
async def test_a_refusal_is_certain(
    server: Smsc, session: smsc.Session, status: int, code: str, action: Action
) -> None:
    server.answers = [lambda event, _: event.reject(status)]
    assert refusal(await session.send(outgoing())) == (code, action)
    assert len(server.submits) == 1


async def test_what_cannot_be_written_is_refused_and_not_sent(server: Smsc, session: smsc.Session) -> None:
    assert refusal(await session.send(outgoing(sender="Café"))) == ("sender", Action.PAUSE_CHANNEL)
    assert refusal(await session.send(outgoing(""))) == ("message", Action.FAIL)
    assert refusal(await session.send(Outgoing("+", "ACME", "tc:1.1", "hello"))) == ("message", Action.FAIL)
    assert server.submits == []


async def test_no_answer_is_unknown(server: Smsc, session: smsc.Session, hasty: None) -> None:  # noqa: ARG001
    server.answers = [say_nothing, accept]
    assert await session.send(outgoing()) == Unknown("the SMSC gave no answer within 0 s")
    assert await session.send(outgoing()) == Accepted(["id-2"])


async def test_an_answer_that_comes_late_settles_the_message_by_its_reference(
    server: Smsc, session: smsc.Session, desk: Desk, hasty: None  # noqa: ARG001
) -> None:  # fmt: skip
    server.answers = [say_nothing]
    assert isinstance(await session.send(outgoing(seq=7)), Unknown)
    server.submits[0].accept("late")
    await come(lambda: desk.events)
    assert desk.events == [Receipt("late", Status.ACCEPTED, reference="tc:1.7")]


async def test_a_late_refusal_and_a_late_part_say_nothing(
    server: Smsc, session: smsc.Session, desk: Desk, hasty: None  # noqa: ARG001
) -> None:  # fmt: skip
    server.answers = [say_nothing]
    assert isinstance(await session.send(outgoing()), Unknown)
    assert isinstance(await session.send(outgoing(LONG)), Unknown)
    server.submits[0].reject(0x58)
    server.submits[1].accept("part")
    server.answers = [accept]
    assert await session.send(outgoing()) == Accepted(["id-3"])
    assert desk.events == []


async def test_a_later_part_that_is_throttled_is_sent_again(
    server: Smsc, session: smsc.Session, hasty: None  # noqa: ARG001
) -> None:  # fmt: skip
    server.answers = [accept, throttle, throttle, accept]
    assert await session.send(outgoing(LONG)) == Accepted(["id-1", "id-4", "id-5"])
    assert [submit.short_message[5] for submit in server.submits] == [1, 2, 2, 2, 3]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        pytest.param([accept, accept, throttle], "2 of 3 parts were taken; the next one: Sent faster than the SMSC allows", id="throttled for long"),
        pytest.param(
            [accept, lambda event, _: event.reject(0x0B)],
            "1 of 3 parts were taken; the next one: The SMSC refuses the recipient's number",
            id="refused",
        ),
        pytest.param([accept, say_nothing], "1 of 3 parts were taken; the next one: the SMSC gave no answer within 0 s", id="no answer"),
        pytest.param([say_nothing], "the SMSC gave no answer within 0 s", id="no answer to the first"),
    ],
)  # fmt: skip
async def test_a_message_of_which_a_part_may_be_taken_is_unknown(
    server: Smsc, session: smsc.Session, hasty: None, answers: list[Answer], reason: str  # noqa: ARG001
) -> None:  # fmt: skip
    server.answers = answers
    assert await session.send(outgoing(LONG)) == Unknown(reason)


async def test_a_message_whose_first_part_is_refused_is_refused(server: Smsc, session: smsc.Session) -> None:
    server.answers = [throttle, accept]
    assert refusal(await session.send(outgoing(LONG))) == ("0x58", Action.SLOW_DOWN)
    assert len(server.submits) == 1


async def test_a_receipt_is_read_and_acknowledged(server: Smsc, session: smsc.Session, desk: Desk) -> None:
    await session.send(outgoing())
    assert await server.bring(b"id:id-1 stat:DELIVRD done date:2611230301") == 0
    assert await server.bring(b"", x001e=b"id-1\0", x0427=b"\x05") == 0
    assert desk.events == [
        Receipt("id-1", Status.DELIVERED, 1_795_402_860_000),
        Receipt("id-1", Status.FAILED, None, "UNDELIV", "Could not be delivered"),
    ]


async def test_a_receipt_may_come_before_the_answer(server: Smsc, session: smsc.Session, desk: Desk) -> None:
    server.answers = [say_nothing]
    sending = asyncio.create_task(session.send(outgoing()))
    await come(lambda: server.submits)
    assert await server.bring(b"id:id-1 stat:DELIVRD") == 0
    assert desk.events == [Receipt("id-1", Status.DELIVERED)]
    accept(server.submits[0], 1)
    assert await sending == Accepted(["id-1"])


async def test_a_persons_text_is_brought(server: Smsc, session: smsc.Session, desk: Desk) -> None:
    assert session.is_open
    assert await server.bring(b"STOP", 0) == 0
    [event] = desk.events
    assert isinstance(event, TextReply)
    assert (event.text, event.sender) == ("STOP", "+85298765432")


async def test_a_receipt_is_acknowledged_when_it_is_durable_and_not_before(
    server: Smsc, session: smsc.Session, desk: Desk
) -> None:
    assert session.is_open
    durable = asyncio.Event()
    desk.before = durable.wait
    bringing = asyncio.create_task(server.bring(b"id:1 stat:DELIVRD"))
    assert await session.send(outgoing()) == Accepted(["id-1"])
    assert not bringing.done()
    durable.set()
    assert await bringing == 0


async def test_a_receipt_that_is_not_stored_is_asked_for_again(
    server: Smsc, session: smsc.Session, desk: Desk
) -> None:
    assert session.is_open

    async def fail() -> None:
        raise OSError("the disk is full")

    desk.before = fail
    assert await server.bring(b"id:1 stat:DELIVRD") == 0x64
    desk.before = None
    assert await server.bring(b"id:1 stat:DELIVRD") == 0
    assert desk.events == [Receipt("1", Status.DELIVERED)]


async def test_receipts_that_come_while_others_are_stored_are_one_batch(
    server: Smsc, session: smsc.Session, desk: Desk
) -> None:
    begun, durable = asyncio.Event(), asyncio.Event()

    async def store_slowly() -> None:
        begun.set()
        await durable.wait()

    desk.before = store_slowly
    first = asyncio.create_task(server.bring(b"id:0 stat:DELIVRD"))
    await begun.wait()
    others = [asyncio.create_task(server.bring(b"id:%d stat:DELIVRD" % number)) for number in range(1, 8)]
    await come(lambda: session._arrivals.qsize() == 7)  # noqa: SLF001 - nothing outside shows it
    durable.set()
    assert await asyncio.gather(first, *others) == [0] * 8
    assert desk.batches == [1, 7]


async def test_more_receipts_than_can_wait_are_put_off(
    server: Smsc, session: smsc.Session, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smsc, "_MAX_WAITING", 2)
    begun, durable = asyncio.Event(), asyncio.Event()

    async def store_slowly() -> None:
        begun.set()
        await durable.wait()

    desk.before = store_slowly
    taken = [asyncio.create_task(server.bring(b"id:0 stat:DELIVRD"))]
    await begun.wait()
    for number in (1, 2):
        taken.append(asyncio.create_task(server.bring(b"id:%d stat:DELIVRD" % number)))
        await come(lambda: session._arrivals.qsize() == number)  # noqa: B023, SLF001 - asked at once; nothing outside shows it
    assert await server.bring(b"id:3 stat:DELIVRD") == 0x64
    durable.set()
    assert await asyncio.gather(*taken) == [0, 0, 0]
    assert len(desk.events) == 3


async def test_close_waits_for_the_messages_on_their_way_and_unbinds(server: Smsc, desk: Desk) -> None:
    server.answers = [accept, say_nothing]
    session = await smsc.open_session(server.credentials, desk.store)
    sending = asyncio.create_task(session.send(outgoing(LONG)))
    await come(lambda: len(server.submits) == 2)
    closing = asyncio.create_task(session.close())
    await come(lambda: not session.is_open)
    assert refusal(await session.send(outgoing())) == ("unreachable", Action.SLOW_DOWN)
    server.answers = [accept]
    accept(server.submits[1], 2)
    assert await sending == Accepted(["id-1", "id-2", "id-3"])
    await closing
    assert session.closed.is_set()
    await come(lambda: server.unbound == 1)


SILENT_SERVER = """
import asyncio, smpp34, sys

async def serve():
    server = smpp34.Server("127.0.0.1", int(sys.argv[1]), system_id="SMSC")
    await server.start()
    print("ready", flush=True)
    kept = []
    while True:
        kept.append(await server.next())
        print(type(kept[-1]).__name__, flush=True)

asyncio.run(serve())
"""


async def test_a_server_that_dies_before_the_answer_leaves_the_message_unknown(desk: Desk) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SILENT_SERVER, str(port), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    session = await smsc.open_session(Smsc(port).credentials, desk.store)
    sending = asyncio.create_task(session.send(outgoing()))
    assert await process.stdout.readline() == b"Esme\n"
    assert await process.stdout.readline() == b"SubmitSmEvent\n"
    process.kill()
    assert await sending == Unknown("the connection to the SMSC was lost before it answered")
    await session.closed.wait()
    await session.close()
    await process.communicate()
