"""What is outside the simulator, for its tests: whoever sends through it, and hears what it posts."""

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web

from stage import until
from tallycast.events import Event, Receipt, Status
from tallycast.providers import dialog360
from tallycast.providers.contract import Signed
from tallycast.simulator.profiles import Profile
from tallycast.simulator.server import Plan, running

AT_ONCE = Profile(delivered_seconds=(0, 0), read_seconds=(0, 0), reply_seconds=(0, 0))
SPRING = {
    "name": "spring_sale_v3",
    "language": {"code": "en_US"},
    "components": [
        {
            "type": "header",
            "parameters": [{"type": "image", "image": {"link": "https://cdn.example.com/a.jpg"}}],
        },
        {"type": "body", "parameters": [{"type": "text", "text": "Mei"}, {"type": "text", "text": "20%"}]},
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": "0",
            "parameters": [{"type": "payload", "payload": "tc:7.0:yes"}],
        },
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": "1",
            "parameters": [{"type": "payload", "payload": "tc:7.0:no"}],
        },
        {
            "type": "button",
            "sub_type": "url",
            "index": "2",
            "parameters": [{"type": "text", "text": "Zk3vQ9"}],
        },
    ],
}


class Heard(NamedTuple):
    """A request that the simulator made."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    url: str

    def signed(self) -> Signed:
        return Signed(self.headers, (self.url,), self.body)


class Outside:
    """tallycast's side: a server that keeps what the simulator asks of it, and a client that sends."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client, self.url, self.own_url, self.smpp_port = client, "", "", 0
        self.heard: list[Heard] = []
        self.answers: list[int] = []  # statuses of the next answers; 200 after them

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = f"{self.own_url}{request.raw_path}"
        self.heard.append(Heard(request.method, request.path, headers, await request.read(), url))
        status = self.answers.pop(0) if self.answers else 200
        challenge = request.query.get("hub.challenge", "")
        is_known = request.query.get("hub.verify_token") == "token"
        return web.Response(status=status, text=challenge if is_known else "")

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.client.request(method, f"{self.url}{path}", **options) as answer:
            body = await answer.read()
            is_json = answer.content_type == "application/json"
            return answer.status, json.loads(body) if is_json else body.decode()

    async def point(self, key: str = "k1") -> None:
        """Have 360dialog's receipts of a key posted here."""
        hook = {"url": f"{self.own_url}/webhooks/360dialog/c1", "headers": {"Authorization": "Bearer s3cret"}}
        status, _ = await self.ask("POST", "/v1/configs/webhook", json=hook, headers={"D360-API-KEY": key})
        assert status == 200

    async def send(
        self, to: str = "85290000001", template: Any = SPRING, reference: str = "tc:7.0", key: str = "k1"
    ) -> tuple[int, Any]:
        body = {"messaging_product": "whatsapp", "to": to, "type": "template", "template": template}
        return await self.ask(
            "POST",
            "/messages",
            headers={"D360-API-KEY": key},
            json={**body, "biz_opaque_callback_data": reference},
        )

    async def send_text(self, to: str, text: str) -> tuple[int, Any]:
        body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": text}}
        return await self.ask("POST", "/messages", json=body, headers={"D360-API-KEY": "k1"})

    async def send_sms(self, to: str = "+85290000001", **fields: str) -> tuple[int, Any]:
        data = {"To": to, "From": "+15550100000", "Body": "Hi", **fields}
        headers = {"Authorization": f"Basic {base64.b64encode(b'AC1:t0ken').decode()}"}
        return await self.ask("POST", "/2010-04-01/Accounts/AC1/Messages.json", data=data, headers=headers)

    async def pending(self) -> int:
        _, found = await self.ask("GET", "/simulator/pending")
        return int(found["pending"])

    async def settle(self) -> list[Heard]:
        """What was asked of us, once nothing more is to come."""

        async def is_settled() -> bool:
            return await self.pending() == 0

        await until(is_settled)
        return self.heard

    async def events(self) -> list[Event]:
        """What tallycast would read of all that was posted for WhatsApp."""
        posts = [heard for heard in await self.settle() if heard.path.startswith("/webhooks/360dialog")]
        assert all(dialog360.verify("s3cret", {}, heard.signed()) for heard in posts)
        return [event for heard in posts for event in dialog360.parse(heard.body, "application/json")]

    async def ledger(self) -> list[dict[str, Any]]:
        _, lines = await self.ask("GET", "/simulator/ledger")
        return [json.loads(line) for line in lines.splitlines()]

    async def summary(self) -> dict[str, Any]:
        _, found = await self.ask("GET", "/simulator/ledger/summary")
        assert isinstance(found, dict)
        return found


@contextlib.asynccontextmanager
async def outside(profile: Profile = AT_ONCE, seed: int = 1, **plan: Any) -> AsyncIterator[Outside]:
    """A simulator in this process, pointed at us."""
    async with aiohttp.ClientSession() as client:
        ours = Outside(client)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", ours.receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ours.own_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with running(Plan(port=0, smpp_port=None, profile=profile, seed=seed)._replace(**plan)) as (
            _,
            port,
        ):
            ours.url = f"http://127.0.0.1:{port}"
            yield ours
        await runner.cleanup()


def statuses(events: Iterable[Event]) -> list[Status]:
    return [event.status for event in events if isinstance(event, Receipt)]


def change(**fields: Any) -> Profile:
    return msgspec.structs.replace(AT_ONCE, **fields)
