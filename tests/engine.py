"""A worker in the test's own process, and a provider on loopback that does as the test says."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from harness import free_port
from stage import Stage
from tallycast import channels, db, drafts, stages, templates
from tallycast.channels import Channel, NewChannel
from tallycast.config import Settings
from tallycast.drafts import NewSending
from tallycast.keys import load_cipher
from tallycast.templates import Listed, TemplateUse
from tallycast.worker import Worker, make_means

CUT = 599  # the provider takes the message, and its answer never arrives
Answer = Callable[[dict[str, Any]], Awaitable[tuple[int, dict[str, Any]]]]


@dataclass
class Provider:
    """Plays 360dialog's `POST /messages`; `answer` decides what is said, `seen` is what came, in order."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answer: Answer | None = None

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen.append(body)
        self.times.append(time.monotonic())
        status, said = await self.answer(body) if self.answer else accepted(body)
        if status == CUT and request.transport is not None:
            request.transport.abort()
        return web.json_response(said, status=status, headers=said.pop("headers", None))

    @property
    def recipients(self) -> list[str]:
        return [one["to"] for one in self.seen]


def accepted(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return 200, {"messages": [{"id": f"wamid.{body['to'].lstrip('+')}.{body['biz_opaque_callback_data']}"}]}


def refused(code: int, status: int = 400, **fields: Any) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"code": code, "message": "no", "type": "OAuthException"}, **fields}


@contextlib.asynccontextmanager
async def a_provider() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_post("/messages", provider.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    provider.url = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def a_worker(url: str, data_dir: Path) -> AsyncIterator[Worker]:
    """A worker that is asked to stop, and has stopped, at the end."""
    settings = Settings(data_dir=data_dir, private_hosts=("127.0.0.1",), public_url="https://l.example.com")
    stop = asyncio.Event()
    async with make_means(settings, url) as means:
        worker = Worker(means)
        running = asyncio.create_task(worker.run(stop))
        try:
            yield worker
        finally:
            stop.set()
            await running


@dataclass
class Rehearsal:
    """A campaign over a sandbox channel of the provider."""

    stage: Stage
    channel: Channel
    campaign_id: int

    async def move(self, action: Any, **options: Any) -> None:
        async with self.stage.connection.transaction():
            await stages.move(
                self.stage.connection, self.stage.app_id, self.campaign_id, action, "somebody", **options
            )

    async def row(self) -> dict[str, Any]:
        query = b"select * from sendings where app_id = %(app_id)s and campaign_id = %(campaign_id)s"
        key = {"app_id": self.stage.app_id, "campaign_id": self.campaign_id}
        return (await db.fetch_dicts(self.stage.connection, query, key))[0]

    async def set(self, **columns: Any) -> None:
        """Change the campaign's row behind its back."""
        names = ", ".join(f"{name} = %({name})s" for name in columns)
        query = f"update sendings set {names} where app_id = %(app_id)s and campaign_id = %(campaign_id)s"
        key = {"app_id": self.stage.app_id, "campaign_id": self.campaign_id}
        await db.execute(self.stage.connection, query.encode(), {**key, **columns})

    async def sent(self) -> bool:
        return bool((await self.row())["stage"] == "sent")

    async def counts(self) -> dict[str, int]:
        return await self.stage.counts(self.campaign_id)

    async def handovers(self) -> list[dict[str, Any]]:
        query = b"select * from handovers where app_id = %(app_id)s and campaign_id = %(campaign_id)s order by seq"
        key = {"app_id": self.stage.app_id, "campaign_id": self.campaign_id}
        return await db.fetch_dicts(self.stage.connection, query, key)


async def add_sandbox(stage: Stage, data_dir: Path, url: str, rate: float = 1000.0) -> Channel:
    cipher = load_cipher(None, data_dir)
    new = NewChannel(
        "sms", "sandbox", "+85230001234", credentials={"baseURL": url, "apiKey": "k"}, rate_per_second=rate
    )
    return await channels.create(stage.connection, cipher, stage.app_id, new, ("127.0.0.1",))


async def add_whatsapp(stage: Stage, data_dir: Path, url: str) -> Channel:
    """A WhatsApp channel of the provider, with one approved template: hello, without parameters."""
    new = NewChannel("whatsApp", "sandbox", "+85230005678", credentials={"baseURL": url, "apiKey": "w"})
    channel = await channels.create(
        stage.connection, load_cipher(None, data_dir), stage.app_id, new, ("127.0.0.1",)
    )
    hello = Listed("hello", "en", "APPROVED", "MARKETING", [{"type": "BODY", "text": "Hello"}])
    await templates.keep(stage.connection, channel, [hello])
    return channel


async def rehearse(
    stage: Stage, channel: Channel, size: int, content: str = "Hello", **fields: Any
) -> Rehearsal:
    """A draft with so many recipients, +85291000000 and on, whose text is the same for all."""
    if channel.type == "whatsApp":
        fields |= {"kind": "whatsApp", "template": TemplateUse("hello", "en")}
    else:
        fields |= {"kind": "smsDynamic", "content": content}
    new = NewSending(campaign_name="Spring sale", channel_id=channel.channel_id, **fields)
    async with stage.connection.transaction():
        sending = await drafts.create(stage.connection, stage.app_id, new, "somebody")
    for first in range(0, size, 2000):
        await stage.record(sending.campaign_id, [None] * min(2000, size - first), first)
    return Rehearsal(stage, channel, sending.campaign_id)
