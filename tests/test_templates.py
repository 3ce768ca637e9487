"""Templates: asked from a provider that a real server plays, remembered, and compared with how a campaign uses one."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aiohttp import web

from harness import App, Server, start_server
from stage import Stage, make_stage
from tallycast import channels, db, templates
from tallycast.channels import Channel, NewChannel
from tallycast.errors import Problem, ServiceUnavailable, Unprocessable
from tallycast.keys import Cipher
from tallycast.templates import Listed, TemplateUse, check_use

CIPHER = Cipher(bytes(32))
KEY = "d360-very-secret"
LOOPBACK = ("127.0.0.1",)


def item(name: Any = "sale", **members: Any) -> dict[str, Any]:
    """A template as Meta lists it; 360dialog writes the status in lower case, and more members."""
    body = {"type": "BODY", "text": "Hi {{1}}"}
    return {
        "name": name,
        "language": "en_US",
        "status": "APPROVED",
        "category": "MARKETING",
        "components": [body],
    } | members


@dataclass
class Provider:
    """360dialog or Meta, as far as it lists templates: a real HTTP server."""

    port: int = 0
    items: list[Any] = field(default_factory=list)
    page: int = 1000
    status: int = 200
    body: bytes | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.Response:
        secret = request.headers.get("D360-API-KEY", request.headers.get("Authorization", ""))
        self.asked.append((request.path_qs, secret))
        if self.body is not None or self.status != 200:
            return web.Response(
                status=self.status, body=self.body, headers={"Location": "http://127.0.0.1:1/"}
            )
        make = self._page_of_meta if "message_templates" in request.path else self._page_of_dialog360
        return web.json_response(make(request.query))

    def _page_of_dialog360(self, query: Any) -> dict[str, Any]:
        first = int(query["offset"])
        found = self.items[first : first + min(self.page, int(query["limit"]))]
        return {"waba_templates": found, "count": len(found), "total": len(self.items), "offset": first}

    def _page_of_meta(self, query: Any) -> dict[str, Any]:
        first = int(query.get("after", "0"))
        last = first + min(self.page, int(query["limit"]))
        paging: dict[str, Any] = {"cursors": {"before": str(first), "after": str(last)}}
        if last < len(self.items):
            paging["next"] = "http://127.0.0.1:1/stolen?access_token=x"
        return {"data": self.items[first:last], "paging": paging}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    played = Provider()
    app = web.Application()
    app.router.add_get("/{path:.*}", played.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    played.port = runner.addresses[0][1]
    yield played
    await runner.cleanup()


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


async def add(
    stage: Stage, provider: Provider, name: channels.Provider = "360dialog", **fields: str
) -> Channel:
    secrets = {
        "360dialog": {"apiKey": KEY}, "sandbox": {"apiKey": KEY}, "meta": {"accessToken": KEY, "wabaID": "77"},
    }.get(name, {})  # fmt: skip
    new = NewChannel(
        "whatsApp", name, "+85230001234", credentials=secrets | {"baseURL": provider.url} | fields
    )
    return await channels.create(stage.connection, CIPHER, stage.app_id, new, LOOPBACK)


async def refresh(stage: Stage, channel: Channel) -> list[Listed]:
    return await templates.refresh(db.always(stage.connection), CIPHER, LOOPBACK, channel)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "first", "second", "secret"),
    [
        ("360dialog", "/v1/configs/templates?limit=200&offset=0", "/v1/configs/templates?limit=200&offset=2", KEY),
        ("sandbox", "/v1/configs/templates?limit=200&offset=0", "/v1/configs/templates?limit=200&offset=2", KEY),
        (
            "meta",
            "/v24.0/77/message_templates?limit=200&fields=name,language,status,category,components",
            "/v24.0/77/message_templates?limit=200&fields=name,language,status,category,components&after=2",
            f"Bearer {KEY}",
        ),
    ],
)  # fmt: skip
async def test_all_pages_are_listed_and_remembered(
    stage: Stage,
    provider: Provider,
    name: channels.Provider,
    first: str,
    second: str,
    secret: str,
) -> None:
    provider.items = [
        item("b"),
        item("a", status="rejected", language="zh_HK", category=None),
        item("c", components=None),
    ]
    provider.page = 2
    channel = await add(stage, provider, name)
    listed = await refresh(stage, channel)
    assert listed == [
        Listed("a", "zh_HK", "REJECTED", "", [{"type": "BODY", "text": "Hi {{1}}"}]),
        Listed("b", "en_US", "APPROVED", "MARKETING", [{"type": "BODY", "text": "Hi {{1}}"}]),
        Listed("c", "en_US", "APPROVED", "MARKETING", []),
    ]
    assert await templates.list_cached(stage.connection, stage.app_id, channel.channel_number) == listed
    assert provider.asked == [(first, secret), (second, secret)]


@pytest.mark.anyio
async def test_what_is_no_longer_listed_is_forgotten_and_what_changed_is_changed(
    stage: Stage, provider: Provider
) -> None:
    channel, other = await add(stage, provider), await add(stage, provider)
    provider.items = [item("a"), item("b")]
    for one in (channel, other):
        await refresh(stage, one)
    provider.items = [item("b", status="PAUSED"), item("b", language="zh_HK"), item("b", language="zh_HK")]
    await refresh(stage, channel)

    async def known(channel: Channel) -> list[tuple[str, str, str]]:
        listed = await templates.list_cached(stage.connection, stage.app_id, channel.channel_number)
        return [(one.name, one.language, one.status) for one in listed]

    assert await known(channel) == [("b", "en_US", "PAUSED"), ("b", "zh_HK", "APPROVED")]
    assert await known(other) == [("a", "en_US", "APPROVED"), ("b", "en_US", "APPROVED")]
    provider.items = []
    assert await refresh(stage, channel) == []
    assert await known(channel) == []


@pytest.mark.anyio
async def test_an_odd_template_costs_none_of_the_others(stage: Stage, provider: Provider) -> None:
    provider.items = [
        None,
        "x",
        {},
        item(name=7),
        item("n", components=[{"text": "\0"}]),
        item("s", status="LIMBO"),
        item("ok"),
    ]
    channel = await add(stage, provider)
    listed = await refresh(stage, channel)
    assert [(one.name, one.status) for one in listed] == [("ok", "APPROVED"), ("s", "LIMBO")]


@pytest.mark.anyio
async def test_a_gateway_that_repeats_itself_is_not_asked_for_ever(stage: Stage, provider: Provider) -> None:
    provider.body = json.dumps({"waba_templates": [item()], "total": 10**9}).encode()
    channel = await add(stage, provider)
    with pytest.raises(ServiceUnavailable, match="more than 200 pages"):
        await refresh(stage, channel)
    assert len(provider.asked) == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, {"meta": {"http_code": 401, "developer_message": f"Invalid api_key {KEY}"}}, Unprocessable,
         "the provider does not list its templates: HTTP 401, Invalid api_key …"),
        (400, {"error": {"message": "(#100) No such account", "code": 100}}, Unprocessable,
         "the provider does not list its templates: HTTP 400, (#100) No such account"),
        (302, None, Unprocessable, "the provider does not list its templates: HTTP 302"),
        (429, {"error": "slower"}, ServiceUnavailable, "the provider does not list its templates: HTTP 429, slower"),
        (502, None, ServiceUnavailable, "the provider does not list its templates: HTTP 502"),
        (200, {"data": []}, ServiceUnavailable, "the provider's list of templates has no waba_templates"),
        (200, [], ServiceUnavailable, "the provider's list of templates has no waba_templates"),
        (200, None, ServiceUnavailable, "the provider's list of templates is not JSON"),
        (200, "x" * 17_000_000, ServiceUnavailable, "the provider's list of templates is too long"),
    ],
)  # fmt: skip
async def test_a_provider_that_does_not_list_says_why_but_not_the_key(
    stage: Stage,
    provider: Provider,
    status: int,
    body: Any,
    kind: type[Problem],
    message: str,
) -> None:
    channel = await add(stage, provider)
    await templates.keep(stage.connection, channel, [Listed("kept", "en", "APPROVED", "", [])])
    provider.status, provider.body = status, b"<html>" if body is None else json.dumps(body).encode()
    with pytest.raises(kind) as failure:
        await refresh(stage, channel)
    assert failure.value.message == message
    cached = await templates.list_cached(stage.connection, stage.app_id, channel.channel_number)
    assert [one.name for one in cached] == ["kept"]


@pytest.mark.anyio
async def test_what_has_no_templates_or_cannot_be_asked_says_so(stage: Stage, provider: Provider) -> None:
    async def problem(channel: Channel) -> str:
        with pytest.raises(Problem) as failure:
            await refresh(stage, channel)
        return failure.value.message

    assert (
        await problem(await add(stage, provider, "meta", wabaID=""))
        == "the channel's credentials lack wabaID"
    )
    assert (
        await problem(await add(stage, provider, "sandbox", baseURL=""))
        == "the channel's credentials lack baseURL"
    )
    assert await problem(await add(stage, provider, "twilio")) == (
        "templates cannot be listed from twilio: only 360dialog, meta, sandbox list them"
    )
    sms = await stage.add_channel("sms")
    assert await problem(sms) == f"channel {sms.channel_id} is for SMS: only WhatsApp has templates"
    away = await problem(await add(stage, provider, baseURL="http://127.0.0.1:1"))
    assert away.startswith("360dialog cannot be asked for its templates: Cannot connect to host 127.0.0.1:1")
    assert provider.asked == []


@pytest.fixture(scope="module")
def sending_server(data_dir: Path, database_url: str) -> Iterator[Server]:  # noqa: ARG001 - joins the running database
    started = start_server(data_dir, "--private-hosts", "127.0.0.1")
    yield started
    assert started.stop() == 0


@pytest.mark.anyio
async def test_the_api_asks_when_it_must_and_serves_what_it_remembers_when_the_provider_fails(
    provider: Provider, sending_server: Server, make_app: Callable[[Server], App], connection: db.Connection
) -> None:
    made = make_app(sending_server)
    async with httpx.AsyncClient(timeout=30) as http:

        async def ask(query: str = "", channel: str = "") -> httpx.Response:
            url = (
                f"{made.server_url}/v1/api/apps/{made.app_id}/channels/{channel or whatsapp}/templates{query}"
            )
            return await http.get(url, headers={"Authorization": f"Bearer {made.token}"})

        async def age(minutes: int) -> None:
            query = f"update templates set listed_at = now() - interval '{minutes} min' where app_id = %s"
            await connection.execute(query.encode(), [made.app_id])

        credentials = {"apiKey": KEY, "baseURL": provider.url}
        whatsapp = made.add_channel(provider="sandbox", credentials=credentials)
        provider.status = 500
        answer = await ask()
        assert (answer.status_code, answer.json()["message"]) == (
            503,
            "the provider does not list its templates: HTTP 500",
        )
        provider.status, provider.items = 200, [item()]
        result = (await ask()).json()["result"]
        assert list(result) == ["templates", "listedAt", "ageSeconds", "problem"]
        assert (result["templates"], result["ageSeconds"], result["problem"]) == ([item()], 0, None)
        assert len(result["listedAt"]) == 24

        provider.items = [item("new")]
        await age(9)
        result = (await ask()).json()["result"]
        assert ([one["name"] for one in result["templates"]], result["ageSeconds"] // 10) == (["sale"], 54)
        result = (await ask("?refresh=true")).json()["result"]
        assert ([one["name"] for one in result["templates"]], result["ageSeconds"]) == (["new"], 0)

        provider.items = [item("newer")]
        await age(11)
        result = (await ask()).json()["result"]
        assert [one["name"] for one in result["templates"]] == ["newer"]

        provider.status, provider.body = 401, b'{"error":"Invalid api_key"}'
        result = (await ask("?refresh=true")).json()["result"]
        assert [one["name"] for one in result["templates"]] == ["newer"]
        assert result["problem"] == "the provider does not list its templates: HTTP 401, Invalid api_key"

        assert (await ask("?refresh=now")).status_code == 400
        assert (await ask(channel="nobody")).status_code == 404
        sms = made.add_channel(type="sms", provider="sandbox", credentials=credentials)
        assert (await ask(channel=sms)).status_code == 422


BUTTONS = [
    {"type": "QUICK_REPLY", "text": "Yes"},
    {"type": "URL", "text": "Shop", "url": "https://l.example.com/r/{{1}}"},
    {"type": "URL", "text": "Home", "url": "https://example.com"},
    {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+85230001234"},
]
FULL = Listed(
    "full", "en_US", "APPROVED", "MARKETING",
    [
        {"type": "HEADER", "format": "IMAGE"},
        {"type": "BODY", "text": "Hi {{1}}, {{2}} off until {{3}}; yes, {{2}}!"},
        {"type": "FOOTER", "text": "Answer STOP"},
        {"type": "BUTTONS", "buttons": BUTTONS},
    ],
)  # fmt: skip
NAMED = Listed(
    "named", "en_US", "APPROVED", "UTILITY", [{"type": "body", "text": "{{name}}: {{ order_id }}"}]
)
TITLED = Listed(
    "titled", "en_US", "APPROVED", "UTILITY",
    [{"type": "HEADER", "format": "TEXT", "text": "For {{1}}"}, {"type": "BODY", "text": "Hello"}],
)  # fmt: skip
PLAIN = Listed(
    "plain", "en_US", "APPROVED", "UTILITY", [{"type": "HEADER", "format": "TEXT", "text": "Hello"}, {"type": "BODY", "text": "World"}],
)  # fmt: skip
COUPON = Listed(
    "coupon", "en_US", "APPROVED", "MARKETING",
    [{"type": "BODY", "text": "Code"}, {"type": "BUTTONS", "buttons": [{"type": "COPY_CODE", "text": "Copy"}]}],
)  # fmt: skip
PLACE = Listed("place", "en_US", "APPROVED", "UTILITY", [{"type": "HEADER", "format": "LOCATION"}])
CARDS = Listed(
    "cards",
    "en_US",
    "APPROVED",
    "MARKETING",
    [{"type": "BODY", "text": "See"}, {"type": "CAROUSEL", "cards": []}],
)
PAUSED = Listed("paused", "en_US", "PAUSED", "MARKETING", [])
MUTE = Listed(
    "named_header", "en_US", "APPROVED", "UTILITY", [{"type": "HEADER", "format": "TEXT", "text": "{{who}}"}]
)
ODD = Listed(
    "odd",
    "en_US",
    "APPROVED",
    "",
    [{"type": "BODY", "text": None}, {"type": "BUTTONS", "buttons": [None, 7]}, {"type": 5}],
)
LISTED = [
    FULL,
    NAMED,
    TITLED,
    PLAIN,
    COUPON,
    PLACE,
    CARDS,
    PAUSED,
    MUTE,
    ODD,
    Listed("full", "zh_HK", "PENDING", "", []),
]
GOOD: dict[str, Any] = {
    "name": "full", "language": "en_US", "header": {"image": "https://cdn.example.com/{{sku}}.jpg"},
    "body": ["{{name}}", "20%", "Sunday"],
    "buttons": [{"index": 0, "payload": "yes"}, {"index": 1, "trackedURL": "https://shop.example.com/sale"}],
}  # fmt: skip


def use(**members: Any) -> TemplateUse:
    given = {name: value for name, value in members.items() if value is not None}
    return msgspec.convert({"language": "en_US"} | given, TemplateUse)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param(GOOD, id="everything"),
        pytest.param(
            GOOD | {"buttons": [{"index": 1, "suffix": "{{code}}"}]}, id="a quick reply needs no payload"
        ),
        pytest.param(
            {"name": "named", "body": {"order_id": "{{order}}", "name": "Mei"}}, id="named parameters"
        ),
        pytest.param({"name": "titled", "header": {"text": "{{name}}"}}, id="a text in the header"),
        pytest.param({"name": "plain"}, id="nothing to fill in"),
        pytest.param({"name": "plain", "body": [], "buttons": []}, id="nothing, said explicitly"),
        pytest.param({"name": "coupon", "buttons": [{"index": 0, "coupon": "{{code}}"}]}, id="a coupon"),
    ],
)
def test_a_use_that_fits_is_taken(members: dict[str, Any]) -> None:
    check_use(use(**members), LISTED)


def changed(**members: Any) -> dict[str, Any]:
    return GOOD | members


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"name": "nothing"}, "template.name: the channel has no template nothing; the provider lists cards, coupon, full, "
         "named, named_header, odd, paused, place, plain, titled"),
        (changed(language="fr"), "template.language: full exists in en_US, zh_HK, not in fr"),
        (changed(language="zh_HK"), "template full (zh_HK) is PENDING, not APPROVED"),
        ({"name": "paused"}, "template paused (en_US) is PAUSED, not APPROVED"),
        ({"name": "cards"}, "template cards has a component CAROUSEL, which tallycast cannot fill in"),
        (changed(header=None), "template.header is missing: the template's header needs an image"),
        (changed(header={"text": "Hi"}), "template.header must be an image, not a text"),
        (changed(header={"document": "https://x/y.pdf"}), "template.header must be an image, not a document"),
        ({"name": "titled"}, "template.header is missing: the template's header needs a text"),
        ({"name": "plain", "header": {"text": "x"}}, "template.header: the template's header takes no parameter"),
        ({"name": "named", "header": {"text": "x"}, "body": {"name": "a", "order_id": "b"}},
         "template.header: the template's header takes no parameter"),
        ({"name": "place"}, "template.header: a header of kind location cannot be filled in by tallycast"),
        ({"name": "named_header", "header": {"text": "x"}},
         "template.header: a header's named parameter cannot be filled in by tallycast"),
        (changed(body=["a", "b"]), "template.body has 2 parameters, and the template takes 3"),
        (changed(body=None), "template.body has 0 parameters, and the template takes 3"),
        ({"name": "plain", "body": ["a"]}, "template.body has 1 parameters, and the template takes 0"),
        (changed(body={"1": "a", "2": "b", "3": "c"}), "template.body must be a list of the values for 1, 2, 3"),
        ({"name": "named", "body": ["a", "b"]}, "template.body must be an object with the names name, order_id"),
        ({"name": "named"}, "template.body has 0 parameters, and the template takes 2: name, order_id"),
        ({"name": "named", "body": {"name": "a"}}, "template.body.order_id is missing: the template has such a parameter"),
        ({"name": "named", "body": {"name": "a", "order_id": "b", "x": "c"}},
         "template.body.x: the template has no such parameter"),
        ({"name": "plain", "body": {"x": "c"}}, "template.body.x: the template has no such parameter"),
        (changed(buttons=[]), "template.buttons: button 1 (Shop) needs suffix or trackedURL"),
        ({"name": "coupon"}, "template.buttons: button 0 (Copy) needs coupon"),
        (changed(buttons=[{"index": 4, "payload": "x"}]), "template.buttons[0].index: the template has 4 buttons, counted from 0"),
        ({"name": "plain", "buttons": [{"index": 0, "payload": "x"}]},
         "template.buttons[0].index: the template has 0 buttons, counted from 0"),
        (changed(buttons=[{"index": 1, "suffix": "x"}, {"index": 1, "suffix": "y"}]),
         "template.buttons[1].index: button 1 is there twice"),
        (changed(buttons=[{"index": 0, "suffix": "x"}]), "template.buttons[0].suffix: button 0 is a QUICK_REPLY, which takes payload"),
        (changed(buttons=[{"index": 1, "payload": "x"}]),
         "template.buttons[0].payload: button 1 is a URL, which takes suffix or trackedURL"),
        (changed(buttons=[{"index": 3, "suffix": "x"}]),
         "template.buttons[0].suffix: button 3 is a PHONE_NUMBER, which takes no parameter"),
        (changed(buttons=[{"index": 2, "suffix": "x"}]),
         "template.buttons[0].suffix: the URL of button 2 has no parameter: https://example.com"),
    ],
)  # fmt: skip
def test_a_use_that_does_not_fit_names_what_is_wrong(members: dict[str, Any], message: str) -> None:
    with pytest.raises(Unprocessable) as failure:
        check_use(use(**members), LISTED)
    assert failure.value.message == message


def test_a_tracked_url_needs_a_template_whose_url_leads_here() -> None:
    button = {"type": "URL", "text": "Shop", "url": "https://shop.example.com/{{1}}"}
    listed = Listed("shop", "en_US", "APPROVED", "", [{"type": "BUTTONS", "buttons": [button]}])
    with pytest.raises(Unprocessable, match=r"must end in /r/\{\{1\}\} at this server, it is https://shop"):
        check_use(use(name="shop", buttons=[{"index": 0, "trackedURL": "https://example.com"}]), [listed])


def test_whatever_a_provider_lists_checking_does_not_fail_otherwise() -> None:
    with pytest.raises(Unprocessable):
        check_use(use(name="odd"), LISTED)
    with pytest.raises(Unprocessable, match="the provider lists none"):
        check_use(use(name="odd"), [])


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"a"}',
        '{"name":"","language":"en"}',
        '{"name":"a","language":"en","x":1}',
        '{"name":"a","language":"en","body":[1]}',
        '{"name":"a","language":"en","body":{"x":1}}',
        '{"name":"a","language":"en","header":{}}',
        '{"name":"a","language":"en","header":{"text":"a","image":"b"}}',
        '{"name":"a","language":"en","header":{"image":"b","filename":"c"}}',
        '{"name":"a","language":"en","header":{"picture":"b"}}',
        '{"name":"a","language":"en","buttons":[{"payload":"x"}]}',
        '{"name":"a","language":"en","buttons":[{"index":0}]}',
        '{"name":"a","language":"en","buttons":[{"index":-1,"payload":"x"}]}',
        '{"name":"a","language":"en","buttons":[{"index":0,"payload":"x","suffix":"y"}]}',
        '{"name":"a","language":"en","buttons":[{"index":0,"trackedUrl":"https://x"}]}',
    ],
)
def test_a_use_is_decoded_strictly(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=TemplateUse)


def test_a_use_is_written_as_it_was_read() -> None:
    text = json.dumps(GOOD, separators=(",", ":")).encode()
    assert msgspec.json.encode(msgspec.json.decode(text, type=TemplateUse)) == text
