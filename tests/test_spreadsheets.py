"""Tables as people have them: every encoding, delimiter and broken row ends as rows with their line, or an error."""

import io
import tracemalloc
import zipfile
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from tallycast.rows import Row, Unreadable
from tallycast.spreadsheets import CSV, NDJSON, XLSX, detect_encoding, read_rows

TEXT = "Recipients Number,name\n+85261234567,Zoë\n"


def read(raw: bytes | str, media_type: str = CSV, charset: str = "") -> list[Row]:
    return list(read_rows(io.BytesIO(raw.encode() if isinstance(raw, str) else raw), media_type, charset))


def cells(raw: bytes | str, media_type: str = CSV, charset: str = "") -> list[list[str]]:
    return [row.cells for row in read(raw, media_type, charset)]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"],
)
def test_the_encoding_is_found_out(encoding: str) -> None:
    assert cells(TEXT.encode(encoding)) == [["Recipients Number", "name"], ["+85261234567", "Zoë"]]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Привет, Иван! Скидка 20%"),
        ("big5", "你好陳先生今日八折優惠"),
        ("gb18030", "您好王先生今天八折优惠"),
        ("cp932", "こんにちは、田中さん。セール中です"),
        ("cp949", "안녕하세요 김철수님 할인 행사"),
        ("cp1252", "Café à 5 €, señor Müller"),
    ],
)
def test_what_windows_writes_in_other_languages_is_found_out(encoding: str, text: str) -> None:
    raw = f'number,text\n+85261234567,"{text}"\n+85261234568,"{text}"\n'.encode(encoding)
    assert cells(raw)[1:] == [["+85261234567", text], ["+85261234568", text]]


def test_a_charset_that_is_named_is_taken_but_for_utf_8_which_clients_say_of_any_file() -> None:
    raw = "n,t\n1,Łukasz\n".encode("cp1250")
    assert cells(raw, charset="cp1250")[1] == ["1", "Łukasz"]
    assert cells("n,t\n1,Zoë\n".encode("cp1252"), charset="UTF-8")[1] == ["1", "Zoë"]


def test_an_unknown_charset_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="nothing is known of the charset 'klingon'"):
        read("a\n1\n", charset="klingon")


def test_damaged_utf_8_stays_utf_8_and_spoils_its_row_alone() -> None:
    good = "+85261234567,陳先生\n".encode()
    raw = b"number,name\n" + good * 20 + b"+85261234568,\xe9\x99\n" + good
    found = read(raw)
    assert [row.error for row in found if row.error] == ["characters that are not of the file's encoding"]
    assert [row.line for row in found if row.error] == [22]


def test_the_whole_file_is_looked_at_for_its_encoding() -> None:
    raw = b"number,name\n" + b"+85261234567,Ann\n" * 100_000 + "+85261234568,Zoë\n".encode("cp1252")
    assert detect_encoding(io.BytesIO(raw)) == "cp1252"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_the_header_has(delimiter: str) -> None:
    raw = f'number{delimiter}"a;b,c|d\te"{delimiter}name\n1{delimiter}2{delimiter}3\n'
    assert cells(raw) == [["number", "a;b,c|d\te", "name"], ["1", "2", "3"]]


def test_excels_line_that_names_the_delimiter_is_no_row() -> None:
    assert read("sep=|\r\na|b,c\r\n1|2,5\r\n") == [Row(2, ["a", "b,c"]), Row(3, ["1", "2,5"])]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_ends_a_row_and_is_a_newline_inside_of_quotes(end: str) -> None:
    raw = f'number,text{end}1,"two{end}lines"{end}{end}2,one{end}'
    assert read(raw) == [Row(1, ["number", "text"]), Row(2, ["1", "two\nlines"]), Row(5, ["2", "one"])]


def test_quotes_are_read_as_rfc_4180_has_them() -> None:
    raw = 'n,t\n1,"say ""hi"", you"\n2,5" pipe\n"3",""\n'
    assert cells(raw)[1:] == [["1", 'say "hi", you'], ["2", '5" pipe'], ["3", ""]]


def test_rows_without_a_value_are_no_rows() -> None:
    assert read('n,t\n\n , \n"",""\n1,2\n,\n') == [Row(1, ["n", "t"]), Row(5, ["1", "2"])]


