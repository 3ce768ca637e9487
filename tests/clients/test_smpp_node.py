"""Our session with an SMSC of another make: npm's `smpp`, which reads and writes SMPP with code of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tls_proxy import make_certificates, tls_in_front_of

from mobile import Desk, come
from tallycast import smsc
from tallycast.events import Receipt, Status, TextReply
from tallycast.providers.contract import Accepted, Action, Outgoing, Refused

pytestmark = [pytest.mark.clients, pytest.mark.anyio]

HERE = Path(__file__).parent


class Smsc:
    """The process, and the lines that it printed."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.credentials = {"host": "127.0.0.1", "port": str(port), "systemID": "acme", "password": "secret"}

    async def read(self, lines: int) -> list[dict[str, Any]]:
        assert self._process.stdout is not None
        return [json.loads(await asyncio.wait_for(self._process.stdout.readline(), 20)) for _ in range(lines)]


@pytest.fixture
async def node() -> AsyncIterator[Smsc]:
    process = await asyncio.create_subprocess_exec("node", HERE / "smsc.cjs", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    yield Smsc(process, json.loads(await process.stdout.readline())["port"])
    process.kill()
    await process.communicate()


@pytest.fixture
def desk() -> Desk:
    return Desk()


def outgoing(text: str, recipient: str = "+85298765432") -> Outgoing:
    return Outgoing(recipient, "ACME", "tc:1.1", text)


async def test_messages_arrive_as_they_were_written_and_receipts_come_back(node: Smsc, desk: Desk) -> None:
    session = await smsc.open_session(node.credentials, desk.store)
    assert await session.send(outgoing("Grüße {€}")) == Accepted(["node-1"])
    assert await session.send(outgoing("你好 😀")) == Accepted(["node-2"])
    await come(lambda: len(desk.events) == 2)
    await session.close()
    taken = {"from": "ACME", "to": "85298765432", "header": ""}
    lines = await node.read(5)
    assert [line for line in lines if "text" in line] == [
        taken | {"text": "Grüße {€}"},
        taken | {"text": "你好 😀"},
    ]
    assert lines.count({"answered": 0}) == 2
    assert lines[-1] == {"unbound": True}
    assert desk.events == [
        Receipt("node-1", Status.DELIVERED),
        Receipt("node-2", Status.FAILED, 1_795_402_860_000, "011", "Could not be delivered"),
    ]


@pytest.mark.parametrize("text", ["a" * 152 + "€" + "a" * 200, "你😀" * 60])
@pytest.mark.parametrize("concatenation", ["udh8", "udh16"])
async def test_the_parts_of_a_long_message_make_the_text_again(
    node: Smsc, desk: Desk, text: str, concatenation: str
) -> None:
    session = await smsc.open_session(node.credentials | {"concatenation": concatenation}, desk.store)
    assert await session.send(outgoing(text)) == Accepted(["node-1", "node-2", "node-3"])
    await come(lambda: len(desk.events) == 3)
    await session.close()
    parts = [line for line in await node.read(6) if "text" in line]
    assert "".join(part["text"] for part in parts) == text
    assert [part["header"][-4:] for part in parts] == ["0301", "0302", "0303"]


async def test_a_persons_answer_is_brought(node: Smsc, desk: Desk) -> None:
    session = await smsc.open_session(node.credentials, desk.store)
    await session.send(outgoing("call me"))
    await come(lambda: len(desk.events) == 2)
    reply = desk.events[1]
    assert isinstance(reply, TextReply)
    assert (reply.text, reply.sender) == ("停 STOP", "+85298765432")
    await session.close()


async def test_a_throttled_message_slows_the_channel_down(node: Smsc, desk: Desk) -> None:
    session = await smsc.open_session(node.credentials, desk.store)
    outcome = await session.send(outgoing("hello", "+85298765458"))
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.rule.action) == ("0x58", Action.SLOW_DOWN)
    await session.close()


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        pytest.param({"password": "wrong"}, "0x0E", "The SMSC refused the password: check the credential password", id="password"),
        pytest.param({"systemID": "other"}, "0x0F", "The SMSC does not know the account: check the credential systemID", id="account"),
    ],
)  # fmt: skip
async def test_wrong_credentials_are_refused_in_words(
    node: Smsc, desk: Desk, changes: dict[str, str], code: str, words: str
) -> None:
    with pytest.raises(smsc.BindError) as caught:
        await smsc.open_session(node.credentials | changes, desk.store)
    error = caught.value.error
    assert (error.code, error.title, error.rule.action) == (code, words, Action.PAUSE_CHANNEL)


async def test_a_connection_by_tls_needs_a_certificate_that_is_trusted(
    node: Smsc, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificates(tmp_path)
    with tls_in_front_of(int(node.credentials["port"]), tmp_path / "server.pem") as port:
        credentials = node.credentials | {"host": "localhost", "port": str(port), "tls": "true"}
        with pytest.raises(smsc.BindError, match="certificate verify failed"):
            await smsc.open_session(credentials, desk.store)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        session = await smsc.open_session(credentials, desk.store)
        assert await session.send(outgoing("hello")) == Accepted(["node-1"])
        await session.close()
