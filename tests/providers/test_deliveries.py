"""What an SMSC brings: receipts by text and by optional fields, and people's texts."""

import struct

import pytest
import smpp34
from hypothesis import example, given
from hypothesis import strategies as st

from tallycast.events import Event, Receipt, Status, TextReply, Unreadable
from tallycast.providers.deliveries import read_delivery
from tallycast.providers.smpp import Options, read_options

LEAST = {"host": "smsc.example.com", "systemID": "acme"}
OPTIONS = read_options(LEAST)
NOW_MS = 1_795_402_920_000
AT_MS = 1_795_402_860_000  # 2026-11-23 03:01 UTC
APPENDIX_B = (
    "id:00000001 sub:001 dlvrd:001 submit date:2611230300 done date:2611230301 stat:DELIVRD err:000 "
    "text:Hi Mei, 20% off toda"
)


def deliver(body: bytes | str, esm_class: int = 0x04, **fields: bytes | int) -> bytes:
    """A deliver_sm; `x001e=…` is an optional field."""
    tlvs = [
        smpp34.Tlv(int(name[1:], 16), value) for name, value in fields.items() if isinstance(value, bytes)
    ]
    numbers = {name: value for name, value in fields.items() if isinstance(value, int)}
    octets = body.encode("latin-1") if isinstance(body, str) else body
    header = {"source_addr_ton": 1, "source_addr_npi": 1, "sequence_number": 7} | numbers
    return smpp34.DeliverSm("85298765432", "ACME", octets, esm_class=esm_class, tlvs=tlvs, **header).encode()  # type: ignore[arg-type]


def read(pdu: bytes, now_ms: int = NOW_MS, **credentials: str) -> Event:
    [event] = read_delivery(pdu, read_options(LEAST | credentials), now_ms)
    return event


def test_a_receipt_by_text_is_read() -> None:
    assert read(deliver(APPENDIX_B)) == Receipt("00000001", Status.DELIVERED, AT_MS)


def test_a_receipt_by_optional_fields_is_read() -> None:
    pdu = deliver("", x001e=b"00000001\0", x0427=b"\x02")
    assert read(pdu) == Receipt("00000001", Status.DELIVERED)


def test_optional_fields_go_before_the_text() -> None:
    pdu = deliver("id:9 stat:UNDELIV done date:2611230301 err:011", x001e=b"7\0", x0427=b"\x02")
    assert read(pdu) == Receipt("7", Status.DELIVERED, AT_MS)


def test_a_text_that_quotes_a_receipt_does_not_change_it() -> None:
    pdu = deliver("id:1 stat:UNDELIV err:011 Text:id:2 stat:DELIVRD done date:2611230301")
    assert read(pdu) == Receipt("1", Status.FAILED, None, "011", "Could not be delivered")


@pytest.mark.parametrize(
    ("number", "word", "expected"),
    [
        pytest.param(0, "SCHEDULED", Receipt("1", Status.ACCEPTED), id="scheduled"),
        pytest.param(1, "ENROUTE", Receipt("1", Status.ACCEPTED), id="en route"),
        pytest.param(2, "DELIVRD", Receipt("1", Status.DELIVERED), id="delivered"),
        pytest.param(
            3, "EXPIRED", Receipt("1", Status.FAILED, None, "EXPIRED", "Expired before it could be delivered"), id="expired"
        ),
        pytest.param(4, "DELETED", Receipt("1", Status.FAILED, None, "DELETED", "Deleted by the operator"), id="deleted"),
        pytest.param(5, "UNDELIV", Receipt("1", Status.FAILED, None, "UNDELIV", "Could not be delivered"), id="undeliverable"),
        pytest.param(6, "ACCEPTD", Receipt("1", Status.ACCEPTED), id="accepted"),
        pytest.param(
            7,
            "UNKNOWN",
            Receipt("1", Status.FAILED, None, "UNKNOWN", "The operator does not know what became of it"),
            id="unknown",
        ),
        pytest.param(8, "REJECTD", Receipt("1", Status.FAILED, None, "REJECTD", "Rejected by the operator"), id="rejected"),
        pytest.param(9, "SKIPPED", Receipt("1", Status.FAILED, None, "SKIPPED", "Skipped by the operator"), id="skipped"),
    ],
)  # fmt: skip
def test_a_state_means_the_same_as_a_number_and_as_a_word(number: int, word: str, expected: Receipt) -> None:
    assert read(deliver("", x001e=b"1\0", x0427=bytes([number]))) == expected
    assert read(deliver(f"id:1 stat:{word} err:000")) == expected


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("DELIVERED", Status.DELIVERED),
        ("delivrd", Status.DELIVERED),
        ("ACCEPTED", Status.ACCEPTED),
        ("BUFFRED", Status.ACCEPTED),
        ("BUFFERED", Status.ACCEPTED),
        ("UNDELIVERABLE", Status.FAILED),
        ("REJECTED", Status.FAILED),
        ("FAILED", Status.FAILED),
    ],
)
def test_other_spellings_are_known(word: str, status: Status) -> None:
    event = read(deliver(f"id:1 stat:{word}"))
    assert isinstance(event, Receipt)
    assert event.status is status


