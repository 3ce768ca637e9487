"""SMPP: credentials, what is written to an SMSC, and what its refusals mean."""

import struct

import pytest
import smpp34
from hypothesis import given
from hypothesis import strategies as st

from tallycast.alphabets import decode
from tallycast.providers import PROVIDERS, generic, smpp
from tallycast.providers.contract import Action, Outgoing
from tallycast.providers.smpp import (
    Options,
    Part,
    cut,
    read_message_id,
    read_options,
    receipt_id,
    write_submit,
)
from tallycast.segments import GSM_BASIC, GSM_EXTENSION

LEAST = {"host": "smsc.example.com", "systemID": "acme"}
OPTIONS = read_options(LEAST)
BY_WAY = {way: read_options(LEAST | {"concatenation": way}) for way in ("udh8", "udh16", "sar", "payload")}
HELLO = Outgoing("+85298765432", "ACME", "tc:1.1", "hello")


def test_receipts_that_a_gateway_posts_are_still_read_as_plain_json() -> None:
    assert PROVIDERS["smpp"] is generic


def test_the_least_credentials_have_these_defaults() -> None:
    assert read_options(LEAST) == Options("smsc.example.com", 2775, "acme", "")


def test_every_credential_is_read() -> None:
    credentials = {
        "host": "10.0.0.5", "port": "3550", "systemID": "acme", "password": "s3cret", "systemType": "OTA", "tls": "true",
        "sourceTON": "0", "sourceNPI": "0", "destinationTON": "2", "destinationNPI": "8", "defaultAlphabet": "latin1",
        "concatenation": "sar", "messageIDs": "hexToDecimal", "receiptTimeZone": "Asia/Hong_Kong",
        "acceptedIsFinal": "true", "window": "50", "registeredDelivery": "17",
    }  # fmt: skip
    assert read_options(credentials) == Options(
        "10.0.0.5", 3550, "acme", "s3cret", "OTA", True, 0, 0, 2, 8, "latin1", "sar", "hexToDecimal",
        "Asia/Hong_Kong", True, 50, 17,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"host": ""}, "host must be 1 to 253 characters of ASCII", id="no host"),
        pytest.param({"systemID": ""}, "systemID must be 1 to 15 characters of ASCII", id="no account"),
        pytest.param(
            {"systemID": "a" * 16}, "systemID must be 1 to 15 characters of ASCII", id="long account"
        ),
        pytest.param({"password": "ä"}, "password must be 0 to 64 characters of ASCII", id="password"),
        pytest.param({"password": "a\0"}, "password must be 0 to 64 characters of ASCII", id="NUL"),
        pytest.param(
            {"systemType": "x" * 13}, "systemType must be 0 to 12 characters of ASCII", id="system type"
        ),
        pytest.param({"port": "smpp"}, "port must be a number from 1 to 65535", id="port of letters"),
        pytest.param({"port": "65536"}, "port must be a number from 1 to 65535", id="port too high"),
        pytest.param({"port": "９"}, "port must be a number from 1 to 65535", id="wide digits"),  # noqa: RUF001
        pytest.param({"tls": "yes"}, "tls must be one of false, true", id="tls"),
        pytest.param({"sourceTON": "7"}, "sourceTON must be a number from 0 to 6", id="TON"),
        pytest.param({"destinationNPI": "-1"}, "destinationNPI must be a number from 0 to 18", id="NPI"),
        pytest.param(
            {"defaultAlphabet": "utf8"}, "defaultAlphabet must be one of gsm, latin1, ascii", id="alphabet"
        ),
        pytest.param(
            {"concatenation": "udh"}, "concatenation must be one of udh8, udh16, sar, payload", id="way"
        ),
        pytest.param(
            {"messageIDs": "hex"},
            "messageIDs must be one of exact, hexToDecimal, decimalToHex, stripZeros, foldCase",
            id="ids",
        ),
        pytest.param(
            {"receiptTimeZone": "Hong Kong"},
            "receiptTimeZone must be the name of a time zone, such as Asia/Hong_Kong",
            id="time zone",
        ),
        pytest.param(
            {"receiptTimeZone": "../etc"},
            "receiptTimeZone must be the name of a time zone, such as Asia/Hong_Kong",
            id="a path",
        ),
        pytest.param({"window": "0"}, "window must be a number from 1 to 1000", id="window"),
        pytest.param(
            {"registeredDelivery": "32"}, "registeredDelivery must be a number from 0 to 31", id="receipts"
        ),
    ],
)
def test_a_wrong_credential_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^credentials: {message}$"):
        read_options(LEAST | changes)


