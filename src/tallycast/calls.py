"""Calls to providers by HTTP: a client that reaches public hosts only, and private ones that the operator lists."""

import errno
import socket
from collections.abc import Collection

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from tallycast.hosts import LIST_IT, is_listed, is_private

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0


class Guard(AbstractResolver):
    """Keeps a client from private addresses, whatever a name resolves to at the moment of the call."""

    def __init__(self, private_hosts: Collection[str]) -> None:
        self._resolver = aiohttp.ThreadedResolver()
        self._private_hosts = private_hosts
        self._trusted: set[tuple[str, int]] = set()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if is_listed(host.lower().rstrip("."), port, self._private_hosts):
            self._trusted.update((item["host"], port) for item in found)
        return found

    def open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for a connection to the address; PermissionError where it is private and not listed."""
        family, kind, protocol, _, (host, port, *_rest) = address
        host = str(host)
        is_trusted = (host, port) in self._trusted or is_listed(host, int(port), self._private_hosts)
        if is_private(host) and not is_trusted:
            raise PermissionError(errno.EACCES, f"{host} is not a public host: {LIST_IT}")
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        await self._resolver.close()


def make_client(private_hosts: Collection[str], keepalive_seconds: float = 10.0) -> aiohttp.ClientSession:
    """An HTTP client for calls to providers: guarded, patient for 30 seconds. Redirects are the caller's to refuse."""
    guard = Guard(private_hosts)
    connector = aiohttp.TCPConnector(
        limit=0,
        keepalive_timeout=keepalive_seconds,
        ttl_dns_cache=60,
        resolver=guard,
        socket_factory=guard.open_socket,
    )
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
    # Tenants share the client: what a provider sets for one must not go out with another's key.
    jar = aiohttp.DummyCookieJar()
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar)
