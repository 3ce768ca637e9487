"""Idempotency keys: a POST that is repeated with the same key is answered from memory and does nothing again."""

import hashlib
from typing import NamedTuple

from tallycast import db
from tallycast.errors import BadQuery, Unprocessable
from tallycast.sql import load

_SQL = load("idempotency")
_MAX_KEY = 255


class Answer(NamedTuple):
    status: int
    result: bytes


def check_key(key: str) -> str:
    if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
        raise BadQuery.of(f"Idempotency-Key must be 1 to {_MAX_KEY} printable characters")
    return key


def fingerprint(*parts: bytes) -> bytes:
    """What the request was, so that a key is not used for two different ones."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


async def claim(connection: db.Connection, app_id: str, key: str, print_: bytes) -> Answer | None:
    """None: the key is ours, do the work in this transaction. Else the answer that was given before."""
    params = {"app_id": app_id, "key": key, "fingerprint": print_}
    if await db.execute(connection, _SQL["claim_key"], params):
        return None
    rows = await db.fetch_rows(connection, _SQL["find_key"], params)
    known, status, answer = rows[0]
    if known != print_:
        raise Unprocessable("this Idempotency-Key was used for another request")
    if status is None:
        raise Unprocessable("a request with this Idempotency-Key was cut off: repeat it with a new key")
    return Answer(status, answer)


async def claim_again(connection: db.Connection, app_id: str, key: str, print_: bytes) -> Answer | None:
    """As `claim`, for work that may be repeated: None also when an earlier request was cut off before its answer."""
    params = {"app_id": app_id, "key": key, "fingerprint": print_}
    await db.execute(connection, _SQL["claim_key"], params)
    known, status, answer = (await db.fetch_rows(connection, _SQL["find_key"], params))[0]
    if known != print_:
        raise Unprocessable("this Idempotency-Key was used for another request")
    return None if status is None else Answer(status, answer)


async def keep(connection: db.Connection, app_id: str, key: str, answer: Answer) -> None:
    params = {"app_id": app_id, "key": key, "status": answer.status, "answer": answer.result}
    await db.execute(connection, _SQL["keep_answer"], params)


async def forget_old(connection: db.Connection, app_id: str) -> None:
    await db.execute(connection, _SQL["forget_keys"], {"app_id": app_id})