def test_a_message_is_written_as_the_specification_draws_it() -> None:
    [part] = cut(OPTIONS, "hello", 0)
    assert write_submit(OPTIONS, HELLO, part, 2).hex() == (
        "0000003500000004000000000000000200050041434d4500010138353239383736353433320000000000000100"
        "00000568656c6c6f"
    )


def test_a_bind_is_written_as_the_specification_draws_it() -> None:
    options = read_options(LEAST | {"password": "pw", "systemType": "OTA"})
    assert smpp.write_bind(options, 1).hex() == (
        "0000002000000009000000000000000161636d6500707700" + "4f54410034000000"
    )


@pytest.mark.parametrize(
    ("sender", "changes", "expected"),
    [
        pytest.param("+85230001234", {}, ("85230001234", 1, 1), id="international number"),
        pytest.param("85230001234", {}, ("85230001234", 1, 1), id="the same without plus"),
        pytest.param("12345", {}, ("12345", 3, 0), id="short code"),
        pytest.param("ACME", {}, ("ACME", 5, 0), id="name"),
        pytest.param("ACME 24", {}, ("ACME 24", 5, 0), id="name with a space"),
        pytest.param("12345", {"sourceTON": "6"}, ("12345", 6, 0), id="the operator's TON"),
        pytest.param(
            "ACME", {"sourceTON": "0", "sourceNPI": "1"}, ("ACME", 0, 1), id="the operator's TON and NPI"
        ),
    ],
)
def test_a_sender_goes_out_as_what_it_looks_like(
    sender: str, changes: dict[str, str], expected: tuple[str, int, int]
) -> None:
    message = Outgoing("+85298765432", sender, "tc:1.1", "hello")
    pdu = smpp34.decode(write_submit(read_options(LEAST | changes), message, Part(b"hello", 0), 1))
    assert isinstance(pdu, smpp34.SubmitSm)
    assert (pdu.source_addr, pdu.source_addr_ton, pdu.source_addr_npi) == expected


@pytest.mark.parametrize("sender", ["", "+", "Café", "A" * 12, "1" * 21, "A\0", "A\n"])
def test_a_sender_that_is_none_is_the_channels_fault(sender: str) -> None:
    with pytest.raises(smpp.BadSender, match="the sender must be a number, or a name of at most 11 letters"):
        write_submit(OPTIONS, Outgoing("+85298765432", sender, "tc:1.1", "hello"), Part(b"hello", 0), 1)


@pytest.mark.parametrize("recipient", ["", "+", "852a", "1" * 21, "852\0"])
def test_a_recipient_that_is_no_number_is_the_messages_fault(recipient: str) -> None:
    with pytest.raises(ValueError, match="the recipient is no number") as caught:
        write_submit(OPTIONS, Outgoing(recipient, "ACME", "tc:1.1", "hello"), Part(b"hello", 0), 1)
    assert not isinstance(caught.value, smpp.BadSender)


@pytest.mark.parametrize(
    ("alphabet", "text", "expected"),
    [
        pytest.param("gsm", "@£_ù", Part(b"\x00\x01\x11\x06", 0), id="the basic table"),
        pytest.param("gsm", "{€}", Part(b"\x1b\x28\x1b\x65\x1b\x29", 0), id="the extension table"),
        pytest.param("gsm", "à Ü", Part(b"\x7f \x5e", 0), id="above the escape"),
        pytest.param("gsm", "`", Part(b"\x00`", 8), id="a character that GSM has not"),
        pytest.param("gsm", "你😀", Part(b"\x4f\x60\xd8\x3d\xde\x00", 8), id="a surrogate pair"),
        pytest.param("gsm", "你\ud83d", Part(b"\x4f\x60\xff\xfd", 8), id="half of one"),
        pytest.param("latin1", "@£{é", Part(b"@\xa3{\xe9", 0), id="Latin-1"),
        pytest.param("latin1", "€", Part(b"\x20\xac", 8), id="a character that Latin-1 has not"),
        pytest.param("ascii", "@{|}", Part(b"@{|}", 0), id="ASCII"),
        pytest.param("ascii", "é", Part(b"\x00\xe9", 8), id="a character that ASCII has not"),
    ],
)
def test_a_text_is_encoded_in_the_connections_alphabet(alphabet: str, text: str, expected: Part) -> None:
    assert cut(read_options(LEAST | {"defaultAlphabet": alphabet}), text, 0) == [expected]


