"""A connection to an SMSC: messages go out over it, receipts and texts come in.

What is written and read is `providers/smpp.py`'s and `providers/deliveries.py`'s business. An SMSC's deliver_sm is
answered when `on_events` has returned, so that a receipt which the SMSC may forget is durable
(docs/decisions/0007-smpp-library.md says why the library's own client is not used).
"""

import asyncio
import contextlib
import itertools
import logging
import os
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from tallycast.events import Event, Receipt, Status
from tallycast.providers import smpp
from tallycast.providers.contract import (
    Accepted,
    Action,
    Outcome,
    Outgoing,
    Refused,
    Rule,
    SendError,
    Unknown,
)
from tallycast.providers.deliveries import read_delivery
from tallycast.providers.smpp import Command, Options, Part
from tallycast.providers.values import MAX_ID

log = logging.getLogger("tallycast.smsc")

OnEvents = Callable[[list[Event]], Awaitable[None]]
FindAddress = Callable[[str, int], Awaitable[str]]

_BIND_SECONDS = 10.0
_ANSWER_SECONDS = 10.0
_BEAT_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
# Before each repetition of a later part: a message of which a part was taken is worth some patience.
_PART_WAITS = (1.0, 2.0, 4.0, 8.0)
_MAX_PDU = 1 << 17
_MAX_BATCH = 500
_MAX_WAITING = 5000
_MAX_SEQUENCE = 0x7FFF_FFFF
_TRY_LATER = 0x64  # ESME_RX_T_APPN: the SMSC shall bring it again
_UNKNOWN_COMMAND = 0x03
_INCOMING = frozenset({Command.DELIVER_SM, Command.DATA_SM})


def _error(code: str, words: str, action: Action) -> SendError:
    return SendError(code, words, Rule(action, words))


_NO_CONNECTION = _error(
    "unreachable", "No connection to the SMSC. It is tried again by itself.", Action.SLOW_DOWN
)


class BindError(Exception):
    """There is no session: the SMSC cannot be reached, or refuses the account. `error` says what to do."""

    def __init__(self, error: SendError) -> None:
        super().__init__(error.title)
        self.error = error


class _Pdu(NamedTuple):
    command: int
    status: int
    sequence: int
    whole: bytes

    @property
    def body(self) -> bytes:
        return self.whole[smpp.HEADER.size :]


class _Arrival(NamedTuple):
    """Events to be stored, and the deliver_sm (none for an answer that came late) that waits for it."""

    events: list[Event]
    pdu: _Pdu | None


async def open_session(
    credentials: Mapping[str, str], on_events: OnEvents, find_address: FindAddress | None = None
) -> "Session":
    """A bound session. BindError, also where a credential is wrong or missing, which it names.

    `find_address` gives one of the host's addresses, or says why none may be called.
    """
    try:
        options = smpp.read_options(credentials)
    except ValueError as error:
        raise BindError(_error("credentials", str(error), Action.PAUSE_CHANNEL)) from error
    try:
        async with asyncio.timeout(_BIND_SECONDS):
            address = await find_address(options.host, options.port) if find_address else options.host
            reader, writer = await _connect(options, address)
            try:
                await _bind(options, reader, writer)
            except BaseException:
                writer.transport.abort()
                raise
    except TimeoutError:
        raise BindError(_unreachable(options, f"no answer within {_BIND_SECONDS:.0f} s")) from None
    except (OSError, EOFError) as error:
        raise BindError(_unreachable(options, _reason(error))) from error
    return Session(options, reader, writer, on_events)