def test_a_quotation_mark_that_never_closes_spoils_its_own_line_alone() -> None:
    rows = read('n,t\n+85261234560,a\n+85261234561,"b\n' + "+85261234562,c\n" * 2000)
    assert len(rows) == 2003
    assert [row for row in rows if row.error] == [
        Row(3, ["+85261234561", '"b'], "a quotation mark opens a cell here and does not close it")
    ]


def test_two_stray_marks_do_not_hide_the_rows_between_them() -> None:
    rows = read('n,t\n+85261234561,"b\n+85261234562,c\n+85261234563,5"\n+85261234564,d\n')
    error = "inside a quotation mark that opens in line 2 and closes in line 4"
    assert rows[1:] == [
        Row(2, ["+85261234561", '"b'], error),
        Row(3, ["+85261234562", "c"], error),
        Row(4, ["+85261234563", '5"'], error),
        Row(5, ["+85261234564", "d"]),
    ]


def test_a_mark_that_is_not_doubled_spoils_its_own_line_alone() -> None:
    rows = read('n,t\n1,"a "big" sale"\n2,b\n3,"x\n4,"y\n5,c\n')
    assert [(row.line, row.error) for row in rows[1:]] == [
        (2, "a quotation mark inside a cell is not doubled"),
        (3, ""),
        (4, "a quotation mark opens a cell here and does not close it"),
        (5, "a quotation mark opens a cell here and does not close it"),
        (6, ""),
    ]


def test_a_row_that_does_not_fit_its_header_is_set_aside() -> None:
    rows = read("n,t\n1,a,b\n2\n3,c,,\n")
    assert [row.error for row in rows[1:]] == [
        "3 cells under 2 columns: a text with a delimiter or line end needs quotes",
        "1 cells under 2 columns: a text with a delimiter or line end needs quotes",
        "",
    ]
    assert rows[3].cells == ["3", "c"]


def test_a_cell_may_have_ten_thousand_characters_and_a_nul() -> None:
    assert cells('n,t\n1,"{}"\n2,a\0b\n'.format("x" * 10_000))[1:] == [
        ["1", "x" * 10_000],
        ["2", "a\0b"],
    ]


def test_a_line_without_end_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="line 2 is longer than 1000000 characters"):
        read("n\n" + "1" * 1_000_001)


def test_an_empty_file_has_no_rows() -> None:
    assert read(b"") == []
    assert read(b"", NDJSON) == []
    assert read(b"\xef\xbb\xbf\r\n\r\n") == []