@pytest.mark.parametrize(
    ("text", "narrow", "wide"),
    [
        pytest.param("a" * 160, [160], [160], id="one part"),
        pytest.param("a" * 161, [153, 8], [152, 9], id="two parts"),
        pytest.param("a" * 306, [153, 153], [152, 152, 2], id="two full parts"),
        pytest.param("a" * 307, [153, 153, 1], [152, 152, 3], id="three parts"),
        pytest.param("€" * 80, [160], [160], id="escapes in one part"),
        pytest.param("€" * 81, [152, 10], [152, 10], id="escapes in two parts"),
        pytest.param("a" * 152 + "€" + "a" * 10, [152, 12], [152, 12], id="an escape on the edge"),
        pytest.param("你" * 70, [140], [140], id="one part of UCS-2"),
        pytest.param("你" * 71, [134, 8], [132, 10], id="two parts of UCS-2"),
        pytest.param("你" * 134, [134, 134], [132, 132, 4], id="two full parts of UCS-2"),
        pytest.param("你" * 135, [134, 134, 2], [132, 132, 6], id="three parts of UCS-2"),
        pytest.param("😀" * 35, [140], [140], id="pairs in one part"),
        pytest.param("😀" * 36, [132, 12], [132, 12], id="pairs in two parts"),
    ],
)
def test_a_text_is_cut_where_no_character_is_torn(text: str, narrow: list[int], wide: list[int]) -> None:
    lengths = {way: [len(part.octets) for part in cut(BY_WAY[way], text, 7)] for way in BY_WAY}
    several = len(narrow) > 1
    assert lengths == {
        "udh8": [length + 6 * several for length in narrow],
        "udh16": [length + 7 * several for length in wide],
        "sar": narrow,
        "payload": [0],
    }


def test_an_8_bit_header_opens_each_part() -> None:
    first, second = cut(BY_WAY["udh8"], "a" * 161, 0x1234)
    assert first == Part(b"\x05\x00\x03\x34\x02\x01" + b"a" * 153, 0, 0x40)
    assert second == Part(b"\x05\x00\x03\x34\x02\x02" + b"a" * 8, 0, 0x40)


def test_a_16_bit_header_opens_each_part() -> None:
    first, second = cut(BY_WAY["udh16"], "a" * 161, 0x91234)
    assert first == Part(b"\x06\x08\x04\x12\x34\x02\x01" + b"a" * 152, 0, 0x40)
    assert second == Part(b"\x06\x08\x04\x12\x34\x02\x02" + b"a" * 9, 0, 0x40)


def test_optional_fields_join_the_parts() -> None:
    first, second = cut(BY_WAY["sar"], "a" * 161, 0x1234)
    assert first == Part(b"a" * 153, 0, 0, ((0x020C, b"\x12\x34"), (0x020E, b"\x02"), (0x020F, b"\x01")))
    assert second == Part(b"a" * 8, 0, 0, ((0x020C, b"\x12\x34"), (0x020E, b"\x02"), (0x020F, b"\x02")))


def test_a_payload_carries_the_whole_text() -> None:
    assert cut(BY_WAY["payload"], "a" * 300, 7) == [Part(b"", 0, 0, ((0x0424, b"a" * 300),))]


@pytest.mark.parametrize(
    ("way", "text", "message"),
    [
        pytest.param("udh8", "", "the message has no text", id="no text"),
        pytest.param(
            "udh8", "a" * (255 * 153 + 1), "the text takes 256 parts, at most 255", id="too many parts"
        ),
        pytest.param(
            "payload", "a" * 65_536, "the text takes 65536 octets, at most 65535", id="too long a payload"
        ),
    ],
)
def test_a_text_that_cannot_be_sent_is_refused(way: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut(BY_WAY[way], text, 0)


def reassemble(parts: list[Part]) -> str:
    """The text that a handset shows."""
    texts = []
    for part in parts:
        body = dict(part.tlvs).get(0x0424, part.octets)
        if part.esm_class & 0x40:
            body = body[body[0] + 1 :]
        texts.append(decode(body, "ucs2" if part.data_coding == 8 else "gsm"))
    return "".join(texts)


@given(
    st.text(st.sampled_from(GSM_BASIC + GSM_EXTENSION), min_size=1, max_size=700)
    | st.text(st.sampled_from("ab你😀€\U0010ffff"), min_size=1, max_size=300)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300),
    st.sampled_from(sorted(BY_WAY)),
    st.integers(0, 2**20),
)
def test_the_handset_shows_what_was_sent(text: str, way: str, number: int) -> None:
    parts = cut(BY_WAY[way], text, number)
    assert reassemble(parts) == text
    for sequence, part in enumerate(parts, 1):
        assert len(part.octets) <= 160 + 7
        pdu = write_submit(OPTIONS, HELLO, part, sequence)
        sent = smpp34.decode(pdu)
        assert isinstance(sent, smpp34.SubmitSm)
        assert (sent.short_message, sent.data_coding, sent.esm_class) == (
            part.octets, part.data_coding, part.esm_class,
        )  # fmt: skip
        assert tuple((tlv.tag, tlv.value) for tlv in sent.tlvs) == part.tlvs


