"""Forms: what a person filled in."""

from typing import Any
from urllib.parse import parse_qs

from litestar.connection import ASGIConnection

from tallycast.errors import BadQuery
from tallycast.web.answers import read_body

_MAX_MB = 2
_MAX_FIELDS = 5000


class Form:
    """The fields of a form. What was left out is empty; nothing has NUL characters, which PostgreSQL cannot keep."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """A field without spaces around it."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """A field as it was typed, such as a password."""
        return self._fields.get(name, [""])[0].replace("\0", "")

    def texts(self, name: str) -> list[str]:
        """All values of a field that may be given several times."""
        return [value.replace("\0", "").strip() for value in self._fields.get(name, [])]

    def items(self) -> list[tuple[str, list[str]]]:
        """All fields that were sent, with their values as they were typed."""
        return [
            (name, [value.replace("\0", "") for value in values]) for name, values in self._fields.items()
        ]


async def read_form(connection: ASGIConnection[Any, Any, Any, Any]) -> Form:
    """The form of a request; empty for other kinds of bodies, which are left unread (a file is read by its page)."""
    kind = connection.headers.get("content-type", "")
    if not kind.lower().startswith("application/x-www-form-urlencoded"):
        return Form({})
    receive = connection.receive
    body = await read_body(receive, connection.headers.get("content-length", ""), _MAX_MB)
    try:
        return Form(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise BadQuery.of(f"the form cannot be read: {error}") from None


def form_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Form:
    """The form that the guard has read."""
    form: Form = connection.state["form"]
    return form
