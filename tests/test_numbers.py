"""A cell of a contact list is read as the E.164 number and country that libphonenumber's metadata gives it."""

import random
from collections.abc import Iterator
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata, PhoneNumberFormat, PhoneNumberType, ValidationResult

from tallycast.numbers import InvalidNumber, Number, is_landline, parse_number


@pytest.mark.parametrize(
    ("raw", "e164", "country"),
    [
        ("+85298765432", "+85298765432", "HK"),
        ("+441624123456", "+441624123456", "IM"),
        ("+447911123456", "+447911123456", "GG"),
        ("+447400123456", "+447400123456", "GB"),
        ("+441534123456", "+441534123456", "JE"),
        ("+12423591234", "+12423591234", "BS"),
        ("+12025550100", "+12025550100", "US"),
        ("+14165550100", "+14165550100", "CA"),
        ("+77012345678", "+77012345678", "KZ"),
        ("+79161234567", "+79161234567", "RU"),
        ("+390669812345", "+390669812345", "VA"),
        ("+390612345678", "+390612345678", "IT"),
        ("+393123456789", "+393123456789", "IT"),
        ("+4917612345678", "+4917612345678", "DE"),
        ("+5491123456789", "+5491123456789", "AR"),
        ("+5531987654321", "+5531987654321", "BR"),
        ("+2250123456789", "+2250123456789", "CI"),
    ],
)
def test_the_country_is_that_of_the_number_also_where_countries_share_a_code(
    raw: str, e164: str, country: str
) -> None:
    assert parse_number(raw) == Number(e164, country)


@pytest.mark.parametrize(
    ("raw", "country"),
    [("+38344123456", "XK"), ("+24740123", "SH"), ("+29081234", "SH"), ("+29051234", "SH")],
)
def test_a_country_is_an_iso_code_or_kosovo(raw: str, country: str) -> None:
    assert parse_number(raw) == Number(raw, country)


@pytest.mark.parametrize("raw", ["+8823421234", "+80012345678", "+870773111632"])
def test_a_number_of_no_country_has_none(raw: str) -> None:
    assert parse_number(raw) == Number(raw, None)


@pytest.mark.parametrize(
    ("raw", "country"),
    [
        ("+85212345678", "HK"),
        ("+4912345", "DE"),
        ("+10000000000", None),
        ("+440000000000", None),
        ("+12420000000", "BS"),
        ("+70000000000", None),
        ("+3900000000", None),
    ],
)
def test_a_possible_number_of_an_unknown_range_is_taken_and_a_shared_code_alone_names_no_country(
    raw: str, country: str | None
) -> None:
    assert not phonenumbers.is_valid_number(phonenumbers.parse(raw))
    assert parse_number(raw).country == country


@pytest.mark.parametrize(
    "raw",
    [
        "85298765432",
        "0085298765432",
        "00 852 9876 5432",
        " +852 9876-5432\n",
        "+852.9876.5432",
        "(+852) 9876 5432",
        "+852 (9876) 5432",
        "'+85298765432",
        "'85298765432",
        " '85298765432",
        "\u2019+85298765432",
        "\ufeff+85298765432",
        "+852\xa09876\u202f5432",
        "\u202a+85298765432\u202c",
        "\u200e+852\u200b9876\u20605432\u200d",
        "+852\u20119876\u20135432\u2014",
        "+852\u22129876\uff0d5432",
        "\uff18\uff15\uff12\uff19\uff18\uff17\uff16\uff15\uff14\uff13\uff12",
        "\uff0b\uff18\uff15\uff12\uff0898\uff0976\uff0e5432",
        "٨٥٢٩٨٧٦٥٤٣٢",
        "85298765432.0",
        "+85298765432.0",
        "'85298765432.0",
    ],
)
def test_a_number_may_be_written_as_people_and_spreadsheets_write_it(raw: str) -> None:
    assert parse_number(raw) == Number("+85298765432", "HK")


