"""Deliveries: what is told, how it is signed, and what becomes of it when an endpoint does not take it."""

import asyncio
import base64
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from engine import Provider, a_worker, add_sandbox, rehearse
from harness import free_port
from stage import Stage, says, until
from tallycast import channels, db, deliveries, endpoints, notices, optouts
from tallycast.config import Settings
from tallycast.endpoints import Endpoint, EndpointChange, NewEndpoint
from tallycast.keys import Cipher, load_cipher
from tallycast.notices import Notice
from tallycast.worker import make_means

pytestmark = pytest.mark.anyio
HOSTS = ("127.0.0.1",)
Answer = Callable[[dict[str, Any]], Awaitable[tuple[int, str]]]


@dataclass
class Hook:
    """Another system's server: what it got, in order, and what it answers."""

    url: str = ""
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    answer: Answer | None = None
    more: dict[str, str] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.seen.append(msgspec.json.decode(body))
        status, text = await self.answer(self.seen[-1]) if self.answer else (204, "")
        return web.Response(
            status=status, text=text, headers={"Location": self.url + "/elsewhere", **self.more}
        )

    def types(self) -> list[str]:
        return [one["type"] for one in self.seen]


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    hook = Hook()
    app = web.Application()
    app.router.add_post("/{tail:.*}", hook.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    hook.url = f"http://127.0.0.1:{port}"
    yield hook
    await runner.cleanup()


@pytest.fixture
def cipher(data_dir: Path) -> Cipher:
    return load_cipher(None, data_dir)


@pytest.fixture
async def deliver(database_url: str, data_dir: Path) -> AsyncIterator[Callable[[Stage], Awaitable[None]]]:
    """Deliver what is due in an app, as a worker does."""
    async with make_means(Settings(data_dir=data_dir, private_hosts=HOSTS), database_url) as means:
        yield lambda stage: deliveries.work(means, stage.app_id, lambda: True)


Deliver = Callable[[Stage], Awaitable[None]]


async def add_endpoint(stage: Stage, cipher: Cipher, url: str, *events: Any) -> Endpoint:
    async with stage.connection.transaction():
        return await endpoints.create(
            stage.connection, cipher, stage.app_id, NewEndpoint(url, list(events)), HOSTS
        )


async def log(stage: Stage, endpoint: Endpoint) -> list[Notice]:
    return await notices.list_page(stage.connection, stage.app_id, endpoint.endpoint_id, None, 200, 0)


async def make_due(stage: Stage) -> None:
    """Let the time pass until the next attempt."""
    await stage.connection.execute(
        b"update notices set due_at = now() where app_id = %s and state = 'waiting'", [stage.app_id]
    )


def signatures_of(secret: bytes, headers: dict[str, str], body: bytes) -> str:
    """As the specification has it."""
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, text, hashlib.sha256).digest()).decode()


