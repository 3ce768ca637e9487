"""The simulated SMSC: takes submit_sm, whole or in parts, and sends receipts and people's texts by deliver_sm."""

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import smpp34

from tallycast.config import BadSetting
from tallycast.simulator.channels import Channel
from tallycast.simulator.courier import Notice, Target
from tallycast.simulator.fates import Fate, Happening, Hearing, Why
from tallycast.simulator.ledger import Message
from tallycast.simulator.templates import find_links
from tallycast.simulator.world import World

log = logging.getLogger("tallycast.simulator")
_CONCURRENCY = 32
_ACK_SECONDS = 10.0
_INVALID_PASSWORD = 0x0E
_UDH = 0x40
_RECEIPT = 0x04
_UCS_2 = 8
_LATIN_1 = 3
_CONCATENATIONS = {
    0x00: ">BBB",
    0x08: ">HBB",
}  # information element: how reference, total and position are packed
# Optional parameters (SMPP 3.4, 5.3.2).
_MESSAGE_PAYLOAD = 0x0424
_SAR_TOTAL = 0x020E
_SAR = (0x020C, _SAR_TOTAL, 0x020F)  # reference, total, position
_RECEIPTED_MESSAGE_ID, _MESSAGE_STATE, _NETWORK_ERROR_CODE = 0x001E, 0x0427, 0x0423
# command_status (5.1.3)
_STATUSES = {
    Why.STOPPED: 0x0B,
    Why.CEILING: 0x58,
    Why.PAIR: 0x58,
    Why.THROTTLED: 0x58,
    Why.LIMITED: 0x14,
    Why.BROKEN: 0x08,
}
# code of the failure: text and number of the state in its receipt
_FAILURES = {30003: ("EXPIRED", 3), 30006: ("REJECTD", 8)}
_STATES = {Happening.SENT: ("ENROUTE", 1), Happening.DELIVERED: ("DELIVRD", 2)}
_UNDELIVERABLE = ("UNDELIV", 5)
# GSM 03.38, one septet in an octet; the extension follows ESC.
_GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_ESCAPE = 0x1B
_GSM_EXTENSION = dict(zip(b"\x0a\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65", "\f^{}\\[~]|€", strict=True))


class Part(NamedTuple):
    """A submit_sm as a part of a message: `series` is the sender's number of the message, the same in all parts."""

    text: str
    series: int = 0
    total: int = 1
    position: int = 1


class _Long(msgspec.Struct):
    """A message of which parts are still to come."""

    message: Message
    texts: dict[int, str]


def read_part(octets: bytes, esm_class: int, data_coding: int, tlvs: Iterable[smpp34.Tlv]) -> Part:
    options = {tlv.tag: tlv.value for tlv in tlvs}
    octets = octets or options.get(_MESSAGE_PAYLOAD, b"")
    series = total = position = 0
    if esm_class & _UDH and octets:
        header, octets = octets[1 : 1 + octets[0]], octets[1 + octets[0] :]
        layout = _CONCATENATIONS.get(header[0])
        if layout is not None:
            series, total, position = struct.unpack(layout, header[2:])
    elif _SAR_TOTAL in options:
        series, total, position = (int.from_bytes(options[tag]) for tag in _SAR)
    return Part(_decode(octets, data_coding), series, total or 1, position or 1)


def _decode(octets: bytes, data_coding: int) -> str:
    if data_coding == _UCS_2:
        return octets.decode("utf-16-be", "replace")
    if data_coding == _LATIN_1:
        return octets.decode("latin-1")
    values = iter(octets)
    return "".join(_decode_septet(value, values) for value in values)


def _decode_septet(value: int, following: Iterator[int]) -> str:
    if value == _ESCAPE:
        return _GSM_EXTENSION.get(next(following, 0), "")
    return _GSM[value & 0x7F]


