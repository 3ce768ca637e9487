"""SMS texts are counted and cut as GSM 03.38 and UTF-16 demand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallycast.segments import count_parts, encoding_of, split_parts

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"
FOREIGN = "`çáíóú“”‘’–—…\t\x1b\x00\xa0ě你😀\ud800\udc00"  # noqa: RUF001

TEXTS = st.one_of(
    st.text(st.sampled_from("ab" + EXTENSION), min_size=140, max_size=700),
    st.text(st.sampled_from("a你😀\x1b"), min_size=60, max_size=400),
    st.text(st.sampled_from(BASIC + EXTENSION), max_size=400),
    st.text(max_size=400),
)


def utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("", [0]),
        ("a", [1]),
        ("a" * 160, [160]),
        ("a" * 161, [153, 8]),
        ("a" * 306, [153, 153]),
        ("a" * 307, [153, 153, 1]),
        ("€" * 80, [80]),
        ("€" * 81, [76, 5]),
        ("a" * 158 + "€", [159]),
        ("a" * 159 + "€", [153, 7]),
        ("a" * 152 + "€" + "a" * 10, [152, 11]),
        ("a" * 151 + "€" + "a" * 10, [152, 10]),
        (("a" * 152 + "€") * 2, [152, 152, 2]),
        ("é" * 161, [153, 8]),
        ("你" * 70, [70]),
        ("你" * 71, [67, 4]),
        ("你" * 134, [67, 67]),
        ("你" * 135, [67, 67, 1]),
        ("😀" * 35, [35]),
        ("😀" * 36, [33, 3]),
        ("\U0010ffff" * 36, [33, 3]),
        ("你" * 66 + "😀" + "你" * 10, [66, 11]),
        ("你" * 65 + "😀" + "你" * 10, [66, 10]),
        ("a" * 70 + "`", [67, 4]),
        ("€" * 70 + "`", [67, 4]),
        ("`", [1]),
        ("\ud83d" * 71, [67, 4]),
    ],
)
def test_a_text_is_packed_greedily_and_never_cut_inside_a_character(text: str, lengths: list[int]) -> None:
    parts = split_parts(text)
    assert [len(part) for part in parts] == lengths
    assert "".join(parts) == text
    assert count_parts(text) == len(lengths)


@pytest.mark.parametrize("character", BASIC)
def test_a_character_of_the_basic_table_takes_one_septet(character: str) -> None:
    assert encoding_of(character) == "GSM-7"
    assert [count_parts(character * length) for length in (160, 161, 306, 307)] == [1, 2, 2, 3]


@pytest.mark.parametrize("character", EXTENSION)
def test_a_character_of_the_extension_table_takes_two_septets(character: str) -> None:
    assert encoding_of(character) == "GSM-7"
    assert [count_parts(character * length) for length in (80, 81, 152, 153)] == [1, 2, 2, 3]


@pytest.mark.parametrize("character", FOREIGN)
def test_one_foreign_character_makes_the_whole_text_ucs_2(character: str) -> None:
    assert encoding_of(character) == "UCS-2"
    assert encoding_of("a" * 500 + character) == "UCS-2"
    assert count_parts("a" * 68 + character) == 1
    assert count_parts("a" * 70 + character) == 2


def test_the_basic_table_has_every_code_but_the_escape() -> None:
    assert len(set(BASIC)) == 127


@given(TEXTS)
def test_the_parts_are_the_text_and_each_fits_and_none_could_be_fuller(text: str) -> None:
    parts = split_parts(text)
    gsm = encoding_of(text) == "GSM-7"
    single, limit = (160, 153) if gsm else (70, 67)

    def units(part: str) -> int:
        return len(part) + sum(part.count(c) for c in EXTENSION) if gsm else utf16_units(part)

    assert gsm == set(text).issubset(BASIC + EXTENSION)
    assert "".join(parts) == text
    assert count_parts(text) == len(parts)
    if units(text) <= single:
        assert parts == [text]
        return
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        assert 0 < units(part) <= limit
        assert not following or units(part + following[0]) > limit
        assert not 0xD800 <= ord(part[-1]) <= 0xDFFF


@given(st.text(st.characters(), max_size=300))
def test_lone_surrogates_are_counted_and_cut_like_any_other_character(text: str) -> None:
    assert "".join(split_parts(text)) == text
    assert count_parts(text) == len(split_parts(text))