def documented_check() -> Callable[[str, dict[str, str], bytes], bool]:
    """The example of the documentation."""
    page = (Path(__file__).parents[2] / "docs" / "integrations.md").read_text()
    code = re.search(r"```python\n(import base64.*?)```", page, re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    check: Callable[[str, dict[str, str], bytes], bool] = names["verify"]
    return check


async def test_a_test_event_is_signed_as_standard_webhooks_has_it(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    endpoint = await add_endpoint(stage, cipher, f"{hook.url}/in?key=a%2Fb&x=1", "campaign.sent")
    notice_id = await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    await deliver(stage)
    [headers], [body] = hook.headers, hook.bodies
    assert headers["webhook-id"] == notice_id
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert headers["content-type"] == "application/json"
    [secret] = endpoint.open_secrets(cipher)
    assert headers["webhook-signature"] == signatures_of(secret, headers, body)
    official = Webhook(endpoints.show_secret(secret))
    assert official.verify(body, headers) == hook.seen[0]
    with pytest.raises(WebhookVerificationError):
        official.verify(body + b" ", headers)
    verify = documented_check()
    assert verify(endpoints.show_secret(secret), headers, body)
    assert not verify(endpoints.show_secret(secret), headers, body + b" ")
    late = headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}
    assert not verify(endpoints.show_secret(secret), late, body)
    assert (hook.seen[0]["type"], hook.seen[0]["data"]) == (
        "webhook.test",
        {"endpointID": endpoint.endpoint_id},
    )
    [notice] = await log(stage, endpoint)
    assert (notice.state, notice.attempts, notice.status) == ("delivered", 1, 204)


def test_the_signature_is_the_one_of_the_specification() -> None:
    """The example of the reference implementations' tests."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = deliveries.sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_after_a_change_of_the_secret_both_sign_for_a_day(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    was = await add_endpoint(stage, cipher, hook.url)
    now = await endpoints.rotate_secret(stage.connection, cipher, stage.app_id, was.endpoint_id)
    await notices.add_test(stage.connection, stage.app_id, was.endpoint_id)
    await deliver(stage)
    secrets = [*now.open_secrets(cipher)]
    assert secrets[1:] == was.open_secrets(cipher)
    expected = [signatures_of(secret, hook.headers[0], hook.bodies[0]) for secret in secrets]
    assert hook.headers[0]["webhook-signature"] == " ".join(expected)
    await stage.connection.execute(
        b"update webhook_endpoints set old_until = now() where app_id = %s", [stage.app_id]
    )
    await notices.add_test(stage.connection, stage.app_id, was.endpoint_id)
    await deliver(stage)
    assert hook.headers[1]["webhook-signature"] == signatures_of(secrets[0], hook.headers[1], hook.bodies[1])


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500])
async def test_what_is_no_success_is_tried_again_with_the_same_id_and_body(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver, status: int
) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url)

    async def answer(_: dict[str, Any]) -> tuple[int, str]:
        return (status, "no\0t now" + "x" * 1000) if len(hook.seen) == 1 else (200, "")

    hook.answer = answer
    await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    await deliver(stage)
    [notice] = await log(stage, endpoint)
    assert (notice.state, notice.attempts, notice.status) == ("waiting", 1, status)
    assert notice.answer == "no\ufffdt now" + "x" * 492
    assert notice.due_at is not None
    assert notice.attempted_at is not None
    assert notice.due_at - notice.attempted_at == timedelta(seconds=5)
    assert len(hook.seen) == 1, "a redirect is not followed"
    await make_due(stage)
    await deliver(stage)
    [notice] = await log(stage, endpoint)
    assert (notice.state, notice.attempts, notice.status) == ("delivered", 2, 200)
    assert hook.bodies[0] == hook.bodies[1]
    assert hook.headers[0]["webhook-id"] == hook.headers[1]["webhook-id"]


async def test_the_attempts_go_on_for_a_day_and_then_end(
    stage: Stage, cipher: Cipher, deliver: Deliver
) -> None:
    endpoint = await add_endpoint(stage, cipher, f"http://127.0.0.1:{free_port()}")
    await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    waits = []
    while True:
        await deliver(stage)
        [notice] = await log(stage, endpoint)
        if notice.state != "waiting":
            break
        assert notice.due_at is not None
        assert notice.attempted_at is not None
        waits.append((notice.due_at - notice.attempted_at).total_seconds())
        await make_due(stage)
    assert waits == [5, 60, 300, 1800, 7200, 18000, 28800, 28800]
    assert timedelta(hours=22) < timedelta(seconds=sum(waits)) < timedelta(hours=25)
    assert (notice.state, notice.attempts, notice.status) == ("failed", 9, None)
    assert notice.answer.startswith("ClientConnectorError: Cannot connect to host 127.0.0.1")
    found = await endpoints.find(stage.connection, stage.app_id, endpoint.endpoint_id)
    assert found.failing_since is not None
    assert found.disabled_at is None


@pytest.mark.parametrize(
    ("status", "header", "attempts", "seconds"),
    [
        pytest.param(429, "90", 0, 90, id="too many requests"),
        pytest.param(503, "90", 0, 90, id="unavailable"),
        pytest.param(429, "2", 1, 60, id="less than we leave"),
        pytest.param(429, "90000", 0, 28_800, id="more than we ever leave"),
        pytest.param(503, "Wed, 21 Oct 9015 07:28:00 GMT", 0, 28_800, id="a date"),
        pytest.param(429, "soon", 0, 5, id="unreadable"),
        pytest.param(500, "90", 0, 5, id="of another failure"),
    ],
)
async def test_who_is_busy_and_asks_for_time_gets_it(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver, status: int, header: str, attempts: int, seconds: int,
) -> None:  # fmt: skip
    async def answer(_: dict[str, Any]) -> tuple[int, str]:
        return status, ""

    hook.answer, hook.more = answer, {"Retry-After": header}
    endpoint = await add_endpoint(stage, cipher, hook.url)
    await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    await stage.connection.execute(
        b"update notices set attempts = %s where app_id = %s", [attempts, stage.app_id]
    )
    await deliver(stage)
    [notice] = await log(stage, endpoint)
    assert notice.due_at is not None
    assert notice.attempted_at is not None
    assert (notice.due_at - notice.attempted_at).total_seconds() == seconds


async def test_a_gone_endpoint_is_told_nothing_any_more(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    async def answer(_: dict[str, Any]) -> tuple[int, str]:
        return 410, "moved away"

    gone = await add_endpoint(stage, cipher, hook.url, "channel.paused")
    other = Hook(url=hook.url)
    witness = await add_endpoint(stage, cipher, f"{other.url}/witness", "endpoint.disabled")
    hook.answer = answer
    await notices.add_test(stage.connection, stage.app_id, gone.endpoint_id)
    await stage.connection.execute(
        b"insert into notices (app_id, notice_id, endpoint_id, type, body, due_at) "
        b"values (%s, 'later', %s, 'x', '{}', now() + interval '1 hour')",
        [stage.app_id, gone.endpoint_id],
    )
    await deliver(stage)
    found = await endpoints.find(stage.connection, stage.app_id, gone.endpoint_id)
    assert (found.disabled_reason, found.disabled_at is not None) == ("it answered 410 Gone", True)
    states = {one.notice_id: (one.state, one.answer) for one in await log(stage, gone)}
    assert states.pop("later") == ("failed", "it answered 410 Gone")
    assert list(states.values()) == [("failed", "moved away")]
    assert hook.seen[-1]["type"] == "endpoint.disabled"
    assert hook.seen[-1]["data"]["endpointID"] == gone.endpoint_id
    assert len(await log(stage, witness)) == 1


async def test_an_endpoint_that_fails_for_five_days_is_disabled(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    async def answer(_: dict[str, Any]) -> tuple[int, str]:
        return 503, ""

    endpoint = await add_endpoint(stage, cipher, hook.url)
    hook.answer = answer

    async def fail_since(days: float) -> Endpoint:
        await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
        await stage.connection.execute(
            b"update webhook_endpoints set failing_since = now() - %s * interval '1 day' where app_id = %s",
            [days, stage.app_id],
        )
        await deliver(stage)
        return await endpoints.find(stage.connection, stage.app_id, endpoint.endpoint_id)

    assert (await fail_since(4.99)).disabled_at is None
    assert (await fail_since(5.01)).disabled_reason == "it has failed for five days"
    async with stage.connection.transaction():
        enabled = await endpoints.change(
            stage.connection, stage.app_id, endpoint.endpoint_id, EndpointChange(is_disabled=False), HOSTS
        )
    assert (enabled.disabled_at, enabled.failing_since) == (None, None)


async def test_a_success_ends_the_failing(stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url)
    await stage.connection.execute(
        b"update webhook_endpoints set failing_since = now() - interval '9 days' where app_id = %s",
        [stage.app_id],
    )
    await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    await deliver(stage)
    found = await endpoints.find(stage.connection, stage.app_id, endpoint.endpoint_id)
    assert (found.failing_since, found.disabled_at) == (None, None)


async def test_an_endpoint_that_hangs_holds_up_no_other(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_ANSWER_SECONDS", 1.0)
    told = asyncio.Event()

    async def answer(body: dict[str, Any]) -> tuple[int, str]:
        if body["data"]["endpointID"] == hanging.endpoint_id:
            await told.wait()
            await asyncio.sleep(5)
        told.set()
        return 200, ""

    hanging, quick = [await add_endpoint(stage, cipher, hook.url) for _ in range(2)]
    hook.answer = answer
    for one in (hanging, quick):
        await notices.add_test(stage.connection, stage.app_id, one.endpoint_id)
    await deliver(stage)
    assert [one.state for one in await log(stage, quick)] == ["delivered"]
    [notice] = await log(stage, hanging)
    assert (notice.state, notice.answer) == ("waiting", "no answer in 1 seconds")


async def test_a_private_address_is_not_called_when_it_is_not_listed_any_more(
    stage: Stage, hook: Hook, cipher: Cipher, database_url: str, data_dir: Path
) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url)
    await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    async with make_means(Settings(data_dir=data_dir), database_url) as means:
        await deliveries.work(means, stage.app_id, lambda: True)
    [notice] = await log(stage, endpoint)
    assert notice.answer.startswith("the url 127.0.0.1 is not a public host")
    assert hook.seen == []


async def test_a_notice_is_told_only_if_what_it_tells_is_committed(
    stage: Stage, hook: Hook, cipher: Cipher, data_dir: Path, provider: Provider
) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url)
    rehearsal = await rehearse(stage, await add_sandbox(stage, data_dir, provider.url), 1)

    async def fail() -> None:
        async with stage.connection.transaction():
            await rehearsal.move("start")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await log(stage, endpoint) == []
    await rehearsal.move("start")
    assert [one.type for one in await log(stage, endpoint)] == ["campaign.started"]


async def test_a_campaigns_life_is_told_in_order_by_a_worker(
    stage: Stage, hook: Hook, cipher: Cipher, data_dir: Path, database_url: str, provider: Provider
) -> None:
    await add_endpoint(
        stage, cipher, hook.url,
        "campaign.scheduled", "campaign.started", "campaign.paused", "campaign.resumed", "campaign.sent",
    )  # fmt: skip
    rehearsal = await rehearse(stage, await add_sandbox(stage, data_dir, provider.url), 3)
    await rehearsal.move("schedule", scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    async with a_worker(database_url, data_dir):

        async def told(amount: int) -> None:
            async def is_told() -> bool:
                return len(hook.seen) >= amount

            await until(is_told)

        await told(1)
        await rehearsal.move("pause", note="wait")
        await told(2)
        await rehearsal.move("resume")
        await told(3)
        await rehearsal.move("start")
        await told(5)
    expected = ["scheduled", "paused", "resumed", "started", "sent"]
    assert hook.types() == [f"campaign.{word}" for word in expected]
    data = hook.seen[1]["data"]
    assert data == {
        "campaignID": str(rehearsal.campaign_id),
        "campaignName": "Spring sale",
        "stage": "paused",
        "was": "scheduled",
        "actor": "somebody",
        "note": "wait",
    }


async def look_again(stage: Stage) -> None:
    """Let a minute pass for the figures."""
    await stage.connection.execute(
        b"update figure_watches set looked_at = now() - interval '61 seconds' where app_id = %s",
        [stage.app_id],
    )


async def test_figures_are_told_once_a_minute_while_they_change_and_once_more_at_rest(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    channel = await stage.add_channel()
    before = await stage.sent(channel, "old")
    await stage.connection.execute(
        b"update counts set changed_at = now() - interval '1 hour' where app_id = %s", [stage.app_id]
    )
    await add_endpoint(stage, cipher, hook.url, "campaign.figures")
    campaign = await stage.sent(channel, "m-1", "m-2")
    await deliver(stage)
    assert hook.seen == [], "a minute has not passed"
    await look_again(stage)
    await deliver(stage)
    for name in ("m-1", "m-2"):
        await stage.apply(channel, says(name, "delivered"))
        await deliver(stage)
    await look_again(stage)
    await deliver(stage)
    for _ in range(2):
        await look_again(stage)
        await deliver(stage)
    told = [(one["data"]["id"], one["data"]["delivered"]) for one in hook.seen]
    assert told == [(str(campaign), 0), (str(campaign), 2)]
    assert str(before) not in dict(told), "it had come to rest before"
    assert hook.seen[0]["data"]["queued"] == 0


async def test_figures_begin_anew_where_nobody_can_read_how_far_they_were_told(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    channel = await stage.add_channel()
    await add_endpoint(stage, cipher, hook.url, "campaign.figures")
    before = await stage.sent(channel, "m-1")
    await stage.connection.execute(
        b"update counts set changed_at = now() - interval '1 hour' where app_id = %s", [stage.app_id]
    )
    await stage.connection.execute(
        b"update figure_watches set cursor = 'of another version' where app_id = %s", [stage.app_id]
    )
    await look_again(stage)
    await deliver(stage)
    after = await stage.sent(channel, "m-2")
    await look_again(stage)
    await deliver(stage)
    assert [one["data"]["id"] for one in hook.seen] == [str(after)]
    assert before != after
    [said] = [one for one in caplog.records if one.name == "tallycast.figures"]
    assert said.message == "how far figures were told cannot be read: from now on"


async def test_figures_are_looked_at_no_more_when_nobody_listens(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url)
    assert await notices.find_next(stage.connection, stage.app_id) is not None
    async with stage.connection.transaction():
        await endpoints.delete(stage.connection, stage.app_id, endpoint.endpoint_id)
    await look_again(stage)
    await deliver(stage)
    assert await notices.find_next(stage.connection, stage.app_id) is None


async def test_a_channel_that_pauses_is_told_once(stage: Stage, hook: Hook, cipher: Cipher) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url, "channel.paused")
    channel = await stage.add_channel()
    for _ in range(2):
        await channels.pause(stage.connection, stage.app_id, channel.channel_number, "no credit")
    [notice] = await log(stage, endpoint)
    body = msgspec.json.decode(notice.body)
    assert body["data"] == {"channelID": channel.channel_id, "phone": "+85230001234", "reason": "no credit"}


async def test_who_opts_out_is_told_in_portions_and_once(stage: Stage, hook: Hook, cipher: Cipher) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url, "opt_out.added")
    numbers = [f"+852{91000000 + n}" for n in range(501)]
    await optouts.add(stage.connection, stage.app_id, "sms", numbers, "import")
    await optouts.add(stage.connection, stage.app_id, "sms", numbers[:2], "import")
    word = optouts.Word("sms", numbers[0], False, 1_700_000_000_000, "reply", "")
    fresh = word._replace(kind="whatsApp")
    await optouts.merge(stage.connection, stage.app_id, [word, fresh])
    bodies = [msgspec.json.decode(one.body)["data"] for one in reversed(await log(stage, endpoint))]
    told = [(one["kind"], len(one["recipients"])) for one in bodies]
    assert sorted(told) == [("sms", 1), ("sms", 500), ("whatsApp", 1)]
    assert {number for one in bodies if one["kind"] == "sms" for number in one["recipients"]} == set(numbers)
    assert bodies[-1]["recipients"] == [numbers[0]]


async def test_a_failed_delivery_can_be_sent_again_and_old_ones_are_forgotten(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    endpoint = await add_endpoint(stage, cipher, hook.url)
    notice_id = await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    key = (stage.connection, stage.app_id)
    await stage.connection.execute(
        b"update notices set state = 'failed', due_at = null, attempts = 9 where app_id = %s", [stage.app_id]
    )
    again = await notices.send_again(*key, endpoint.endpoint_id, notice_id)
    assert (again.state, again.attempts) == ("waiting", 0)
    await deliver(stage)
    assert [one["webhook-id"] for one in hook.headers] == [notice_id]
    for days, kept in ((29.9, 1), (30.1, 0)):
        query = b"update notices set created_at = now() - %s * interval '1 day' where app_id = %s"
        await stage.connection.execute(query, [days, stage.app_id])
        await notices.forget_old(*key)
        assert len(await log(stage, endpoint)) == kept


async def test_a_secret_of_another_key_fails_in_words(
    stage: Stage, hook: Hook, cipher: Cipher, deliver: Deliver
) -> None:
    endpoint = await add_endpoint(stage, Cipher(bytes(32)), hook.url)
    await notices.add_test(stage.connection, stage.app_id, endpoint.endpoint_id)
    await deliver(stage)
    [notice] = await log(stage, endpoint)
    assert notice.answer == "the secret was encrypted with another key: rotate it"
    assert hook.seen == []
    await endpoints.rotate_secret(stage.connection, cipher, stage.app_id, endpoint.endpoint_id)
    await make_due(stage)
    await deliver(stage)
    assert [one.state for one in await log(stage, endpoint)] == ["delivered"]


async def test_nothing_is_written_where_nobody_listens(stage: Stage, connection: db.Connection) -> None:
    await notices.add(connection, stage.app_id, "channel.paused", [(None, {})])
    found = await connection.execute(b"select count(*) from notices where app_id = %s", [stage.app_id])
    assert await found.fetchone() == (0,)