async def _connect(options: Options, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if not options.tls:
        return await asyncio.open_connection(address, options.port)
    trust = ssl.create_default_context()
    return await asyncio.open_connection(address, options.port, ssl=trust, server_hostname=options.host)


async def _bind(options: Options, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(smpp.write_bind(options, 1))
    while True:
        pdu = await _read_pdu(reader)
        if pdu.sequence == 1 and pdu.command & smpp.RESPONSE:
            break
    if pdu.status or pdu.command == Command.GENERIC_NACK:
        raise BindError(smpp.bind_refusal(pdu.status))


def _reason(error: OSError | EOFError) -> str:
    if isinstance(error, EOFError):
        return "it was closed at the other end"
    if error.errno is None or error.errno < 0 or isinstance(error, ssl.SSLError):
        return str(error)
    return os.strerror(error.errno)


def _unreachable(options: Options, why: str) -> SendError:
    title = f"No connection to the SMSC {options.host}:{options.port}: {why}"
    return _error("unreachable", title, Action.SLOW_DOWN)


async def _read_pdu(reader: asyncio.StreamReader) -> _Pdu:
    """EOFError, or OSError, where nothing more can be read."""
    header = await reader.readexactly(smpp.HEADER.size)
    length, command, status, sequence = smpp.HEADER.unpack(header)
    if not smpp.HEADER.size <= length <= _MAX_PDU:
        raise OSError(f"a PDU of {length} octets")
    return _Pdu(command, status, sequence, header + await reader.readexactly(length - smpp.HEADER.size))


class Session:
    """One bound connection. It does not come back by itself: `closed` is set when it has ended and all is stored."""

    def __init__(
        self,
        options: Options,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_events: OnEvents,
    ) -> None:
        self.closed = asyncio.Event()
        self._options = options
        self._reader = reader
        self._writer = writer
        self._on_events = on_events
        self._is_bound = True
        self._is_closing = False
        self._heard = 0
        self._sequence = 1
        self._numbers = itertools.count(random.randrange(0x10000))  # noqa: S311 - tells messages apart, no secret
        self._window = asyncio.Semaphore(options.window)
        self._asked: dict[int, asyncio.Future[_Pdu | None]] = {}
        self._late: dict[int, str] = {}
        self._arrivals: asyncio.Queue[_Arrival | None] = asyncio.Queue()
        self._life = asyncio.create_task(self._live())

    @property
    def is_open(self) -> bool:
        return self._is_bound and not self._is_closing

    async def send(self, message: Outgoing) -> Outcome:
        """All parts of the message, in order. Refused means that none was taken."""
        try:
            parts = smpp.cut(self._options, message.text or "", next(self._numbers))
            return await self._submit_in_turn(message, parts)
        except smpp.BadSender as error:
            return Refused(_error("sender", str(error), Action.PAUSE_CHANNEL))
        except ValueError as error:
            return Refused(_error("message", str(error), Action.FAIL))

    async def _submit_in_turn(self, message: Outgoing, parts: list[Part]) -> Outcome:
        if self.is_open:
            async with self._window:
                if self.is_open:
                    return await self._submit_all(message, parts)
        return Refused(_NO_CONNECTION)

    async def _submit_all(self, message: Outgoing, parts: list[Part]) -> Outcome:
        taken: list[str] = []
        for part in parts:
            answer = await self._submit_patiently(message, part, len(parts), bool(taken))
            if isinstance(answer, str):
                taken.append(answer or f"{message.reference}#{len(taken) + 1}")
            elif not taken:
                return Refused(answer) if isinstance(answer, SendError) else answer
            else:
                why = answer.title if isinstance(answer, SendError) else answer.reason
                return Unknown(f"{len(taken)} of {len(parts)} parts were taken; the next one: {why}")
        return Accepted(taken)

    async def _submit_patiently(
        self, message: Outgoing, part: Part, total: int, patient: bool
    ) -> str | SendError | Unknown:
        answer = await self._submit(message, part, total)
        for wait in _PART_WAITS if patient else ():
            if not (isinstance(answer, SendError) and self._is_bound and _is_passing(answer)):
                break
            await asyncio.sleep(wait)
            answer = await self._submit(message, part, total)
        return answer

    async def _submit(self, message: Outgoing, part: Part, total: int) -> str | SendError | Unknown:
        """The id under which the part was taken (may be empty), why it was not, or that nobody knows."""
        if not self._is_bound:
            return _NO_CONNECTION
        sequence = self._next_sequence()
        pdu = smpp.write_submit(self._options, message, part, sequence)
        try:
            answer = await self._ask(pdu, sequence)
        except TimeoutError:
            if total == 1:
                self._late[sequence] = message.reference
            return Unknown(f"the SMSC gave no answer within {_ANSWER_SECONDS:.0f} s")
        if answer is None:
            return Unknown("the connection to the SMSC was lost before it answered")
        if answer.status or answer.command == Command.GENERIC_NACK:
            return smpp.refusal(answer.status)
        return self._message_id(answer)

    def _message_id(self, answer: _Pdu) -> str:
        found = smpp.read_message_id(self._options, answer.body)
        return found if len(found) <= MAX_ID else ""

    async def _ask(self, pdu: bytes, sequence: int) -> _Pdu | None:
        """The answer to a request; None where the connection ended first. TimeoutError."""
        answer: asyncio.Future[_Pdu | None] = asyncio.get_running_loop().create_future()
        self._asked[sequence] = answer
        try:
            self._writer.write(pdu)
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await answer
        finally:
            del self._asked[sequence]

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % _MAX_SEQUENCE + 1
        return self._sequence

    async def close(self) -> None:
        """Finish the messages that are on their way, and unbind; takes twenty seconds at most."""
        self._is_closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                for _ in range(self._options.window):
                    await self._window.acquire()
        if self._is_bound:
            await self._unbind()
        self._writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.closed.wait()
        self._life.cancel()

    async def _unbind(self) -> None:
        sequence = self._next_sequence()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._ask(smpp.write(Command.UNBIND, sequence), sequence)

    async def _live(self) -> None:
        """The whole life of the connection, and then the rest of what it brought."""
        storing = asyncio.create_task(self._store())
        beating = asyncio.create_task(self._beat())
        try:
            await self._listen()
        except (OSError, EOFError) as error:
            if not self._is_closing:
                log.warning("the connection to the SMSC %s is lost: %s", self._options.host, _reason(error))
        finally:
            self._is_bound = False
            beating.cancel()
            self._writer.transport.abort()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_result(None)
            self._arrivals.put_nowait(None)
            await storing
            self.closed.set()

    async def _listen(self) -> None:
        while True:
            pdu = await _read_pdu(self._reader)
            self._heard += 1
            if pdu.command & smpp.RESPONSE:
                self._take_answer(pdu)
                if pdu.command == Command.UNBIND | smpp.RESPONSE:
                    return
            elif pdu.command in _INCOMING:
                self._take_delivery(pdu)
            elif pdu.command in {Command.ENQUIRE_LINK, Command.UNBIND}:
                self._writer.write(smpp.write(pdu.command | smpp.RESPONSE, pdu.sequence))
                if pdu.command == Command.UNBIND:
                    log.info("the SMSC %s ended the session", self._options.host)
                    return
            else:
                self._writer.write(smpp.write(Command.GENERIC_NACK, pdu.sequence, _UNKNOWN_COMMAND))

    def _take_answer(self, pdu: _Pdu) -> None:
        answer = self._asked.get(pdu.sequence)
        if answer is not None and not answer.done():
            answer.set_result(pdu)
            return
        reference = self._late.pop(pdu.sequence, "")
        if reference and pdu.command == Command.SUBMIT_SM | smpp.RESPONSE and not pdu.status:
            # The outcome was recorded as unknown; with the reference, this settles it.
            message_id = self._message_id(pdu) or f"{reference}#1"
            self._arrivals.put_nowait(
                _Arrival([Receipt(message_id, Status.ACCEPTED, reference=reference)], None)
            )

    def _take_delivery(self, pdu: _Pdu) -> None:
        if self._arrivals.qsize() >= _MAX_WAITING:
            self._answer_delivery(pdu, _TRY_LATER)
            return
        events = read_delivery(pdu.whole, self._options, time.time_ns() // 1_000_000)
        self._arrivals.put_nowait(_Arrival(events, pdu))

    async def _store(self) -> None:
        """What arrived while the batch before was stored is the next batch."""
        while (first := await self._arrivals.get()) is not None:
            batch = [first]
            while len(batch) < _MAX_BATCH and not self._arrivals.empty():
                if (arrival := self._arrivals.get_nowait()) is None:
                    self._arrivals.put_nowait(None)
                    break
                batch.append(arrival)
            await self._store_batch(batch)

    async def _store_batch(self, batch: list[_Arrival]) -> None:
        try:
            await self._on_events([event for arrival in batch for event in arrival.events])
        except Exception:
            log.exception(
                "what the SMSC %s brought was not stored: it shall bring it again", self._options.host
            )
            status = _TRY_LATER
        else:
            status = 0
        for arrival in batch:
            if arrival.pdu is not None:
                self._answer_delivery(arrival.pdu, status)

    def _answer_delivery(self, pdu: _Pdu, status: int) -> None:
        if not self._writer.is_closing():
            self._writer.write(smpp.write(pdu.command | smpp.RESPONSE, pdu.sequence, status, b"\0"))

    async def _beat(self) -> None:
        """Ask the SMSC for a sign of life from time to time; leave it when none comes."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            heard = self._heard
            self._writer.write(smpp.write(Command.ENQUIRE_LINK, self._next_sequence()))
            await asyncio.sleep(_ANSWER_SECONDS)
            if self._heard == heard:
                log.warning("the SMSC %s is silent", self._options.host)
                self._writer.transport.abort()
                return


def _is_passing(error: SendError) -> bool:
    return error.rule.action in {Action.RETRY, Action.SLOW_DOWN}