@pytest.mark.parametrize(
    ("how", "answered", "received", "stored"),
    [
        pytest.param("exact", "00AbF", "00AbF", "00AbF", id="exact"),
        pytest.param("hexToDecimal", "1a2B", "6699", "6699", id="hex, then decimal"),
        pytest.param("hexToDecimal", "00001a2b", "0000006699", "6699", id="hex, then decimal, both padded"),
        pytest.param("hexToDecimal", "not-hex", "not-hex", "not-hex", id="hex that is none"),
        pytest.param("decimalToHex", "6699", "1A2B", "1a2b", id="decimal, then hex"),
        pytest.param("decimalToHex", "0006699", "00001a2b", "1a2b", id="decimal, then hex, both padded"),
        pytest.param("stripZeros", "0042", "42", "42", id="zeros in the answer"),
        pytest.param("stripZeros", "42", "0000042", "42", id="zeros in the receipt"),
        pytest.param("stripZeros", "000", "0", "0", id="nothing but zeros"),
        pytest.param("foldCase", "abC-1", "ABc-1", "abc-1", id="case"),
    ],
)
def test_an_id_is_stored_as_receipts_will_name_it(
    how: str, answered: str, received: str, stored: str
) -> None:
    options = read_options(LEAST | {"messageIDs": how})
    assert read_message_id(options, answered.encode() + b"\0") == stored
    assert receipt_id(options, received) == stored


@pytest.mark.parametrize("body", [b"", b"\0", b"\0rest"])
def test_an_answer_may_name_no_id(body: bytes) -> None:
    assert read_message_id(OPTIONS, body) == ""


@pytest.mark.parametrize(
    ("status", "action", "wait"),
    [
        pytest.param(0x58, Action.SLOW_DOWN, 1, id="throttled"),
        pytest.param(0x14, Action.SLOW_DOWN, 1, id="queue full"),
        pytest.param(0x08, Action.RETRY, 5, id="system error"),
        pytest.param(0x45, Action.RETRY, 5, id="submit failed"),
        pytest.param(0x64, Action.RETRY, 30, id="not at the moment"),
        pytest.param(0x0A, Action.FAIL, 5, id="sender"),
        pytest.param(0x0B, Action.FAIL, 5, id="recipient"),
        pytest.param(0x01, Action.FAIL, 5, id="length"),
        pytest.param(0x43, Action.FAIL, 5, id="class"),
        pytest.param(0x66, Action.FAIL, 5, id="rejected"),
        pytest.param(0x0D, Action.PAUSE_CHANNEL, 5, id="bind failed"),
        pytest.param(0x0E, Action.PAUSE_CHANNEL, 5, id="password"),
        pytest.param(0x0F, Action.PAUSE_CHANNEL, 5, id="account"),
        pytest.param(0x412, Action.RETRY, 10, id="a vendor's code"),
        pytest.param(0xFFFF_FFFF, Action.RETRY, 10, id="no code at all"),
    ],
)
def test_a_refusal_means_this(status: int, action: Action, wait: float) -> None:
    error = smpp.refusal(status)
    assert (error.code, error.rule.action, error.rule.wait_seconds) == (f"0x{status:02X}", action, wait)
    assert error.title == error.rule.words


@pytest.mark.parametrize(
    ("status", "action"),
    [
        pytest.param(0x0E, Action.PAUSE_CHANNEL, id="password"),
        pytest.param(0x03, Action.PAUSE_CHANNEL, id="a command that is not known"),
        pytest.param(0x05, Action.SLOW_DOWN, id="bound already"),
        pytest.param(0x08, Action.SLOW_DOWN, id="system error"),
        pytest.param(0x58, Action.SLOW_DOWN, id="throttled"),
        pytest.param(0x412, Action.SLOW_DOWN, id="a vendor's code"),
    ],
)
def test_no_message_fails_of_a_refused_bind(status: int, action: Action) -> None:
    assert smpp.bind_refusal(status).rule.action == action


def test_every_code_is_written_as_refusals_name_it() -> None:
    for code in smpp.ERRORS:
        assert smpp.refusal(int(code, 16)).code == code


def test_any_pdu_opens_with_its_length() -> None:
    assert smpp.write(0x80000005, 9, 0x64, b"\0") == struct.pack(">IIII", 17, 0x80000005, 0x64, 9) + b"\0"
