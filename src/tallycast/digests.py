"""Digests of phone numbers: what stands for a number when the person is not to be known any more.

A digest is HMAC-SHA-256 of the E.164 number under a secret of the app, which is stored sealed: who has the database and
not the encryption key cannot try all numbers. It names the key that it was made with, so that a new one can be taken;
old ones are kept, to know their digests again.
"""

import base64
import hmac
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from tallycast import db
from tallycast.keys import Cipher
from tallycast.sql import load

_SQL = load("digests")
_SECRET_BYTES = 32
# 80 bits: among a million recipients of a campaign two digests are alike once in 10^12 campaigns.
_LENGTH = 16
# A recipient who was erased and recorded again in the same campaign has the position there behind the digest.
_DIGEST = re.compile(rf"anon[0-9]+-[a-z2-7]{{{_LENGTH}}}(\.[0-9]+)?")


class Key(NamedTuple):
    version: int
    secret: bytes

    def digest(self, number: str) -> str:
        """Like `anon1-mfzwizjxmnqwy3dt`."""
        code = hmac.digest(self.secret, number.encode(), "sha256")
        return f"anon{self.version}-{base64.b32encode(code).decode()[:_LENGTH].lower()}"


def is_digest(recipient: str) -> bool:
    return _DIGEST.fullmatch(recipient) is not None


async def find_keys(connection: db.Connection, cipher: Cipher, app_id: str) -> list[Key]:
    """The newest first; none where nobody was made anonymous yet. BadKey."""
    rows = await db.fetch_rows(connection, _SQL["list_keys"], {"app_id": app_id})
    return [Key(version, cipher.open(sealed, place_of(app_id, version))) for version, sealed in rows]


async def take_key(connection: db.Connection, cipher: Cipher, app_id: str) -> Key:
    """The key that new digests are made with; the first is made when it is needed."""
    keys = await find_keys(connection, cipher, app_id)
    return keys[0] if keys else await _add_key(connection, cipher, app_id, 1)


async def renew_key(connection: db.Connection, cipher: Cipher, app_id: str) -> Key:
    """A new key, for digests from now on."""
    keys = await find_keys(connection, cipher, app_id)
    return await _add_key(connection, cipher, app_id, keys[0].version + 1 if keys else 1)


async def _add_key(connection: db.Connection, cipher: Cipher, app_id: str, version: int) -> Key:
    sealed = cipher.seal(os.urandom(_SECRET_BYTES), place_of(app_id, version))
    params = {"app_id": app_id, "version": version, "secret": sealed}
    await db.execute(connection, _SQL["add_key"], params)  # another process may have been quicker
    return (await find_keys(connection, cipher, app_id))[0]


def place_of(app_id: str, version: int | str) -> str:
    """Where a key of digests is sealed for."""
    return f"digest:{app_id}:{version}"


async def find_addresses(
    connection: db.Connection, cipher: Cipher, app_id: str, recipients: Sequence[str]
) -> list[tuple[str, str]]:
    """(recipient, address) for all that each recipient is known under: the number itself, and its digests."""
    keys = await find_keys(connection, cipher, app_id)
    digests = [(one, key.digest(one)) for key in keys for one in recipients]
    return [*((one, one) for one in recipients), *digests]
