"""A cell of a contact list as an E.164 number and its country.

The metadata of `phonenumbers` decides: calling code, national prefix, possible lengths, and the patterns that
tell the regions of one calling code apart. The library's functions compile these patterns again and again for
a list that mixes countries, so they are kept here; `tests/test_numbers.py` compares the answers to its own.
"""

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata
from phonenumbers.phonemetadata import PhoneNumberDesc


class InvalidNumber(ValueError):
    """The text is no number that can be sent to; the message tells its writer why."""


class Number(NamedTuple):
    """`country`: an ISO 3166 alpha-2 code, or Kosovo's XK; None where the number belongs to or shows none."""

    e164: str
    country: str | None


Match = Callable[[str], re.Match[str] | None]

_MAX_INPUT = 100
_E164_DIGITS = range(7, 16)
_REGIONS = {str(code): regions for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items()}
# The library's regions that have no country code of their own in ISO 3166.
_COUNTRIES: dict[str | None, str | None] = {"AC": "SH", "TA": "SH", "001": None}

_clean_number = re.compile(r"\+?[1-9][0-9]{6,14}").fullmatch
_excel_exponent = re.compile(r"\+?[0-9]+(?:[.,][0-9]+)?E\+?[0-9]+", re.IGNORECASE).fullmatch
_excel_decimal = re.compile(r"\+?[0-9]+\.0").fullmatch
_NOTHING = r"(?!)"
_INVISIBLE = re.compile(r"[\s\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+")
_PUNCTUATION = re.compile(r"[-.()\u2010-\u2015\u2212\ufe58\ufe63\uff08\uff09\uff0d\uff0e]+")


def parse_number(raw: str) -> Number:
    """The number that `raw` writes with its country code, with or without `+`; raises InvalidNumber.

    A possible number is taken even where the metadata does not know its range yet. Digits without `+` may be
    a national number that only seems to begin with a country code, so they must also be valid, or as long as
    a mobile number of that country.
    """
    try:
        text = raw if _clean_number(raw) else clean(raw)
    except TypeError:
        raise InvalidNumber("not a phone number: not a text") from None
    digits = text.removeprefix("+")
    bare = text[0] != "+"
    code = next((digits[:width] for width in (1, 2, 3) if digits[:width] in _REGIONS), None)
    if code is None:
        raise InvalidNumber("country code missing" if bare else "no country has this country code")
    plan = _plan(code)
    national = digits[len(code) :]
    prefix = plan.national_prefix(national)
    if prefix and (prefix.end() or prefix.lastindex):
        national = _without_national_prefix(code, national)
    length = len(national)
    if length not in plan.lengths:
        fault = "too short" if length < min(plan.lengths) else "wrong length"
        fault = "too long" if length > max(plan.lengths) else fault
        hint = "; is the country code missing?" if bare else ""
        raise InvalidNumber(f"{fault} for a number of country code +{code}{hint}")
    doubtful = bare and length not in plan.mobile_lengths
    region = _region(code, national) if doubtful or plan.shared else None
    if doubtful and not (region and _patterns(code, region).valid(national)):
        raise InvalidNumber(f"country code missing? Write + before the number if it begins with +{code}")
    return Number(f"+{code}{national}", _COUNTRIES.get(region, region) if plan.shared else plan.country)


def clean(raw: str) -> str:
    """Digits, perhaps after a `+`, of a number as people and spreadsheets write it; raises InvalidNumber."""
    if len(raw) > _MAX_INPUT:
        raise InvalidNumber("not a phone number: too long")
    text = _INVISIBLE.sub("", raw).replace("\uff0b", "+")
    text = "".join(str(unicodedata.decimal(character, character)) for character in text)
    if text.startswith(("'", "\u2019")):
        text = text[1:]
    if not text:
        raise InvalidNumber("no phone number: empty")
    if _excel_exponent(text):
        raise InvalidNumber("Excel has cut the number's digits (as in 8.5E+10): format the column as text")
    if _excel_decimal(text):
        text = text[:-2]
    text = _PUNCTUATION.sub("", text)
    if text.startswith("00"):
        text = "+" + text[2:]
    if not text.removeprefix("+").isdecimal():
        raise InvalidNumber("not a phone number: only digits, spaces and + - . ( ) are expected")
    return text