def test_accepted_is_final_where_the_operator_means_it_so() -> None:
    assert read(deliver("id:1 stat:ACCEPTD"), acceptedIsFinal="true") == Receipt("1", Status.DELIVERED)


@pytest.mark.parametrize("word", ["DELIVRD", "UNDELIV", "ENROUTE"])
def test_an_intermediate_notification_is_never_final(word: str) -> None:
    assert read(deliver(f"id:1 stat:{word}", 0x20)) == Receipt("1", Status.ACCEPTED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("ID:AbC STAT:DELIVRD DONE DATE:2611230301", Receipt("AbC", Status.DELIVERED, AT_MS), id="upper case"),
        pytest.param("stat:DELIVRD id:1", Receipt("1", Status.DELIVERED), id="another order, keys missing"),
        pytest.param("id: 1 sub: 001 stat: DELIVRD", Receipt("1", Status.DELIVERED), id="spaces after colons"),
        pytest.param("id:a-b.c/4_d stat:DELIVRD", Receipt("a-b.c/4_d", Status.DELIVERED), id="an odd id"),
        pytest.param("id:1 done_date:2611230301 stat:DELIVRD", Receipt("1", Status.DELIVERED, AT_MS), id="an underscore"),
        pytest.param("id:1 done date:261123030100 stat:DELIVRD", Receipt("1", Status.DELIVERED, AT_MS), id="12 digits"),
        pytest.param("id:1 done date:202611230301 stat:DELIVRD", Receipt("1", Status.DELIVERED, AT_MS), id="the year in four"),
        pytest.param("id:1 done date:20261123030100 stat:DELIVRD", Receipt("1", Status.DELIVERED, AT_MS), id="14 digits"),
        pytest.param("id:1 done date:2613990000 stat:DELIVRD", Receipt("1", Status.DELIVERED), id="a date that is none"),
        pytest.param("id:1 done date:0000000000 stat:DELIVRD", Receipt("1", Status.DELIVERED), id="a date of zeros"),
        pytest.param(
            "id:1 stat:REJECTD err:EC_7", Receipt("1", Status.FAILED, None, "EC_7", "Rejected by the operator"), id="err of letters"
        ),
        pytest.param(
            "id:1 stat:REJECTD err:1F", Receipt("1", Status.FAILED, None, "1F", "Rejected by the operator"), id="err in hex"
        ),
        pytest.param(
            "id:1 stat:DELIVRD err:011", Receipt("1", Status.DELIVERED), id="err of a message that has not failed"
        ),
        pytest.param("\0".join("_id:1 stat:DELIVRD")[1:], Receipt("1", Status.DELIVERED), id="UCS-2"),
    ],
)  # fmt: skip
def test_a_vendors_text_is_read_as_this_receipt(text: str, expected: Receipt) -> None:
    assert read(deliver(text)) == expected


@pytest.mark.parametrize(
    ("zone", "digits", "at_ms"),
    [
        pytest.param("Asia/Hong_Kong", "2611231101", AT_MS, id="east"),
        pytest.param("America/New_York", "2611222201", AT_MS, id="west"),
        pytest.param("Europe/Berlin", "2607010200", 1_782_864_000_000, id="summer"),
    ],
)
def test_dates_are_the_smscs_own_time(zone: str, digits: str, at_ms: int) -> None:
    pdu = deliver(f"id:1 done date:{digits} stat:DELIVRD")
    assert read(pdu, receiptTimeZone=zone) == Receipt("1", Status.DELIVERED, at_ms)


