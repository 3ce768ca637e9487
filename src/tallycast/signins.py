"""Signing in: whether the password is right, and how often one may try."""

import ipaddress
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tallycast import db, passwords, staff
from tallycast.limiter import SIGN_INS, Limiter

SECONDS = 600
_PER_ACCOUNT = 10
_PER_ADDRESS = 50


class SignIns:
    """Limits how often somebody may try, over all server processes.

    A browser in which the account has signed in before (`device`) has an allowance of its own: who guesses from
    elsewhere uses up the account's, and does not lock its owner out.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    @cached_property
    def _accounts(self) -> Limiter:
        return Limiter(self._data_dir, _PER_ACCOUNT, SECONDS, SIGN_INS)

    @cached_property
    def _addresses(self) -> Limiter:
        return Limiter(self._data_dir, _PER_ADDRESS, SECONDS, SIGN_INS)

    def wait(self, account: str, address: str, device: str | None) -> int:
        """0 when somebody may try, else the seconds after which they may. Known and unknown accounts are alike."""
        if device is not None:
            return self._accounts.wait(f"device {device} {account}")
        return self._addresses.wait(f"address {address}") or self._accounts.wait(f"account {account}")


async def check(pool: db.Pool, account: str, password: str) -> str | None:
    """The id of whoever has this email and password; as slow when nobody has. No connection waits for the hash."""
    async with pool.connection() as connection:
        found = await staff.find_password(connection, account)
    is_right = await passwords.verify(password, found and found[1])
    return found[0] if found is not None and is_right else None


def find_address(peer: str, forwarded: str, proxies: Sequence[str]) -> str:
    """The client's address; of IPv6 the network, of which one client may have all addresses.

    `forwarded`: X-Forwarded-For, believed from the right as far as this machine and the given proxies wrote it.
    """
    address = peer
    for said in reversed(forwarded.split(",") if forwarded else []):
        if not _is_trusted(address, proxies):
            break
        address = said.strip()
    return _network(address)


def _is_trusted(address: str, proxies: Sequence[str]) -> bool:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    return known.is_loopback or any(known in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)


def _network(address: str) -> str:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return ""
    is_v4 = isinstance(known, ipaddress.IPv4Address)
    return str(known) if is_v4 else str(ipaddress.ip_network((known, 64), strict=False))
