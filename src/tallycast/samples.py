"""Sample files of audiences, to fill in: one per kind of campaign, as CSV and XLSX.

The numbers are of a range that is kept for fiction (Ofcom), so a row that is left in reaches nobody.
"""

import csv
import io

import xlsxwriter

_NUMBERS = ("+447700900101", "+447700900102", "+447700900103")
SAMPLES: dict[str, list[tuple[str, ...]]] = {
    "sms-standard": [
        ("Recipients Number", "Content"),
        (_NUMBERS[0], "Hi Mei, your parcel arrives today."),
        (_NUMBERS[1], "Hi Sam, your parcel arrives on Friday. Reply STOP to opt out."),
        (_NUMBERS[2], "陳先生:包裹今日送達。"),
    ],
    "sms-dynamic": [
        ("Recipients Number", "name", "code"),
        (_NUMBERS[0], "Mei", "SPRING-10"),
        (_NUMBERS[1], "Sam", "SPRING-15"),
        (_NUMBERS[2], "陳先生", "SPRING-20"),
    ],
    "whatsapp": [
        ("Recipients Number", "name", "order"),
        (_NUMBERS[0], "Mei", "A-1001"),
        (_NUMBERS[1], "Sam", "A-1002"),
        (_NUMBERS[2], "陳先生", "A-1003"),
    ],
}


def write_csv(kind: str) -> bytes:
    """With a byte order mark, by which Excel knows UTF-8."""
    text = io.StringIO()
    csv.writer(text).writerows(SAMPLES[kind])
    return text.getvalue().encode("utf-8-sig")


def write_xlsx(kind: str) -> bytes:
    """All cells are formatted as text, also below the rows that are there: Excel must not take a number for one."""
    file = io.BytesIO()
    book = xlsxwriter.Workbook(file, {"in_memory": True})
    sheet = book.add_worksheet("Audience")
    as_text = book.add_format({"num_format": "@"})
    sheet.set_column(0, len(SAMPLES[kind][0]) - 1, 24, as_text)
    for n, row in enumerate(SAMPLES[kind]):
        for column, text in enumerate(row):
            sheet.write_string(n, column, text, as_text)
    book.close()
    return file.getvalue()
