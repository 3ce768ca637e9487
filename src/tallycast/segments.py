"""How many parts an SMS text is sent (and charged) in, and where it is cut.

A text of GSM 03.38 characters is packed in septets, any other text in UTF-16 code units. Where the text takes
several parts, six bytes of each go to the concatenation header (seven where its reference has 16 bits). Parts are
filled greedily, and a character of two units (GSM's escape pair, UTF-16's surrogate pair) is never cut in half, so a
part may stay one unit short and a division by the part's size would be wrong.
"""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

Encoding = Literal["GSM-7", "UCS-2"]
# A text that takes more is a mistake: a column of another file, a variable that holds a page.
MAX_PARTS = 10

GSM_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = "\f^{}\\[~]|€"

_BASIC_ASCII = "".join(filter(str.isascii, GSM_BASIC)).encode()
_not_gsm = re.compile(f"[^{re.escape(GSM_BASIC + GSM_EXTENSION)}]").search


class _Packing(NamedTuple):
    encoding: Encoding
    single: int
    part: int
    double: re.Pattern[str]  # a character that takes two units
    unmark: Callable[[str, str], str]


def _packing(encoding: Encoding, single: int, part: int, double: str) -> _Packing:
    return _Packing(encoding, single, part, re.compile(double), re.compile(f"\x1b(?={double})").sub)


_GSM_7 = _packing("GSM-7", 160, 153, f"[{re.escape(GSM_EXTENSION)}]")
_UCS_2 = _packing("UCS-2", 70, 67, "[\U00010000-\U0010ffff]")
_PACKINGS: dict[Encoding, _Packing] = {"GSM-7": _GSM_7, "UCS-2": _UCS_2}


def encoding_of(text: str) -> Encoding:
    return _packing_of(text).encoding


def count_parts(text: str) -> int:
    """The length of `split_parts(text)`, without the parts; an empty text is one (empty) message."""
    if text.isascii() and not text.encode().translate(None, _BASIC_ASCII):
        packing, doubles = _GSM_7, 0
    else:
        packing = _packing_of(text)
        doubles = len(packing.double.findall(text))
    if len(text) + doubles <= packing.single:
        return 1
    if not doubles:
        return -(-len(text) // packing.part)
    return len(_cuts(_units(text, packing), packing))


def split_parts(text: str, encoding: Encoding | None = None, wide_header: bool = False) -> list[str]:
    """The text, cut as the encoding (None: its own) demands; a wide header has a 16-bit reference."""
    packing = _packing_of(text) if encoding is None else _PACKINGS[encoding]
    if wide_header:
        packing = packing._replace(part=packing.part - 1)
    units = _units(text, packing)
    if len(units) <= packing.single:
        return [text]
    ends = _cuts(units, packing)
    return [packing.unmark("", units[start:end]) for start, end in pairwise([0, *ends])]


def _packing_of(text: str) -> _Packing:
    return _UCS_2 if _not_gsm(text) else _GSM_7


def _units(text: str, packing: _Packing) -> str:
    """The text in one character per unit: a mark stands before each character that takes two."""
    return packing.double.sub("\x1b\\g<0>", text)


def _cuts(units: str, packing: _Packing) -> list[int]:
    """Where each part ends."""
    ends, end = [], 0
    while end < len(units):
        end = min(end + packing.part, len(units))
        if packing.double.match(units, end):
            end -= 1
        ends.append(end)
    return ends