@pytest.mark.parametrize(
    ("field", "code", "title"),
    [
        pytest.param(b"\x03\x00\x01", "1", "Unknown subscriber", id="GSM"),
        pytest.param(b"\x03\x00\x1b", "27", "Absent subscriber", id="GSM again"),
        pytest.param(b"\x03\x01\xf4", "500", "Could not be delivered", id="GSM, not listed"),
        pytest.param(b"\x01\x00\x01", "1", "Could not be delivered", id="another network"),
        pytest.param(b"\x03\x00\x00", "042", "Could not be delivered", id="no error"),
        pytest.param(b"\x03\x00", "042", "Could not be delivered", id="too short"),
    ],
)
def test_the_networks_error_is_kept_with_its_words(field: bytes, code: str, title: str) -> None:
    pdu = deliver("id:1 stat:UNDELIV err:042", x0423=field)
    assert read(pdu) == Receipt("1", Status.FAILED, None, code, title)


def test_a_receipt_may_come_as_payload() -> None:
    assert read(deliver("", x0424=APPENDIX_B.encode())) == Receipt("00000001", Status.DELIVERED, AT_MS)


def test_an_id_is_spelled_as_the_answer_was() -> None:
    assert read(deliver("id:0006699 stat:DELIVRD"), messageIDs="hexToDecimal") == Receipt(
        "6699", Status.DELIVERED
    )


def test_a_receipt_that_is_not_marked_is_known_by_fields_that_no_handset_can_set() -> None:
    assert read(deliver("anything", 0, x001e=b"1\0", x0427=b"\x02")) == Receipt("1", Status.DELIVERED)


def test_a_person_cannot_write_a_receipt() -> None:
    assert isinstance(read(deliver(APPENDIX_B, 0)), TextReply)


def reply(text: str, inbound_id: str, sender: str = "+85298765432") -> TextReply:
    return TextReply(text, inbound_id, None, None, sender)


def inbound_id(event: Event) -> str:
    assert isinstance(event, TextReply)
    return event.inbound_id


@pytest.mark.parametrize(
    ("body", "data_coding", "esm_class", "text"),
    [
        pytest.param(b"STOP", 0, 0, "STOP", id="the default alphabet"),
        pytest.param(b"Gr\x7e\x1e \x1b\x65", 0, 0, "Grüß €", id="GSM 03.38"),
        pytest.param(b"\x1b", 0, 0, None, id="a lone escape"),
        pytest.param(b"\x1b\x1be", 0, 0, "\ufffde", id="an escaped escape"),
        pytest.param(b"\x1bA", 0, 0, "A", id="an escape before a plain character"),
        pytest.param(b"{a}", 1, 0, "{a}", id="ASCII"),
        pytest.param(b"Gr\xfc\xdfe", 3, 0, "Grüße", id="Latin-1"),
        pytest.param("停止😀".encode("utf-16-be"), 8, 0, "停止😀", id="UCS-2"),
        pytest.param(b"\x50\x5c\x6b", 8, 0, "停\ufffd", id="half a character"),
        pytest.param(b"STOP", 0x10, 0, "STOP", id="a message class"),
        pytest.param("停".encode("utf-16-be"), 0x18, 0, "停", id="a message class in UCS-2"),
        pytest.param(b"STOP", 0xF0, 0, "STOP", id="a flash message"),
        pytest.param(b"\xe9", 0xF5, 0, "é", id="8-bit data"),
        pytest.param(b"\x05\x00\x03\x07\x02\x01STOP", 0, 0x40, "STOP", id="a part of a longer text"),
        pytest.param(b"ST\0OP", 3, 0, "STOP", id="NUL"),
        pytest.param(b"STOP", 0, 0x01, "STOP", id="a message mode"),
    ],
)
def test_a_persons_text_is_read(body: bytes, data_coding: int, esm_class: int, text: str | None) -> None:
    event = read(deliver(body, esm_class, data_coding=data_coding))
    if text is None:
        assert isinstance(event, Unreadable)
    else:
        assert event == reply(text, inbound_id(event))