class Smsc:
    """Accepts every password: smpp34's server does not show it. An invalid key is refused with each message."""

    def __init__(self, world: World, host: str, port: int) -> None:
        self.world = world
        self._server = smpp34.Server(host, port, system_id="simulator", inbound_capacity=10_000)
        self._sessions: dict[str, smpp34.Esme] = {}
        self._long: dict[tuple[str, str, str, int, int], _Long] = {}
        # Events without an answer: one that is forgotten is refused by the library.
        self._silent: list[smpp34.SubmitSmEvent] = []

    async def start(self) -> None:
        try:
            await self._server.start()
        except smpp34.SmppError as error:  # the port is taken, say
            raise BadSetting(f"the SMSC cannot listen: {error}") from None
        self.world.courier.spawn(self._listen())

    async def stop(self) -> None:
        await self._server.stop()

    async def _listen(self) -> None:
        while True:
            event = await self._server.next()
            try:
                self._hear(event)
            except Exception:  # the others go on
                log.exception("the SMSC could not take what came")
                if isinstance(event, smpp34.SubmitSmEvent):
                    with contextlib.suppress(smpp34.SmppError, RuntimeError):  # it was answered
                        event.reject(_STATUSES[Why.BROKEN])

    def _hear(self, event: smpp34.Esme | smpp34.SubmitSmEvent | smpp34.Unbound) -> None:
        if isinstance(event, smpp34.Esme):
            self._sessions[event.session_id] = event
        elif isinstance(event, smpp34.SubmitSmEvent):
            self._submit(event)
        else:
            self._sessions.pop(event.session_id, None)

    def _channel(self, system_id: str) -> Channel:
        def make_target(channel: Channel) -> Target:
            return Target(partial(self._deliver, channel), batch=1, concurrency=_CONCURRENCY)

        return self.world.channel("smpp", system_id, make_target)

    def _submit(self, event: smpp34.SubmitSmEvent) -> None:
        session = self._sessions.get(event.session_id)
        if session is None:  # it ended while this was on its way
            return
        channel, recipient = self._channel(session.system_id), f"+{event.destination_addr.lstrip('+')}"
        if self.world.is_key_refused(channel, channel.key):
            self._refuse(channel, recipient, event, _INVALID_PASSWORD, "invalid password")
            return
        hearing = self.world.hear(channel, recipient)
        if hearing.why is not None:
            self._refuse(channel, recipient, event, _STATUSES[hearing.why], hearing.why)
            return
        message = self._take(channel, recipient, event, hearing)
        heard = self.world.plan(channel, message, len(message.message_ids) - 1)
        if heard is None and not hearing.seconds and hearing.silence is None:
            event.accept(message.message_ids[-1])
        else:
            self.world.courier.spawn(self._answer(event, message.message_ids[-1], hearing, heard))

    def _refuse(
        self, channel: Channel, recipient: str, event: smpp34.SubmitSmEvent, status: int, title: str
    ) -> None:
        event.reject(status)
        self.world.refuse(channel, recipient, None, f"0x{status:02X}", title)

    async def _answer(
        self,
        event: smpp34.SubmitSmEvent,
        message_id: str,
        hearing: Hearing,
        heard: asyncio.Future[None] | None,
    ) -> None:
        await self.world.wait(hearing, heard)
        if hearing.silence is None:
            event.accept(message_id)
        else:
            self._silent.append(event)

    def _take(
        self, channel: Channel, recipient: str, event: smpp34.SubmitSmEvent, hearing: Hearing
    ) -> Message:
        """The part's message, new or waiting for it."""
        part = read_part(event.short_message, event.esm_class, event.data_coding, event.tlvs)
        key = (channel.key, event.source_addr, recipient, part.series, part.total)
        waiting = self._long.get(key)
        self.world.note_taken(channel, recipient, time.time())
        if waiting is None or part.position in waiting.texts:
            waiting = self._long[key] = _Long(self._begin(channel, recipient, event, part.total), {})
        message = waiting.message
        waiting.texts[part.position] = part.text
        message.message_ids.append(self.world.new_id())
        message.silence = message.silence or hearing.silence
        message.text = "".join(text for _, text in sorted(waiting.texts.items()))
        if len(waiting.texts) == part.total:
            message.links = tuple(find_links(message.text))
            del self._long[key]
        if len(message.message_ids) == 1:  # a ledger's line names an id
            self.world.ledger.add(message)
        elif len(waiting.texts) == part.total:
            self.world.ledger.write(message)
        return message

    def _begin(self, channel: Channel, recipient: str, event: smpp34.SubmitSmEvent, total: int) -> Message:
        fate = _registered(self.world.draw(channel, recipient, "sms"), event.registered_delivery)
        return Message(
            "smpp", channel.key, event.source_addr, recipient, [], None, None, "", time.time(), fate,
            total=total,
        )  # fmt: skip

    async def _deliver(self, channel: Channel, notices: list[Notice]) -> bool:
        """Send one deliver_sm to a session of the channel; whether it was acknowledged."""
        [notice] = notices
        session = next((one for one in self._sessions.values() if _hears(one, channel.key)), None)
        if session is None:
            return False
        is_text = notice.what is Happening.STOP_TEXT
        if is_text and not notice.message.sender.isdigit():
            return True  # nobody can answer to a name
        octets, esm_class, tlvs = (b"STOP", 0, []) if is_text else self._write_receipt(notice)
        try:
            answer = await asyncio.wait_for(
                session.deliver_sm(
                    notice.message.sender,
                    octets,
                    source_addr=notice.message.recipient.lstrip("+"),
                    source_addr_ton=1,
                    source_addr_npi=1,
                    esm_class=esm_class,
                    tlvs=tlvs,
                ),
                _ACK_SECONDS,
            )
        except (smpp34.SmppError, OSError, RuntimeError, TimeoutError):
            return False
        if not answer.is_success:
            return False
        self.world.note_told(channel, notices)
        return True

    def _write_receipt(self, notice: Notice) -> tuple[bytes, int, list[smpp34.Tlv]]:
        message, forms = notice.message, self.world.profile.receipt_forms
        word, state = _STATES.get(notice.what) or _FAILURES.get(message.fate.code, _UNDELIVERABLE)
        form = forms[int(message.fate.turn * len(forms))]
        message_id, code = message.message_ids[notice.part], message.fate.code % 1000
        submitted, done = (time.strftime("%y%m%d%H%M", time.gmtime(at)) for at in (message.at, notice.at))
        text = (
            f"id:{message_id} sub:001 dlvrd:{int(word == 'DELIVRD'):03d} submit date:{submitted} "
            f"done date:{done} stat:{word} err:{code:03d} text:"
        )
        tlvs = [
            smpp34.Tlv(_RECEIPTED_MESSAGE_ID, message_id.encode() + b"\0"),
            smpp34.Tlv(_MESSAGE_STATE, bytes([state])),
            smpp34.Tlv(_NETWORK_ERROR_CODE, b"\x03" + code.to_bytes(2)),
        ]
        return (b"" if form == "tlvs" else text.encode()), _RECEIPT, ([] if form == "text" else tlvs)


def _hears(session: smpp34.Esme, system_id: str) -> bool:
    return session.system_id == system_id and session.can_receive


def _registered(fate: Fate, registered_delivery: int) -> Fate:
    """The fate without the receipts that were not asked for (SMPP 3.4, 5.2.17)."""
    wanted = {1: {Happening.DELIVERED, Happening.FAILED}, 2: {Happening.FAILED}}.get(
        registered_delivery & 3, set()
    )
    if registered_delivery & 0x10:
        wanted = wanted | {Happening.SENT}
    others = {Happening.STOP_TEXT, Happening.CLICK, Happening.PREVIEW}
    return fate._replace(events=tuple(event for event in fate.events if event[1] in wanted | others))
