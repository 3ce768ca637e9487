"""Which hosts tallycast may call: public ones over https, and private ones only if the operator lists them.

A channel's address comes from whoever may make channels. Without this rule he could reach what only this machine can:
databases, cloud metadata, neighbours of the same network.
"""

import asyncio
import ipaddress
import random
import re
import socket
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

LIST_IT = "list it in private-hosts (TALLYCAST_PRIVATE_HOSTS) if tallycast shall reach it"
_PRIVATE_NAMES = (".localhost", ".local", ".internal")
# What the system's resolver would take for an IPv4 address in one of its old spellings, e.g. 127.1 or 0x7f000001.
_NUMERIC_LABEL = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
# Their last 32 bits are an IPv4 address: of NAT64 (RFC 6052), SIIT (RFC 2765), and of tunnels (RFC 4291, 2.5.5.1).
_EMBEDDING = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96"))
_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?")


class BadTarget(ValueError):
    """An address that tallycast does not call; the message says why, and what would allow it."""


def check_target(target: str, private_hosts: Collection[str]) -> None:
    """BadTarget where a URL, or a `host` or `host:port` of another protocol, must not be called.

    Names are judged as they are written here; what they resolve to is judged by `Guard` when they are called.
    """
    is_url = "://" in target
    parts = _split(target if is_url else f"//{target}")
    host, port = (parts.hostname or "").rstrip("."), parts.port
    if is_url and parts.scheme not in {"https", "http"}:
        raise BadTarget(f"must start with https://, not {parts.scheme[:20]}://")
    if parts.username is not None or parts.query or parts.fragment or (parts.path and not is_url):
        raise BadTarget("must be an address without user, query and fragment")
    _check_host(host)
    if is_listed(host, port or {"https": 443, "http": 80}.get(parts.scheme), private_hosts):
        return
    if _is_private_name(host) or is_private(host):
        raise BadTarget(f"{host} is not a public host: {LIST_IT}")
    if parts.scheme == "http":
        raise BadTarget(f"must start with https://: {host} is a public host")


def _split(url: str) -> SplitResult:
    if not url.isprintable() or " " in url:  # readers of URLs differ in what they make of them
        raise BadTarget("must be an address without spaces and control characters")
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError as error:
        raise BadTarget(f"is not an address: {error}") from None
    return parts


def _check_host(host: str) -> None:
    if ":" in host or _is_address(host):
        return
    if not _NAME.fullmatch(host) or _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
        raise BadTarget(f"{host[:80]!r} is not the name or address of a host")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_private_name(host: str) -> bool:
    return not _is_address(host) and ("." not in host or host.endswith(_PRIVATE_NAMES))


def is_private(host: str) -> bool:
    """Whether an address is none of the public internet's: loopback, link-local, a private network, multicast."""
    if not _is_address(host):
        return False
    address = ipaddress.ip_address(host)
    if address.version == 6:  # noqa: PLR2004 - IPv6
        address = _find_inner(address) or address
    return not address.is_global or address.is_multicast


async def find_address(host: str, port: int, private_hosts: Collection[str]) -> str:
    """One of a host's addresses, for protocols that have no client of their own that `Guard` keeps. BadTarget, OSError.

    A name in public hands may resolve to what only this machine can reach.
    """
    loop = asyncio.get_running_loop()
    found = [str(row[4][0]) for row in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    address = random.choice(found)  # noqa: S311 - another one at the next attempt, no secret
    is_trusted = is_listed(host.lower().rstrip("."), port, private_hosts)
    if is_private(address) and not is_trusted and not is_listed(address, port, private_hosts):
        raise BadTarget(f"{host} is not a public host: {LIST_IT}")
    return address


def _find_inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a gateway or the system makes of it."""
    if any(address in network for network in _EMBEDDING):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def is_listed(host: str, port: int | None, private_hosts: Collection[str]) -> bool:
    bracketed = f"[{host}]" if ":" in host else host
    return not {host, bracketed, f"{bracketed}:{port}"}.isdisjoint(name.lower() for name in private_hosts)
