"""The other side of SMPP: `smpp34`'s own server, and a peer that does what no server would."""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import smpp34

from stage import until
from tallycast import smsc
from tallycast.events import Event
from tallycast.providers.contract import Action, Outcome, Outgoing, Refused

SUBMIT, DELIVER, UNBIND, BIND, ENQUIRE, NACK = 0x04, 0x05, 0x06, 0x09, 0x15, 0x80000000
COMMANDS = {"bind": BIND, "submit": SUBMIT, "unbind": UNBIND, "enquire": ENQUIRE}
RESPONSE = 0x80000000
HEADER = struct.Struct(">IIII")
LONG = "a" * 400  # three parts

Answer = Callable[[smpp34.SubmitSmEvent, int], None]
Reaction = Callable[[asyncio.StreamWriter, int], None]


async def come(condition: Callable[[], object]) -> None:
    """Wait until it is true."""

    async def ask() -> object:
        return condition()

    await until(ask)


def outgoing(text: str = "hello", seq: int = 1, sender: str = "ACME") -> Outgoing:
    return Outgoing("+85298765432", sender, f"tc:1.{seq}", text)


def accept(event: smpp34.SubmitSmEvent, number: int) -> None:
    event.accept(f"id-{number}")


def throttle(event: smpp34.SubmitSmEvent, _: int) -> None:
    event.reject(0x58)


def say_nothing(_event: smpp34.SubmitSmEvent, _number: int) -> None:
    """An event that is kept is not answered."""


def credentials_for(port: int) -> dict[str, str]:
    return {"host": "127.0.0.1", "port": str(port), "systemID": "acme", "password": "pw"}


@dataclass
class Smsc:
    """A server, what reached it, and how it answers: the last of `answers` is for all that follow."""

    port: int
    answers: list[Answer] = field(default_factory=lambda: [accept])
    submits: list[smpp34.SubmitSmEvent] = field(default_factory=list)
    clients: list[smpp34.Esme] = field(default_factory=list)
    unbound: int = 0

    @property
    def credentials(self) -> dict[str, str]:
        return credentials_for(self.port)

    async def serve(self, server: smpp34.Server) -> None:
        while True:
            match await server.next():
                case smpp34.SubmitSmEvent() as event:
                    self.submits.append(event)
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    answer(event, len(self.submits))
                case smpp34.Esme() as client:
                    self.clients.append(client)
                case _:
                    self.unbound += 1

    async def bring(self, body: bytes, esm_class: int = 0x04, **fields: bytes) -> int:
        """Deliver to the session; the status of its answer."""
        await come(lambda: self.clients)
        tlvs = [smpp34.Tlv(int(name[1:], 16), value) for name, value in fields.items()]
        answer = await self.clients[-1].deliver_sm(
            "ACME", body, source_addr="85298765432", source_addr_ton=1, esm_class=esm_class, tlvs=tlvs
        )
        return answer.command_status


@dataclass
class Desk:
    """What a session brought, durable when `store` has returned."""

    events: list[Event] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    before: Callable[[], Awaitable[object]] | None = None

    async def store(self, events: list[Event]) -> None:
        if self.before is not None:
            await self.before()
        self.batches.append(len(events))
        self.events.extend(events)


def refusal(outcome: Outcome) -> tuple[str, Action]:
    assert isinstance(outcome, Refused)
    return outcome.error.code, outcome.error.rule.action


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers of a test's length."""
    monkeypatch.setattr(smsc, "_BIND_SECONDS", 0.3)
    monkeypatch.setattr(smsc, "_ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(smsc, "_CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(smsc, "_BEAT_SECONDS", 0.2)
    monkeypatch.setattr(smsc, "_PART_WAITS", (0.01, 0.01))


@dataclass
class Peer:
    """The other end of a connection, PDU by PDU. `answers` says what follows a command; nothing by default."""

    answers: dict[int, Reaction]
    port: int = 0
    heard: list[int] = field(default_factory=list)
    writer: asyncio.StreamWriter | None = None

    @property
    def credentials(self) -> dict[str, str]:
        return credentials_for(self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            while True:
                length, command, _, sequence = HEADER.unpack(await reader.readexactly(16))
                await reader.readexactly(length - 16)
                self.heard.append(command)
                if command in self.answers:
                    self.answers[command](writer, sequence)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def pdu(command: int, status: int = 0, body: bytes = b"") -> Reaction:
    return lambda writer, sequence: writer.write(
        HEADER.pack(16 + len(body), command, status, sequence) + body
    )


def hang_up(writer: asyncio.StreamWriter, _: int) -> None:
    writer.transport.abort()


BOUND = {BIND: pdu(BIND | RESPONSE, 0, b"SMSC\0"), UNBIND: pdu(UNBIND | RESPONSE)}