def is_landline(number: Number) -> bool:
    """Whether it is known to be a landline: not where a country's mobiles look the same, or the range is new."""
    digits = number.e164[1:]
    code = next(digits[:width] for width in (1, 2, 3) if digits[:width] in _REGIONS)
    national = digits[len(code) :]
    region = _region(code, national)
    return region is not None and _landlines(code, region)(national) is not None


class _Plan(NamedTuple):
    """What the numbers of one calling code have in common."""

    country: str | None
    shared: bool  # by several countries
    national_prefix: Match
    lengths: frozenset[int]
    mobile_lengths: frozenset[int]


@cache
def _plan(code: str) -> _Plan:
    countries = {_COUNTRIES.get(region, region) for region in _REGIONS[code]}
    shared = len(countries) > 1
    main = _metadata(code, _REGIONS[code][0])
    prefix = re.compile(main.national_prefix_for_parsing or _NOTHING).match
    lengths, mobile_lengths = (
        frozenset(n for n in (kind.possible_length if kind else ()) if len(code) + n in _E164_DIGITS)
        for kind in (main.general_desc, main.mobile)
    )
    return _Plan(None if shared else countries.pop(), shared, prefix, lengths, mobile_lengths)


def _metadata(code: str, region: str) -> PhoneMetadata:
    metadata = PhoneMetadata.metadata_for_region_or_calling_code(int(code), region)
    assert metadata is not None, code
    return metadata


def _without_national_prefix(code: str, national: str) -> str:
    try:
        return phonenumbers.national_significant_number(phonenumbers.parse(f"+{code}{national}"))
    except phonenumbers.NumberParseException:  # of no possible length, with or without the prefix
        return national


def _region(code: str, national: str) -> str | None:
    """Where a number belongs; None where that takes a valid number and this is not one."""
    regions = _REGIONS[code]
    if len(regions) == 1:
        return regions[0]
    for region in regions:
        patterns = _patterns(code, region)
        if (patterns.leading_digits or patterns.valid)(national):
            return region
    return None


class _Patterns(NamedTuple):
    leading_digits: Match | None  # they alone tell a region from the others of its code
    valid: Match


@cache
def _patterns(code: str, region: str) -> _Patterns:
    data = _metadata(code, region)
    kinds = [data.fixed_line, data.toll_free, data.premium_rate, data.shared_cost, data.voip]
    kinds += [data.personal_number, data.pager, data.uan, data.voicemail]
    if not data.same_mobile_and_fixed_line_pattern:
        kinds.insert(0, data.mobile)
    valid = re.compile(f"(?={_pattern(data.general_desc)}\\Z)(?:{'|'.join(map(_pattern, kinds))})")
    leading_digits = re.compile(data.leading_digits).match if data.leading_digits else None
    return _Patterns(leading_digits, valid.fullmatch)


@cache
def _landlines(code: str, region: str) -> Match:
    """Landlines as `phonenumbers.number_type` tells them: a number that is also of another kind is of that kind."""
    data = _metadata(code, region)
    if data.same_mobile_and_fixed_line_pattern:
        return re.compile(_NOTHING).fullmatch
    others = [data.mobile, data.toll_free, data.premium_rate, data.shared_cost, data.voip]
    others += [data.personal_number, data.pager, data.uan, data.voicemail]
    other = f"(?:{'|'.join(map(_pattern, others))})\\Z"
    return re.compile(f"(?={_pattern(data.general_desc)}\\Z)(?!{other}){_pattern(data.fixed_line)}").fullmatch


def _pattern(kind: PhoneNumberDesc | None) -> str:
    if not kind or not kind.national_number_pattern:
        return _NOTHING
    lengths = "|".join(f".{{{length}}}" for length in kind.possible_length)
    return f"(?:(?=(?:{lengths})\\Z)(?:{kind.national_number_pattern}))"