@pytest.mark.parametrize(
    ("raw", "e164"),
    [
        ("+44 (0)20 7946 0958", "+442079460958"),
        ("+49 (0) 176 12345678", "+4917612345678"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+54 11 15-2345-6789", "+5491123456789"),
        ("+55 0 15 31 98765 4321", "+5531987654321"),
        ("+7 8 916 123 45 67", "+79161234567"),
    ],
)
def test_a_national_prefix_after_the_country_code_is_dropped_and_an_italian_zero_is_kept(
    raw: str, e164: str
) -> None:
    assert parse_number(raw).e164 == e164


@pytest.mark.parametrize(
    "raw", ["8.5299E+10", "8.5299e+10", "8,5299E+10", "+8.5299E+10", "8.5299E10", "'8.5299E+10", "9E+10"]
)
def test_a_number_that_excel_has_cut_is_refused_by_that_name(raw: str) -> None:
    with pytest.raises(InvalidNumber, match=r"Excel .*digits"):
        parse_number(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "empty"),
        (" \u200b\xa0", "empty"),
        ("'", "empty"),
        ("+", "only digits"),
        ("00", "only digits"),
        ("()-", "only digits"),
        ("abc", "only digits"),
        ("+85298765432abc", "only digits"),
        ("+1800FLOWERS", "only digits"),
        ("tel:+85298765432", "only digits"),
        ("+85298765432 x12", "only digits"),
        ("+85298765432/+85291234567", "only digits"),
        ("++85298765432", "only digits"),
        ("+852987654²", "only digits"),
        ("+85298765432\x00", "only digits"),
        ("\ud800", "only digits"),
        ("12", "country code missing"),
        ("98765432", "country code missing"),
        ("61234567", "country code missing"),
        ("098765432", "country code missing"),
        ("01185298765432", "country code missing"),
        ("2125550100", "country code missing"),
        ("999123456789", "country code missing"),
        ("+999123456789", "no country has this country code"),
        ("+0085298765432", "no country has this country code"),
        ("000085298765432", "no country has this country code"),
        ("+1", "too short"),
        ("+8521", "too short"),
        ("+12345", "too short"),
        ("+491234", "too short"),
        ("+15550100", "too short"),
        ("+123456789012", "too long"),
        ("+49301234567890123", "too long"),
        ("+" + "7" * 99, "too long"),
        ("7" * 101, "too long"),
        ("8" * 10_000_000, "too long"),
        (" " * 10_000_000, "too long"),
        ("+8529876543210", "wrong length"),
    ],
)
def test_a_text_that_is_no_number_with_a_country_code_is_refused_with_the_reason(
    raw: str, message: str
) -> None:
    with pytest.raises(InvalidNumber, match=message):
        parse_number(raw)


@pytest.mark.parametrize("raw", [None, 85298765432, 1.5, b"+85298765432", True, ["+85298765432"], {}])
def test_a_value_that_is_no_text_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidNumber, match="not a text"):
        parse_number(raw)


@given(st.text(st.one_of(st.sampled_from("+0123456789. -()'E\uff10"), st.characters()), max_size=120))
def test_any_text_gives_a_number_in_e164_or_the_one_exception(raw: str) -> None:
    try:
        number = parse_number(raw)
    except InvalidNumber:
        return
    assert number.e164[0] == "+"
    assert number.e164[1:].isascii()
    assert number.e164[1:].isdecimal()
    assert 7 <= len(number.e164[1:]) <= 15


@pytest.mark.parametrize(
    ("raw", "accepted"), [("85212345678", True), ("8521234567", False), ("+8521234567", True)]
)
def test_digits_without_plus_must_be_valid_or_as_long_as_a_mobile_number(raw: str, accepted: bool) -> None:
    if accepted:
        assert parse_number(raw).country == "HK"
    else:
        with pytest.raises(InvalidNumber, match=r"country code missing\? Write \+ before the number"):
            parse_number(raw)


def examples(code: int) -> Iterator[str]:
    """The library's example numbers of every region and kind of a calling code, in E.164."""
    found = [phonenumbers.example_number_for_non_geo_entity(code)]
    for region in phonenumbers.region_codes_for_country_code(code):
        found += [
            phonenumbers.example_number_for_type(region, kind)
            for kind in PhoneNumberType.values()
            if region != "001"
        ]
    for number in filter(None, found):
        yield phonenumbers.format_number(number, PhoneNumberFormat.E164)