QUOTED = st.lists(
    st.lists(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs", "Nd"]), max_size=12), min_size=2, max_size=2),
    max_size=8,
)  # fmt: skip


@given(QUOTED)
def test_what_is_written_with_quotes_is_read_back(rows: list[list[str]]) -> None:
    def quote(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    raw = "n,t\n" + "".join(",".join(map(quote, row)) + "\n" for row in rows)
    blank = " \t\n\r\f\v\xa0\ufeff"
    expected = [row for row in rows if any(cell.strip(blank) for cell in row)]
    found = read(raw)[1:]
    assert [row.cells for row in found if not row.error] == [
        row for row in expected if not any("\ufffd" in cell for cell in row)
    ]


@given(st.text(st.sampled_from('1,"\n;a'), max_size=60), st.integers(1, 5))
def test_no_line_is_lost_whatever_the_quotes_do(text: str, tail: int) -> None:
    """The rows after any mess are still there."""
    rows = read("n,t\n" + text + "\n" + "\n".join(["+85261234567,end"] * tail) + '\n+85261234568,"e\nnd"\n')
    numbers = [cell for row in rows for cell in row.cells if "61234567" in cell]
    assert len(numbers) == tail
    assert rows[-1].line >= 3


def test_ndjson_has_its_columns_from_its_first_line() -> None:
    raw = (
        b'\xef\xbb\xbf{"recipient": "+85261234567", "name": "Ann", "n": 5}\n\n'
        b'{"name": null, "recipient": 85261234568, "n": true}\r\n'
        b'{"recipient": "+85261234569", "code": "x"}\n'
        b'{"recipient": ["+85261234569"]}\n{"recipient": "\xff"}\nnonsense\n'
    )
    rows = read(raw, NDJSON)
    assert rows[:3] == [
        Row(1, ["recipient", "name", "n"]),
        Row(1, ["+85261234567", "Ann", "5"]),
        Row(3, ["85261234568", "", "TRUE"]),
    ]
    assert rows[3] == Row(4, ["+85261234569", "", "", "x"], "the first line has no 'code'")
    assert [(row.line, row.error[:42]) for row in rows[4:]] == [
        (5, "not a JSON object of texts and numbers: Ex"),
        (6, "not a JSON object of texts and numbers: 'u"),
        (7, "not a JSON object of texts and numbers: JS"),
    ]


def workbook(fill: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True, **options}) as book:
        fill(book)
    return file.getvalue()


def one_sheet(rows: Iterable[Iterable[Any]], **options: Any) -> bytes:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        for n, row in enumerate(rows):
            for column, value in enumerate(row):
                sheet.write(n, column, value)

    return workbook(fill, **options)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_workbook_is_read_whether_its_texts_are_shared_or_in_place(in_place: bool) -> None:
    rows = [["Recipients Number", "Content"], ["+85261234567", "two\nlines 陳 <&>"], ["", ""], ["+1", "Zoë "]]
    raw = one_sheet(rows, constant_memory=in_place)
    assert read(raw, XLSX) == [Row(1, rows[0]), Row(2, rows[1]), Row(4, rows[3])]
    assert read(raw, CSV) == read(raw, XLSX), "browsers name types wrongly"


def test_cells_that_are_no_texts_are_shown_as_people_see_them() -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["number"])
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        own = book.add_format({"num_format": '[Red]0.00" dm"'})
        sheet.write_number(1, 0, 85261234567)
        sheet.write_number(2, 0, 8.5298e10)
        sheet.write_string(3, 0, "8.5298E+10")
        sheet.write_number(4, 0, 0.1)
        sheet.write_datetime(5, 0, datetime(2026, 11, 23), day)  # noqa: DTZ001 - a sheet has no time zone
        sheet.write_datetime(
            6,
            0,
            datetime(2026, 11, 23, 9, 30),  # noqa: DTZ001
            book.add_format({"num_format": 22}),
        )
        sheet.write_number(7, 0, 0.75, book.add_format({"num_format": "hh:mm"}))
        sheet.write_formula(8, 0, "=A2+1", None, 85261234568)
        sheet.write_formula(9, 0, '="+"&A2', None, "+85261234567")
        sheet.write_boolean(10, 0, True)
        sheet.write_number(11, 0, 12.5, own)
        sheet.write_number(12, 0, 1234567890123456789)
        sheet.write_rich_string(13, 0, "plain ", book.add_format({"bold": True}), "bold")
        sheet.write_formula(14, 0, "=cmd()", None, "#NAME?")
        sheet.write_number(15, 0, 852612345678901)

    found = [row[0] for row in cells(workbook(fill), XLSX)]
    assert found[1:] == [
        "85261234567", "85298000000", "8.5298E+10", "0.1", "2026-11-23", "2026-11-23 09:30:00", "18:00:00",
        "85261234568", "+85261234567", "TRUE", "12.5", "1.234567890123457E+18", "plain bold", "#NAME?",
        "852612345678901",
    ]  # fmt: skip


def test_dates_count_from_1904_where_the_workbook_says_so() -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_datetime(0, 0, datetime(2026, 11, 23), book.add_format({"num_format": 14}))  # noqa: DTZ001

    assert cells(workbook(fill, date_1904=True), XLSX) == [["2026-11-23"]]


def test_the_first_sheet_that_is_not_hidden_is_read() -> None:
    def fill(book: Any) -> None:
        hidden, shown, last = (book.add_worksheet(name) for name in ("Hidden", "Shown", "Last"))
        for sheet in (hidden, shown, last):
            sheet.write(0, 0, sheet.get_name())
        shown.activate()
        hidden.hide()

    assert cells(workbook(fill), XLSX) == [["Shown"]]