@pytest.mark.parametrize(
    ("address", "ton", "sender"),
    [
        pytest.param("85298765432", 1, "+85298765432", id="international"),
        pytest.param("85298765432", 0, "+85298765432", id="long enough to be international"),
        pytest.param("12345", 0, "12345", id="short code"),
        pytest.param("98765432", 2, "98765432", id="national"),
        pytest.param("+85298765432", 1, "+85298765432", id="with its plus"),
        pytest.param("BANK", 5, "BANK", id="name"),
        pytest.param("", 0, None, id="nobody"),
    ],
)
def test_a_sender_is_known_by_its_international_number(address: str, ton: int, sender: str | None) -> None:
    event = read(smpp34.DeliverSm(address, "ACME", b"STOP", source_addr_ton=ton, sequence_number=1).encode())
    assert isinstance(event, TextReply)
    assert event.sender == sender


def test_a_text_that_comes_again_has_the_same_id() -> None:
    first = inbound_id(read(deliver("STOP", 0)))
    assert first.startswith("mo-")
    assert inbound_id(read(deliver("STOP", 0, sequence_number=8), NOW_MS + 60_000)) == first


def test_another_text_and_a_later_one_have_another_id() -> None:
    texts = [
        read(deliver("STOP", 0)),
        read(deliver("stop", 0)),
        read(deliver("STOP", 0), NOW_MS + 600_000),
        read(smpp34.DeliverSm("85298765433", "ACME", b"STOP", sequence_number=1).encode()),
        read(smpp34.DeliverSm("85298765432", "ACME2", b"STOP", sequence_number=1).encode()),
    ]
    assert len({inbound_id(text) for text in texts}) == 5


@pytest.mark.parametrize(
    ("pdu", "reason"),
    [
        pytest.param(deliver("stat:DELIVRD"), "an empty id", id="no id"),
        pytest.param(deliver("id: sub:001 stat:DELIVRD"), "an empty id", id="an empty id"),
        pytest.param(deliver("id:1"), "state '' is unknown", id="no state"),
        pytest.param(deliver("id:1 stat:LOST"), "state 'LOST' is unknown", id="another state"),
        pytest.param(deliver("", x001e=b"1\0", x0427=b"\xff"), "state '255' is unknown", id="another number"),
        pytest.param(deliver("x" * 200), "an empty id", id="a receipt that is none"),
        pytest.param(deliver("", 0), "a message without text is kept, not counted", id="no text"),
        pytest.param(deliver("x", 0x08), "a message of esm_class 0x08 is kept, not counted", id="delivery acknowledged"),
        pytest.param(deliver("x", 0x10), "a message of esm_class 0x10 is kept, not counted", id="read by a person"),
        pytest.param(deliver("stat:DELIVRD", x001e=b"y" * 256), "an id of 256 characters, at most 255 are expected", id="long id"),
        pytest.param(struct.pack(">IIII", 16, 0x103, 0, 1), "not a deliver_sm", id="data_sm"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_kept_whole(pdu: bytes, reason: str) -> None:
    assert read(pdu) == Unreadable(reason, pdu)


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_pdu_that_breaks_off_is_kept_whole(cut: int) -> None:
    pdu = deliver(APPENDIX_B, x001e=b"1\0")[:cut]
    event = read(pdu)
    assert isinstance(event, Unreadable)
    assert event.raw == pdu


BODIES = st.text(st.sampled_from("id: stadone err0129DELIVRDx\0ÿ"), max_size=120).map(
    lambda text: text.encode("latin-1")
)


@given(
    BODIES | st.binary(max_size=200),
    st.integers(0, 255),
    st.integers(0, 255),
    st.dictionaries(st.sampled_from([0x1E, 0x423, 0x424, 0x427, 0x1400]), st.binary(max_size=20)),
)
@example(b"", 0x44, 0, {})
@example(b"\xff", 0x40, 0, {})
def test_reading_never_fails(body: bytes, esm_class: int, data_coding: int, fields: dict[int, bytes]) -> None:
    tlvs = [smpp34.Tlv(tag, value) for tag, value in fields.items()]
    pdu = smpp34.DeliverSm(
        "852", "ACME", body, esm_class=esm_class, data_coding=data_coding, tlvs=tlvs, sequence_number=1
    ).encode()
    assert len(read_delivery(pdu, OPTIONS, NOW_MS)) == 1


@given(st.binary(max_size=120), st.booleans())
def test_reading_octets_of_any_kind_never_fails(octets: bytes, framed: bool) -> None:
    pdu = struct.pack(">IIII", 16 + len(octets), 5, 0, 1) + octets if framed else octets
    options = Options("h", 1, "a", "", message_ids="decimalToHex")
    assert len(read_delivery(pdu, options, NOW_MS)) == 1
