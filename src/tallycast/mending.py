"""Rows that an import has set aside, as an error log shows them, and back again from a log. No database.

A row that was broken, or holds what no text can, does not look so in the log: that it is mended shows only by its
empty cell of the error. What else is wrong with a row shows in its cells.
"""

import re
from collections.abc import Sequence

from tallycast.rows import Row

COLUMN = "Error"  # what the log adds to the file's own columns
_NOT_SHOWN = "; mend the row, then empty this cell"
# What a spreadsheet would compute; a plain phone number that begins with + is none. An apostrophe keeps it from that.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_PHONE = re.compile(r"'*\+[0-9 ().-]+")


def not_shown(error: str) -> str:
    """The error of a row whose cells do not show it in the log."""
    return error + _NOT_SHOWN


def arrange(cells: Sequence[str], width: int, error: str) -> list[str]:
    """A row of the log: the error stands under its header; cells for which there is no column come after it."""
    row = [*cells[:width], *[""] * (width - len(cells)), error, *cells[width:]]
    return list(map(defuse, row))


def restore(row: Row, at: int) -> Row:
    """A row of the log, or its header, as it was in the file; `at` is the place of the error."""
    cells = list(map(arm, row.cells))
    error = cells.pop(at) if at < len(cells) else ""
    is_broken = error.endswith(_NOT_SHOWN)
    return Row(row.line, cells, error.removesuffix(_NOT_SHOWN) if is_broken else row.error)


def defuse(cell: str) -> str:
    """A cell that no spreadsheet computes."""
    return f"'{cell}" if _is_formula(cell) else cell


def arm(cell: str) -> str:
    """The cell that was defused."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    return _FORMULA.match(cell) is not None and not _PHONE.fullmatch(cell)