def test_a_rows_empty_cells_are_filled_up_to_the_header_and_what_is_beyond_it_sets_the_row_aside() -> None:
    raw = one_sheet([["n", "a", "b"], ["1"], ["2", "", "x"], ["3", "", "", "", "y"]])
    assert read(raw, XLSX)[1:] == [
        Row(2, ["1", "", ""]),
        Row(3, ["2", "", "x"]),
        Row(4, ["3", "", "", "", "y"], "a value beyond the last of 3 columns"),
    ]


def test_a_value_in_the_last_of_all_columns_costs_no_memory() -> None:
    def fill(book: Any) -> None:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["n", "a"])
        sheet.write_row(1, 0, ["1"])
        sheet.write(1, 16_383, "far")

    row = read(workbook(fill), XLSX)[1]
    assert len(row.cells) == 1001
    assert row.error == "a value beyond the last of 2 columns"


def repacked(raw: bytes, name: str, content: bytes) -> bytes:
    """The workbook with another content of one part."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, content if part == name else old.read(part))
    return file.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


def test_a_bomb_of_entities_is_refused() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><worksheet><sheetData/></worksheet>'
    with pytest.raises(Unreadable, match="defines entities"):
        read(repacked(one_sheet([["n"]]), SHEET, bomb), XLSX)


def test_a_bomb_of_zeros_is_refused_before_it_fills_the_memory() -> None:
    bomb = b"<worksheet><sheetData><row><c t='inlineStr'><is><t>" + b"0" * 50_000_000
    raw = repacked(one_sheet([["n"]]), SHEET, bomb)
    assert len(raw) < 100_000
    del bomb
    tracemalloc.start()
    with pytest.raises(Unreadable, match="longer than 1000000 characters"):
        read(raw, XLSX)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("part", [SHEET, "xl/sharedStrings.xml", "xl/workbook.xml"])
def test_a_bomb_of_elements_within_elements_is_refused(part: str) -> None:
    raw = repacked(one_sheet([["n"]]), part, b"<a>" * 5_000_000)
    with pytest.raises(Unreadable, match="nested deeper than 100 elements"):
        read(raw, XLSX)


def test_a_part_that_unpacks_to_a_hundred_times_its_size_is_refused() -> None:
    bomb = b"<sst>" + b"<si/>" * 5_000_000
    raw = repacked(one_sheet([["n"]]), "xl/sharedStrings.xml", bomb)
    with pytest.raises(Unreadable, match="unpacks to more than 20000000 bytes"):
        read(raw, XLSX)


def test_a_row_of_a_million_cells_costs_little() -> None:
    cell = b"<c><v>1</v></c>"
    raw = repacked(one_sheet([["n"]]), SHEET, b"<worksheet><row>" + cell * 1_000_000 + b"</row></worksheet>")
    assert [len(row) for row in cells(raw, XLSX)] == [1001]
    assert [len(row) for row in cells("n\n" + "," * 500_000 + "1\n")] == [1, 1001]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"not a zip", "not an XLSX workbook"),
        (b"PK\x03\x04 cut off", "the XLSX workbook is damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel 97 or one with a password"),
        (repacked(one_sheet([["n"]]), SHEET, b"<worksheet><sheetData><row>"), "the XLSX workbook is damaged"),
        (repacked(one_sheet([["n"]]), SHEET, b'<worksheet><row><c t="s"><v>9</v></c></row></worksheet>'), "a cell's text is missing"),
        (one_sheet([["n"]])[:-200], "the XLSX workbook is damaged"),
        (repacked(one_sheet([["n"]]), "xl/workbook.xml", b"<workbook/>"), "has no sheet"),
    ],
)  # fmt: skip
def test_what_is_no_workbook_is_unreadable(raw: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(raw, XLSX)


def test_a_zip_of_something_else_is_no_workbook() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(Unreadable, match=r"not an XLSX workbook: .*xl/workbook\.xml"):
        read(file.getvalue(), XLSX)


def test_memory_does_not_grow_with_the_rows_of_a_workbook() -> None:
    raw = one_sheet([["number", "name"], *([f"+852{60_000_000 + n}", f"Name {n}"] for n in range(20_000))])
    tracemalloc.start()
    count = sum(1 for _ in read_rows(io.BytesIO(raw), XLSX))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_001
    assert peak < 3_000_000, "40,000 texts in memory would take more"
