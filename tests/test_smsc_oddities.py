"""A session with an SMSC that refuses the account, falls silent, hangs up, or speaks out of turn."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import smpp34

from harness import free_port
from mobile import (
    BIND,
    BOUND,
    COMMANDS,
    DELIVER,
    ENQUIRE,
    LONG,
    NACK,
    RESPONSE,
    SUBMIT,
    UNBIND,
    Desk,
    Peer,
    Reaction,
    come,
    hang_up,
    hurry,
    outgoing,
    pdu,
    refusal,
)
from tallycast import smsc
from tallycast.events import Receipt, Status
from tallycast.providers.contract import Accepted, Action, Unknown

pytestmark = pytest.mark.anyio

Meet = Callable[..., Awaitable[Peer]]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
async def meet() -> AsyncIterator[Meet]:
    servers = []

    async def start(**answers: Reaction) -> Peer:
        """A peer that binds, and answers by the names of commands."""
        named = {COMMANDS[name]: answer for name, answer in answers.items()}
        peer = Peer(BOUND | named)
        listening = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        peer.port = listening.sockets[0].getsockname()[1]
        servers.append(listening)
        return peer

    yield start
    for listening in servers:
        listening.close()


@pytest.mark.parametrize(
    ("status", "action", "words"),
    [
        pytest.param(0x0E, Action.PAUSE_CHANNEL, "The SMSC refused the password: check the credential password", id="password"),
        pytest.param(0x0F, Action.PAUSE_CHANNEL, "The SMSC does not know the account: check the credential systemID", id="account"),
        pytest.param(0x05, Action.SLOW_DOWN, "This account is connected already; the SMSC allows no second connection", id="bound already"),
    ],
)  # fmt: skip
async def test_a_refused_bind_says_what_to_do(
    meet: Meet, desk: Desk, status: int, action: Action, words: str
) -> None:
    peer = await meet(bind=pdu(BIND | RESPONSE, status))
    with pytest.raises(smsc.BindError) as caught:
        await smsc.open_session(peer.credentials, desk.store)
    error = caught.value.error
    assert (error.code, error.rule.action, error.title) == (f"0x{status:02X}", action, words)


async def test_an_smsc_that_cannot_be_reached_is_tried_again(desk: Desk) -> None:
    credentials = {"host": "127.0.0.1", "port": str(free_port()), "systemID": "acme"}
    with pytest.raises(
        smsc.BindError, match=r"No connection to the SMSC 127.0.0.1:\d+: Connection refused"
    ) as caught:
        await smsc.open_session(credentials, desk.store)
    assert (caught.value.error.code, caught.value.error.rule.action) == ("unreachable", Action.SLOW_DOWN)


async def test_a_bind_that_is_not_answered_is_given_up(meet: Meet, desk: Desk, hasty: None) -> None:  # noqa: ARG001
    peer = await meet(bind=pdu(ENQUIRE))
    with pytest.raises(smsc.BindError, match="no answer within 0 s"):
        await smsc.open_session(peer.credentials, desk.store)


async def test_a_connection_that_is_closed_on_the_bind_is_none(meet: Meet, desk: Desk) -> None:
    peer = await meet(bind=hang_up)
    with pytest.raises(smsc.BindError, match="No connection to the SMSC"):
        await smsc.open_session(peer.credentials, desk.store)


async def test_a_wrong_credential_pauses_the_channel(desk: Desk) -> None:
    with pytest.raises(smsc.BindError, match="credentials: systemID must be") as caught:
        await smsc.open_session({"host": "127.0.0.1"}, desk.store)
    assert caught.value.error.rule.action is Action.PAUSE_CHANNEL


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(hang_up, id="reset"),
        pytest.param(pdu(UNBIND), id="unbind"),
        pytest.param(lambda writer, _: writer.write(b"GET / HTTP/1.1\r\n"), id="another protocol"),
        pytest.param(lambda writer, _: writer.write(b"\0\0\0\x05abcdefghijkl"), id="a length that is none"),
        pytest.param(lambda writer, _: writer.close(), id="closed"),
    ],
)
async def test_a_connection_lost_before_the_answer_leaves_the_message_unknown(
    meet: Meet, desk: Desk, answer: Reaction
) -> None:
    peer = await meet(submit=answer)
    session = await smsc.open_session(peer.credentials, desk.store)
    assert await session.send(outgoing()) == Unknown("the connection to the SMSC was lost before it answered")
    await session.closed.wait()
    assert not session.is_open
    assert refusal(await session.send(outgoing())) == ("unreachable", Action.SLOW_DOWN)
    await session.close()
    assert peer.heard.count(SUBMIT) == 1


async def test_a_nack_is_a_refusal(meet: Meet, desk: Desk) -> None:
    peer = await meet(submit=pdu(NACK, 0x03))
    session = await smsc.open_session(peer.credentials, desk.store)
    assert refusal(await session.send(outgoing())) == ("0x03", Action.FAIL)
    await session.close()


async def test_a_message_that_gets_no_id_has_its_reference_for_one(meet: Meet, desk: Desk) -> None:
    peer = await meet(submit=pdu(SUBMIT | RESPONSE, 0, b"\0"))
    session = await smsc.open_session(peer.credentials, desk.store)
    assert await session.send(outgoing(LONG, 7)) == Accepted(["tc:1.7#1", "tc:1.7#2", "tc:1.7#3"])
    await session.close()


async def test_an_smsc_that_falls_silent_is_left(meet: Meet, desk: Desk, hasty: None) -> None:  # noqa: ARG001
    peer = await meet()
    session = await smsc.open_session(peer.credentials, desk.store)
    await asyncio.wait_for(session.closed.wait(), 10)
    assert peer.heard == [BIND, ENQUIRE]
    assert not session.is_open
    await session.close()


async def test_an_idle_smsc_that_answers_is_kept(meet: Meet, desk: Desk, hasty: None) -> None:  # noqa: ARG001
    peer = await meet(enquire=pdu(ENQUIRE | RESPONSE))
    session = await smsc.open_session(peer.credentials, desk.store)
    await come(lambda: peer.heard.count(ENQUIRE) >= 3)
    assert session.is_open
    await session.close()


async def test_close_does_not_wait_for_a_silent_smsc(meet: Meet, desk: Desk, hasty: None) -> None:  # noqa: ARG001
    peer = await meet(unbind=lambda *_: None)
    session = await smsc.open_session(peer.credentials, desk.store)
    await asyncio.wait_for(session.close(), 5)
    assert session.closed.is_set()
    assert UNBIND in peer.heard


async def test_questions_of_the_smsc_are_answered(meet: Meet, desk: Desk) -> None:
    peer = await meet()
    session = await smsc.open_session(peer.credentials, desk.store)
    await come(lambda: peer.writer is not None)
    assert peer.writer is not None
    for command, sequence in zip((ENQUIRE, 0x102, DELIVER), itertools.count(900), strict=False):
        pdu(command)(peer.writer, sequence)
    await come(lambda: len(peer.heard) == 4)
    assert sorted(peer.heard[1:]) == sorted([ENQUIRE | RESPONSE, NACK, DELIVER | RESPONSE])
    assert [type(event).__name__ for event in desk.events] == ["Unreadable"]
    await session.close()


async def test_what_was_brought_is_stored_after_the_connection_is_lost(meet: Meet, desk: Desk) -> None:
    peer = await meet()
    durable = asyncio.Event()
    desk.before = durable.wait
    session = await smsc.open_session(peer.credentials, desk.store)
    await come(lambda: peer.writer is not None)
    assert peer.writer is not None
    receipts = [
        smpp34.DeliverSm("852", "ACME", b"id:%d stat:DELIVRD" % number, esm_class=4, sequence_number=number)
        for number in (1, 2, 3)
    ]
    peer.writer.write(b"".join(receipt.encode() for receipt in receipts))
    peer.writer.close()
    await come(lambda: not session.is_open)
    assert not session.closed.is_set()
    durable.set()
    await session.closed.wait()
    assert desk.events == [Receipt(str(number), Status.DELIVERED) for number in (1, 2, 3)]
    await session.close()
