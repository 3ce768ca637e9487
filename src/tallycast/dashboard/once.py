"""Forms that create something: sent twice by a double click, they do it once."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable

from tallycast import db, idempotency
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import person_of
from tallycast.idempotency import Answer
from tallycast.web.answers import Asked, path_of
from tallycast.web.services import of

Work = Callable[[db.Connection], Awaitable[str]]
FIELD = "once"


def make_mark() -> str:
    """What marks one showing of a form."""
    return secrets.token_urlsafe(12)


async def run_once(request: Asked, app_id: str, work: Work, mark: str = "") -> str:
    """What `work` gives, in one transaction; for a form that was sent already what it gave then.

    The same fields of the same showing of a form are the same request; whoever goes back and changes one sends another.
    """
    key = _key_of(request, mark)

    async def attempt(connection: db.Connection) -> str:
        async with connection.transaction():
            known = await idempotency.claim(connection, app_id, key, key.encode())
            if known is not None:
                return known.result.decode()
            result = await work(connection)
            await idempotency.keep(connection, app_id, key, Answer(303, result.encode()))
            return result

    async with of(request).pool.connection() as connection:
        return await db.retry_conflicts(lambda: attempt(connection))


def _key_of(request: Asked, mark: str) -> str:
    fields = [(name, values) for name, values in form_of(request).items() if name != "csrf"]
    said = repr((path_of(request), person_of(request).staff_id, mark, sorted(fields)))
    return f"form {hashlib.sha256(said.encode()).hexdigest()}"
