"""Which hosts tallycast calls: by what an address says, and by where a name leads at the moment of the call."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from stage import until
from tallycast import calls, lines
from tallycast.hosts import BadTarget, check_target, find_address

PUBLIC = ["https://waba-v2.360dialog.io", "https://gw.example.com:8443/v2/", "https://8.8.8.8", "https://[2606:4700::1111]", "https://[64:ff9b::808:808]",
          "smsc.example.com", "smsc.example.com:2775", "8.8.8.8:2775", "https://EXAMPLE.com./x"]  # fmt: skip
PRIVATE = [
    "https://127.0.0.1", "http://127.0.0.1:80", "https://10.1.2.3", "https://172.16.0.1", "https://192.168.0.1",
    "https://169.254.169.254", "https://100.64.0.1", "https://0.0.0.0", "https://224.0.0.1", "https://[::1]", "https://[::]",
    "https://[fe80::1]", "https://[fd00::1]", "https://[::ffff:127.0.0.1]", "https://[2002:7f00:1::]", "https://localhost",
    "https://[64:ff9b::a9fe:a9fe]", "https://[::ffff:0:10.1.2.3]", "https://[::127.0.0.1]",
    "http://LOCALHOST.", "https://db.localhost", "https://metadata.google.internal", "https://printer.local", "https://postgres",
    "127.0.0.1:2775", "smsc",
]  # fmt: skip
ODD = [
    "", "https://", "ftp://example.com", "file:///etc/passwd", "https://a b.com", "https://example.com:99999",
    "https://example.com:x", "https://u:p@example.com", "https://example.com?x=1", "https://example.com#x", "smsc.example.com/x",
    "https://127.1", "https://2130706433", "https://0x7f000001", "https://0177.0.0.1", "https://[::1", "https://exa\nmple.com/\0",
]  # fmt: skip


@pytest.mark.parametrize("target", PUBLIC)
def test_a_public_host_may_be_called(target: str) -> None:
    check_target(target, ())


@pytest.mark.parametrize("target", PRIVATE)
def test_a_host_that_is_not_public_may_be_called_only_if_it_is_listed(target: str) -> None:
    with pytest.raises(BadTarget, match="is not a public host: list it in private-hosts"):
        check_target(target, ("other.example.com", "10.9.9.9"))
    host = re.sub(r"^https?://|(?<![:\[])(?<=\w):\d+$|\.$", "", target)
    check_target(target, (host,))


def test_a_listed_host_may_be_called_without_encryption_and_at_its_port_only() -> None:
    check_target("http://localhost:9000/x", ("localhost:9000",))
    check_target("http://localhost", ("LOCALHOST:80",))
    check_target("http://[::1]:9000", ("[::1]:9000",))
    check_target("http://gateway.example.com", ("gateway.example.com",))
    with pytest.raises(BadTarget, match="localhost is not a public host"):
        check_target("http://localhost:9001", ("localhost:9000",))
    with pytest.raises(BadTarget, match=r"must start with https://: gateway\.example\.com is a public host"):
        check_target("http://gateway.example.com", ())


@pytest.mark.parametrize("target", ODD)
def test_what_is_no_address_is_refused(target: str) -> None:
    with pytest.raises(BadTarget):
        check_target(target, ())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.text("0123456789abcdefx.:[]/@%?#", max_size=30))
def test_any_text_is_an_address_or_is_refused(text: str) -> None:
    for target in (text, f"https://{text}"):
        try:
            check_target(target, ())
        except BadTarget as error:
            assert str(error)  # noqa: PT017 - both ends are right, a crash is not


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="inside")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("listed", "host", "is_allowed"),
    [
        ((), "127.0.0.1", False),
        ((), "localhost", False),
        (("127.0.0.1",), "127.0.0.1", True),
        (("localhost",), "localhost", True),
        (("127.0.0.1:{port}",), "localhost", True),
        (("localhost:{port}",), "localhost", True),
        (("localhost:1",), "localhost", False),
        (("example.com",), "127.0.0.1", False),
    ],
)
async def test_a_client_reaches_a_private_address_only_if_it_is_listed(
    port: int, listed: tuple[str, ...], host: str, is_allowed: bool
) -> None:
    """Whatever was checked before: a name may lead elsewhere by now, and an answer may redirect."""
    async with calls.make_client([name.format(port=port) for name in listed]) as client:
        if is_allowed:
            async with client.get(f"http://{host}:{port}/") as answer:
                assert await answer.text() == "inside"
        else:
            with pytest.raises(aiohttp.ClientConnectorError, match="is not a public host"):
                await client.get(f"http://{host}:{port}/")


@pytest.mark.anyio
async def test_a_name_gives_an_address_that_is_public_or_listed() -> None:
    assert await find_address("8.8.8.8", 2775, ()) == "8.8.8.8"
    for listed in ("localhost", "LOCALHOST:2775"):
        assert await find_address("localhost", 2775, (listed,)) in {"127.0.0.1", "::1"}
    assert await find_address("127.0.0.1", 2775, ("127.0.0.1:2775",)) == "127.0.0.1"
    for others in ((), ("localhost:2776",), ("example.com",)):
        with pytest.raises(BadTarget, match="localhost is not a public host: list it in private-hosts"):
            await find_address("localhost", 2775, others)


@pytest.mark.anyio
async def test_a_name_that_leads_to_a_private_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An SMSC's name is in somebody's hands: it may lead to what only this machine can reach."""
    heard: list[int] = []

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(1)
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    account = {"host": "smsc.example.com", "port": str(port), "systemID": "t", "password": "p"}

    async def ignore(_: list[Any]) -> None:
        return None

    async def reason(private_hosts: tuple[str, ...], reached: int) -> str:
        line = lines.SmppLine(account, private_hosts, ignore)

        async def told() -> object:
            return line._refusal or len(heard) > reached  # noqa: SLF001 - what senders are told

        await until(told)
        await line.close()
        return line._refusal.title if line._refusal else ""  # noqa: SLF001 - the same

    assert "smsc.example.com is not a public host" in await reason((), 0)
    assert heard == []
    await reason(("smsc.example.com",), 0)
    assert heard == [1]
    server.close()
    await server.wait_closed()
