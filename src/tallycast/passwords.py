"""Passwords: argon2id (RFC 9106, its second choice of parameters), hashed beside the event loop."""

import asyncio
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from tallycast.errors import BadQuery

MIN_LENGTH = 12
# Hashing takes time by length; nobody types more.
MAX_LENGTH = 1000
_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
# Each hash takes 64 MiB while it is made, so not many at once.
_THREADS = ThreadPoolExecutor(2, "passwords")


def check_length(plain: str) -> None:
    """BadQuery for one that is too short. Length is the only rule (NIST SP 800-63B section 3.1.1.2)."""
    if not MIN_LENGTH <= len(plain) <= MAX_LENGTH:
        raise BadQuery.of(f"password must have {MIN_LENGTH} to {MAX_LENGTH} characters")


async def hash_password(plain: str) -> str:
    check_length(plain)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _HASHER.hash, _normal(plain))


async def verify(plain: str, known: str | None) -> bool:
    """Whether the password is right. Takes the same time when there is none to compare with."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _verify, plain, known)


def _verify(plain: str, known: str | None) -> bool:
    decoy = _decoy()
    if len(plain) > MAX_LENGTH:
        return False
    try:
        _HASHER.verify(decoy if known is None else known, _normal(plain))
    except (VerificationError, InvalidHashError):
        return False
    return known is not None


@cache
def _decoy() -> str:
    return _HASHER.hash(secrets.token_urlsafe())


def _normal(plain: str) -> str:
    """The same password from every keyboard (NFKC)."""
    return unicodedata.normalize("NFKC", plain)
