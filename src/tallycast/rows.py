"""What every kind of table file is read into."""

from typing import NamedTuple

MAX_COLUMNS = 1000


class Unreadable(ValueError):
    """The file cannot be read as what it is said to be; the message tells its owner why."""


class Row(NamedTuple):
    """`line` counts from 1, as a spreadsheet or an editor shows it; `error` says why the cells are no row."""

    line: int
    cells: list[str]
    error: str = ""
