"""The alphabets of SMS as octets: GSM 03.38 (unpacked, one septet per octet) and its alternatives.

An SMSC's *default* alphabet (data_coding 0) should be GSM 03.38; some take Latin-1 or ASCII and translate
themselves.
"""

from typing import Literal

from tallycast.segments import GSM_BASIC, GSM_EXTENSION

Alphabet = Literal["gsm", "latin1", "ascii", "ucs2"]

_ESCAPE = 0x1B
_EXTENSION_CODES = b"\x0a\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65"  # in the order of GSM_EXTENSION
_CODECS = {"latin1": "latin-1", "ascii": "ascii", "ucs2": "utf-16-be"}

_BASIC = {code if code < _ESCAPE else code + 1: character for code, character in enumerate(GSM_BASIC)}
_EXTENSION = dict(zip(_EXTENSION_CODES, GSM_EXTENSION, strict=True))
_TO_GSM = str.maketrans(
    {character: chr(code) for code, character in _BASIC.items()}
    | {character: chr(_ESCAPE) + chr(code) for code, character in _EXTENSION.items()}
)


def encode(text: str, alphabet: Alphabet) -> bytes:
    """ValueError where the alphabet lacks a character; UCS-2 takes every text, with half a character replaced."""
    if alphabet == "gsm":
        return _encode_gsm(text)
    if alphabet == "ucs2":
        text = text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")
    return text.encode(_CODECS[alphabet])


def decode(octets: bytes, alphabet: Alphabet) -> str:
    """Never fails: what is no character of the alphabet becomes U+FFFD."""
    return _decode_gsm(octets) if alphabet == "gsm" else octets.decode(_CODECS[alphabet], "replace")


def _encode_gsm(text: str) -> bytes:
    if not set(text) <= _GSM_CHARACTERS:
        raise ValueError("a character that GSM 03.38 has not")
    return text.translate(_TO_GSM).encode("latin-1")


_GSM_CHARACTERS = frozenset(GSM_BASIC + GSM_EXTENSION)


def _decode_gsm(octets: bytes) -> str:
    characters, escaped = [], False
    for code in octets:
        if code == _ESCAPE and not escaped:
            escaped = True
            continue
        characters.append((_EXTENSION.get(code) if escaped else None) or _BASIC.get(code, "\ufffd"))
        escaped = False
    return "".join(characters)