def variants(code: int, rng: random.Random) -> Iterator[str]:
    """The examples, and numbers near them, after a national prefix, too long or short, and arbitrary."""
    main = PhoneMetadata.metadata_for_region_or_calling_code(
        code, phonenumbers.region_code_for_country_code(code)
    )
    assert main is not None

    def digits(length: int) -> str:
        return "".join(rng.choices("0123456789", k=length))

    for example in examples(code):
        yield example
        start = len(f"+{code}")
        yield f"{example[:start]}{main.national_prefix or 0}{example[start:]}"
        for _ in range(8):
            cut = rng.randrange(start, len(example) + 1)
            yield example[:cut] + digits(len(example) - cut)
            yield example[:cut] + digits(1) + example[cut + 1 :]
            yield example[:cut] + digits(1) + example[cut:]
    for _ in range(60):
        yield f"+{code}{digits(rng.randrange(18))}"


def answer_of_the_library(text: str) -> tuple[Number, bool] | None:
    """The number and its validity by the plain library; None where it is not possible in E.164."""
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None
    e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    if not 7 <= len(e164[1:]) <= 15:
        return None
    region = phonenumbers.region_code_for_number(number)
    if number.country_code == 290:
        country: str | None = "SH"
    else:
        country = {"AC": "SH", "001": None}.get(str(region), region)
    return Number(e164, country), phonenumbers.is_valid_number(number)


def answer(text: str) -> Number | None:
    try:
        return parse_number(text)
    except InvalidNumber:
        return None


def test_the_shortcut_answers_as_the_plain_library_for_numbers_of_every_calling_code() -> None:
    rng = random.Random(20)
    compared = accepted = valid = 0
    for code in sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE):
        for text in variants(code, rng):
            expected = answer_of_the_library(text)
            compared += 1
            if expected is None:
                assert answer(text) is None, text
                assert answer(text[1:]) is None, text
                continue
            accepted += 1
            assert answer(text) == expected[0], text
            assert answer(text[1:]) in ({expected[0]} if expected[1] else {expected[0], None}), text
            valid += expected[1]
    assert compared > 40_000
    assert accepted > 20_000
    assert valid > 10_000


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("+85228001234", True),
        ("+85261234567", False),
        ("+442071234567", True),
        ("+447400123456", False),
        ("+390612345678", True),
        ("+12025550100", False),  # a mobile of the United States looks the same
        ("+85212345678", False),  # a new range: nothing is known of it
        ("+80012345678", False),
        ("+8823421234", False),
    ],
)
def test_a_landline_is_told_where_the_metadata_can_tell(raw: str, expected: bool) -> None:
    assert is_landline(parse_number(raw)) is expected


def test_landlines_are_those_of_the_library() -> None:
    """Examples of every region and kind, with their last digits changed: they fall into other ranges."""
    changed = random.Random(3)
    found = {True: 0, False: 0}
    kinds = (
        PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.VOIP, PhoneNumberType.TOLL_FREE,
        PhoneNumberType.UAN, PhoneNumberType.PAGER, PhoneNumberType.PERSONAL_NUMBER,
    )  # fmt: skip
    examples = (
        phonenumbers.example_number_for_type(region, kind)
        for region in sorted(phonenumbers.SUPPORTED_REGIONS)
        for kind in kinds
    )
    for example in filter(None, examples):
        text = phonenumbers.format_number(example, PhoneNumberFormat.E164)
        for cut in range(1, 6):
            try:
                number = parse_number(text[:-cut] + "".join(changed.choices("0123456789", k=cut)))
            except InvalidNumber:
                continue
            kind = phonenumbers.number_type(phonenumbers.parse(number.e164))
            assert is_landline(number) is (kind == PhoneNumberType.FIXED_LINE), number
            found[is_landline(number)] += 1
    assert min(found.values()) > 1000
