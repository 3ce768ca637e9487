"""Channels: their life, their secrets, and who may post to their webhooks."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from harness import App, Server, wait_for
from tallycast import channels, db
from tallycast.keys import load_cipher
from tallycast.providers import CARRIERS, smpp

SECRET = "correct horse battery staple"
NEW = {
    "type": "whatsApp",
    "provider": "360dialog",
    "phone": "+85230001234",
    "channelName": "Shop",
    "sourceName": "Marketing",
}
RECEIPT = b'{"receipts":[{"messageID":"m-0","status":"read"}]}'


def create(app: App, **fields: Any) -> dict[str, str]:
    made: dict[str, str] = app.result("POST", "/channels", json={**NEW, **fields})
    return made


def stored(database_url: str, app: App) -> dict[str, int]:
    """How many rows the app has of all that a webhook could leave behind."""
    tables = ("parked", "unreadable", "replies", "texts", "clicks")
    with psycopg.connect(database_url) as connection:
        return {
            name: connection.execute(f"select count(*) from {name} where app_id = %s", [app.app_id]).fetchall()[0][0]
            for name in tables
        }  # fmt: skip


def test_a_channel_is_made_with_an_unguessable_webhook_url_of_its_own(app: App) -> None:
    answer = app.request("POST", "/channels", json=NEW)
    assert answer.status_code == 201
    made = answer.json()["result"]
    assert list(made) == ["id", "webhookURL"]
    assert made["webhookURL"] == f"{app.server_url}/webhooks/360dialog/{made['id']}"
    assert made["id"].startswith(f"{app.app_id}-")
    assert len(made["id"].removeprefix(f"{app.app_id}-")) == 22, "131 random bits"
    assert create(app)["id"] != made["id"]


def test_a_channel_is_shown_without_its_secrets(app: App) -> None:
    made = create(app, webhookSecret=SECRET, credentials={"apiKey": SECRET, "signatureSecret": SECRET})
    plain = create(app, type="sms", provider="twilio", phone="SHOP")
    listed = app.request("GET", "/channels")
    assert SECRET not in listed.text
    shown = listed.json()["result"]
    moment = shown[0].pop("createdAt")
    assert (len(moment), moment[-5], moment[-1]) == (24, ".", "Z")
    assert shown[0] == {
        "id": made["id"], "type": "whatsApp", "provider": "360dialog", "phone": "+85230001234", "channelName": "Shop",
        "sourceName": "Marketing", "webhookURL": made["webhookURL"], "hasWebhookSecret": True,
        "credentials": ["apiKey", "signatureSecret"], "ratePerSecond": 80.0, "paused": None, "heardAt": None,
    }  # fmt: skip
    assert (shown[1]["id"], shown[1]["hasWebhookSecret"], shown[1]["credentials"]) == (plain["id"], False, [])
    assert app.result("GET", f"/channels/{made['id']}") == shown[0] | {"createdAt": moment}


def test_secrets_are_nowhere_in_the_database_the_log_or_an_answer(
    app: App, database_url: str, server: Server
) -> None:
    answers = [
        app.request(
            "POST", "/channels", json={**NEW, "webhookSecret": SECRET}, headers={"Idempotency-Key": "k"}
        )
    ]
    channel = answers[0].json()["result"]["id"]
    credentials = {"webhookSecret": "Tr0ub4dor&3", "credentials": {"apiKey": "Tr0ub4dor&3"}}
    answers.append(app.request("PATCH", f"/channels/{channel}", json=credentials))
    answers.append(
        app.request("PATCH", f"/channels/{channel}", content=b'{"webhookSecret": 5, "phone": "Tr0ub4dor&3"')
    )
    with psycopg.connect(database_url) as connection:
        rows = str(
            connection.execute(
                "select c::text from channels c union all select encode(answer, 'escape') from idempotency_keys"
            ).fetchall()
        )
    for secret in (SECRET, "Tr0ub4dor&3"):
        for place in (rows, server.log.read_text(), *(answer.text for answer in answers)):
            assert secret not in place
            assert secret.encode().hex() not in place


@pytest.mark.parametrize(
    ("kind", "provider"),
    [
        ("whatsApp", "smpp"),
        ("sms", "360dialog"),
        ("sms", "meta"),
        ("whatsapp", "meta"),
        ("email", "generic"),
        ("sms", "nobody"),
    ],
)
def test_a_provider_that_does_not_send_the_type_is_refused(app: App, kind: str, provider: str) -> None:
    answer = app.request("POST", "/channels", json={**NEW, "type": kind, "provider": provider})
    assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
    assert app.result("GET", "/channels") == []


@pytest.mark.parametrize(
    ("kind", "provider"),
    [("whatsApp", name) for name in ("360dialog", "meta", "twilio", "generic", "sandbox")]
    + [("sms", name) for name in ("twilio", "smpp", "generic", "sandbox")],
)
def test_every_provider_has_its_webhook(app: App, kind: str, provider: str) -> None:
    made = create(app, type=kind, provider=provider)
    assert made["webhookURL"].endswith(f"/webhooks/{provider}/{made['id']}")
    assert httpx.post(made["webhookURL"], content=b"{}").status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"phone": " "}, id="blank phone"),
        pytest.param({"phone": None}, id="no phone"),
        pytest.param({"phone": "x" * 201}, id="long phone"),
        pytest.param({"channelName": "a\0"}, id="NUL"),
        pytest.param({"webhookSecret": 5}, id="secret no text"),
        pytest.param({"credentials": {"apiKey": 5}}, id="credential no text"),
        pytest.param({"chanelName": "Shop"}, id="misspelt field"),
        pytest.param({"ratePerSecond": 0}, id="a rate of nothing"),
        pytest.param({"ratePerSecond": 10_001}, id="a rate beyond all reason"),
        pytest.param({"ratePerSecond": "80"}, id="rate no number"),
    ],
)
def test_a_channel_with_odd_fields_is_a_bad_query(app: App, fields: dict[str, Any]) -> None:
    for method, path in (("POST", "/channels"), ("PATCH", f"/channels/{create(app)['id']}")):
        body = {**NEW, **fields} if method == "POST" else fields
        answer = app.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
        assert answer.json()["message"].startswith("Bad query: ")


def test_a_change_keeps_what_it_does_not_name(app: App) -> None:
    channel = create(app, webhookSecret=SECRET, credentials={"apiKey": "k"})["id"]
    shown = app.result("PATCH", f"/channels/{channel}", json={"channelName": "Store"})
    assert (shown["channelName"], shown["sourceName"], shown["hasWebhookSecret"], shown["credentials"]) == (
        "Store",
        "Marketing",
        True,
        ["apiKey"],
    )
    shown = app.result("PATCH", f"/channels/{channel}", json={"webhookSecret": None, "credentials": None})
    assert (shown["hasWebhookSecret"], shown["credentials"]) == (False, [])
    assert app.request("PATCH", f"/channels/{channel}", json={"type": "sms"}).status_code == 400, (
        "the type stays"
    )


@pytest.mark.parametrize(
    ("kind", "provider", "rate"),
    [
        ("whatsApp", "360dialog", 80.0),
        ("whatsApp", "meta", 80.0),
        ("sms", "twilio", 10.0),
        ("sms", "smpp", 50.0),
        ("sms", "sandbox", 1000.0),
        ("sms", "generic", None),
    ],
)
def test_a_channel_has_its_providers_rate_unless_it_has_its_own(
    app: App, kind: str, provider: str, rate: float | None
) -> None:
    def shown(channel: str) -> Any:
        return app.result("GET", f"/channels/{channel}")["ratePerSecond"]

    assert shown(create(app, type=kind, provider=provider)["id"]) == rate
    channel = create(app, type=kind, provider=provider, ratePerSecond=0.1)["id"]
    assert shown(channel) == 0.1
    assert app.result("GET", "/channels")[1]["ratePerSecond"] == 0.1
    app.result("PATCH", f"/channels/{channel}", json={"channelName": "Store"})
    assert shown(channel) == 0.1
    assert app.result("PATCH", f"/channels/{channel}", json={"ratePerSecond": 400})["ratePerSecond"] == 400
    assert app.result("PATCH", f"/channels/{channel}", json={"ratePerSecond": None})["ratePerSecond"] == rate


def test_a_change_of_one_credential_keeps_the_others(app: App) -> None:
    given = {
        "accessToken": "old",
        "phoneNumberID": "1",
        "appSecret": "s",
        "verifyToken": "v",
        "version": "v21.0",
    }
    channel = create(app, provider="meta", credentials=given)["id"]
    change = {"accessToken": "new", "verifyToken": "", "version": None}
    shown = app.result("PATCH", f"/channels/{channel}", json={"credentials": change})
    assert shown["credentials"] == ["accessToken", "appSecret", "phoneNumberID"]
    assert app.result("PATCH", f"/channels/{channel}", json={"credentials": {}}) == shown
    assert app.result("PATCH", f"/channels/{channel}", json={"credentials": None})["credentials"] == []


def test_a_paused_channel_says_since_when_and_why_until_it_is_resumed(app: App, database_url: str) -> None:
    channel = create(app)["id"]

    async def pause(reason: str) -> None:
        async with db.connect(database_url) as connection:
            await channels.pause(connection, app.app_id, 1, reason)

    asyncio.run(pause("The key has expired. Put a new one in."))
    asyncio.run(pause("A later reason, which only follows from the first."))
    paused = app.result("GET", f"/channels/{channel}")["paused"]
    assert (list(paused), len(paused["since"])) == (["since", "reason"], 24)
    assert paused["reason"] == "The key has expired. Put a new one in."
    woken = "update apps set woken_at = null where app_id = %s"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(woken, [app.app_id])
        for _ in range(2):
            assert app.result("POST", f"/channels/{channel}/resume")["paused"] is None
        found = connection.execute("select woken_at is not null from apps where app_id = %s", [app.app_id])
        assert found.fetchone() == (True,), "a worker looks at once"
    assert app.result("GET", f"/channels/{channel}")["paused"] is None
    assert app.request("POST", f"/channels/{channel[:-1]}/resume").status_code == 404


ADDRESSES = [
    ("360dialog", {"baseURL": "http://waba-v2.360dialog.io"}, "must start with https://: waba-v2.360dialog.io is a public host"),
    ("meta", {"baseURL": "graph.facebook.com"}, "must start with https://"),
    ("360dialog", {"baseURL": "http://127.0.0.1:9000"}, "127.0.0.1 is not a public host: list it in private-hosts (TALLYCAST_PRIVATE_HOSTS)"),
    ("meta", {"baseURL": "https://169.254.169.254/latest"}, "169.254.169.254 is not a public host"),
    ("twilio", {"baseURL": "https://localhost"}, "localhost is not a public host"),
    ("sandbox", {"baseURL": "https://simulator:9000"}, "simulator is not a public host"),
    ("sandbox", {"baseURL": "https://user@example.com"}, "must be an address without user, query and fragment"),
    ("smpp", {"host": "10.0.0.7"}, "10.0.0.7 is not a public host"),
    ("smpp", {"host": "https://smsc.example.com"}, "must be the name or address of a host, not a URL"),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "credentials", "reason"), ADDRESSES)
def test_an_address_that_only_this_machine_can_reach_is_refused(
    app: App, provider: str, credentials: dict[str, str], reason: str
) -> None:
    kind = "sms" if provider == "smpp" else "whatsApp"
    secret = {"meta": "appSecret", "twilio": "authToken", "smpp": "password"}.get(provider, "apiKey")
    channel = create(app, type=kind, provider=provider, credentials={secret: "k"})["id"]
    fields = {"type": kind, "provider": provider, "credentials": credentials}
    for method, path, body in (
        ("POST", "/channels", {**NEW, **fields}),
        ("PATCH", f"/channels/{channel}", {"credentials": credentials}),
    ):
        answer = app.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
        [name] = credentials
        assert answer.json()["message"].startswith(f"Bad query: credentials.{name} {reason}")
    assert app.result("GET", f"/channels/{channel}")["credentials"] == [secret]


@pytest.mark.parametrize(
    ("kind", "provider", "name", "said"),
    [
        ("whatsApp", "360dialog", "apikey", "360dialog has no 'apikey'; it has apiKey, baseURL, signatureSecret"),
        ("whatsApp", "meta", "app_secret", "meta has no 'app_secret'; it has accessToken, phoneNumberID, wabaID, appSecret, verifyToken, baseURL, version"),
        ("sms", "twilio", "apiKey", "twilio has no 'apiKey'; it has accountSID, authToken, messagingServiceSID, baseURL"),
        ("sms", "sandbox", "x" * 99, f"sandbox has no '{'x' * 80}'; it has baseURL, apiKey, signatureSecret"),
        ("sms", "generic", "authToken", "generic has no 'authToken'; it has none"),
    ],
)  # fmt: skip
def test_a_credential_that_the_provider_does_not_know_is_refused_with_those_that_it_does(
    app: App, kind: str, provider: str, name: str, said: str
) -> None:
    fields = {"type": kind, "provider": provider}
    channel = create(app, **fields, webhookSecret="w")["id"]
    given = {"credentials": {name: SECRET}}
    for method, path, body in (
        ("POST", "/channels", {**NEW, **fields, **given}),
        ("PATCH", f"/channels/{channel}", given),
    ):
        answer = app.request(method, path, json=body)
        assert (answer.status_code, answer.json()["message"]) == (400, f"Bad query: credentials: {said}")
    assert [one["credentials"] for one in app.result("GET", "/channels")] == [[]]


def test_a_credential_of_an_unknown_name_from_before_stays_until_it_is_removed(
    app: App, server: Server, database_url: str
) -> None:
    channel = create(app, credentials={"apiKey": "k"})["id"]
    secrets = channels.Secrets("", {"apiKey": "k", "x": "1"})
    cipher = load_cipher(None, server.data_dir)
    sealed = cipher.seal(msgspec.json.encode(secrets), f"channel {app.app_id} {channel}")
    with psycopg.connect(database_url, autocommit=True) as connection:
        query = "update channels set secrets = %s where app_id = %s and channel_id = %s"
        connection.execute(query, [sealed, app.app_id, channel])
    path = f"/channels/{channel}"
    shown = app.result("PATCH", path, json={"credentials": {"apiKey": "new"}})
    assert shown["credentials"] == ["apiKey", "x"]
    assert app.result("PATCH", path, json={"credentials": {"x": None}})["credentials"] == ["apiKey"]


def test_every_credential_that_smpp_reads_may_be_given(app: App) -> None:
    given = {
        "host": "smsc.example.com", "port": "2776", "systemID": "s", "password": "p", "systemType": "t", "tls": "true",
        "sourceTON": "5", "sourceNPI": "0", "destinationTON": "1", "destinationNPI": "1", "defaultAlphabet": "latin1",
        "concatenation": "sar", "messageIDs": "exact", "receiptTimeZone": "UTC", "acceptedIsFinal": "true",
        "window": "5", "registeredDelivery": "1",
    }  # fmt: skip
    names: set[str] = set()

    class Read(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            names.add(name)
            return super().get(name, default)

    smpp.read_options(Read(given))
    assert names == given.keys()
    channel = create(app, type="sms", provider="smpp", phone="SHOP", credentials=given)["id"]
    assert app.result("GET", f"/channels/{channel}")["credentials"] == sorted(given)


def test_an_smpp_port_is_a_port(app: App) -> None:
    fields = {"type": "sms", "provider": "smpp", "phone": "SHOP"}
    for port in ("0", "65536", "x", "-1"):
        credentials = {"host": "smsc.example.com", "port": port}
        answer = app.request("POST", "/channels", json={**fields, "credentials": credentials})
        assert answer.json()["message"] == "Bad query: credentials.port must be a number from 1 to 65535"
    create(app, **fields, credentials={"host": "smsc.example.com", "port": "2776"})


@pytest.mark.parametrize(
    ("kind", "provider", "given", "missing"),
    [
        ("whatsApp", "360dialog", {}, ["apiKey"]),
        ("whatsApp", "360dialog", {"apiKey": "k"}, []),
        ("whatsApp", "meta", {"accessToken": " "}, ["accessToken", "phoneNumberID"]),
        ("sms", "twilio", {"accountSID": "AC1"}, ["authToken"]),
        ("whatsApp", "twilio", {"accountSID": "AC1"}, ["a provider that sends templates (twilio does not here)"]),
        ("sms", "smpp", {"host": "smsc.example.com"}, ["systemID", "password"]),
        ("sms", "sandbox", {}, ["baseURL", "apiKey"]),
        ("sms", "generic", {}, ["a provider that sends (generic only receives)"]),
    ],
)  # fmt: skip
def test_a_channel_can_tell_what_it_lacks_for_sending(
    kind: channels.ChannelType, provider: str, given: dict[str, str], missing: list[str]
) -> None:
    assert channels.missing_credentials(kind, provider, given) == missing


def test_whoever_sends_over_http_or_smpp_has_a_rate() -> None:
    assert set(channels.DEFAULT_RATES) == {*CARRIERS, "smpp"}


def test_renaming_a_channel_does_not_change_what_was_sent(app: App) -> None:
    channel = create(app, provider="generic")["id"]
    app.record(channel, ["m-0"])
    app.result("PATCH", f"/channels/{channel}", json={"channelName": "Store", "phone": "+85230009999"})
    assert app.summary()[0]["sender"] == {
        "phone": "+85230001234",
        "channelName": "Shop",
        "sourceName": "Marketing",
    }


def test_a_deleted_channel_is_gone_and_its_campaigns_stay(app: App, database_url: str) -> None:
    made = create(app, provider="generic", webhookSecret=SECRET)
    app.record(made["id"], ["m-0"])
    answer = app.request("DELETE", f"/channels/{made['id']}")
    assert (answer.status_code, answer.json()["result"]) == (200, {})
    for method in ("GET", "DELETE", "PATCH"):
        body = {"json": {"phone": "1"}} if method == "PATCH" else {}
        assert app.request(method, f"/channels/{made['id']}", **body).status_code == 404
    assert app.result("GET", "/channels") == []
    wait_for(lambda: httpx.post(made["webhookURL"], content=RECEIPT).status_code == 404, 5)
    assert (
        app.request(
            "POST", "/sent-campaigns", json={"campaignName": "A", "channelID": made["id"]}
        ).status_code
        == 400
    )
    assert app.summary()[0]["sender"]["channelName"] == "Shop"
    with psycopg.connect(database_url) as connection:
        query = "select secrets from channels where app_id = %s"
        assert connection.execute(query, [app.app_id]).fetchall() == [(None,)], "its secrets are forgotten"


def bearer(secret: str, _url: str, _body: bytes) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def basic(secret: str, _url: str, _body: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"any:{secret}".encode()).decode()}


def dialog360(secret: str, _url: str, body: bytes) -> dict[str, str]:
    return {"X-360dialog-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def meta(secret: str, _url: str, body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def twilio(secret: str, url: str, body: bytes) -> dict[str, str]:
    fields = "".join(sorted(name.replace("=", "") for name in body.decode().split("&")))
    signature = base64.b64encode(
        hmac.new(secret.encode(), (url + fields).encode(), hashlib.sha1).digest()
    ).decode()
    return {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}


STATUS = {"id": "m-0", "status": "read", "timestamp": "1795402800", "recipient_id": "85291000000"}
WHATSAPP = json.dumps(
    {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": "messages", "value": {"statuses": [STATUS]}}]}]}
).encode()  # fmt: skip
TWILIO = b"MessageSid=m-0&MessageStatus=read"
Prove = Callable[[str, str, bytes], dict[str, str]]
PROOFS = [
    pytest.param("generic", "webhookSecret", bearer, RECEIPT, id="generic, bearer"),
    pytest.param("generic", "webhookSecret", basic, RECEIPT, id="generic, basic"),
    pytest.param("smpp", "webhookSecret", bearer, RECEIPT, id="smpp, bearer"),
    pytest.param("360dialog", "webhookSecret", bearer, WHATSAPP, id="360dialog, bearer"),
    pytest.param("360dialog", "webhookSecret", basic, WHATSAPP, id="360dialog, basic"),
    pytest.param("360dialog", "webhookSecret", dialog360, WHATSAPP, id="360dialog, signature"),
    pytest.param("360dialog", "signatureSecret", dialog360, WHATSAPP, id="360dialog, signature of its own"),
    pytest.param("meta", "appSecret", meta, WHATSAPP, id="meta, app secret"),
    pytest.param("meta", "webhookSecret", meta, WHATSAPP, id="meta, webhook secret"),
    pytest.param("twilio", "authToken", twilio, TWILIO, id="twilio, auth token"),
    pytest.param("twilio", "webhookSecret", twilio, TWILIO, id="twilio, webhook secret"),
]


@pytest.mark.parametrize(("provider", "where", "prove", "body"), PROOFS)
def test_a_webhook_takes_nothing_without_the_proof_that_its_channel_demands(
    app: App, database_url: str, provider: str, where: str, prove: Prove, body: bytes
) -> None:
    secrets: dict[str, Any] = (
        {"webhookSecret": SECRET} if where == "webhookSecret" else {"credentials": {where: SECRET}}
    )
    made = create(app, provider=provider, type="sms" if provider == "smpp" else "whatsApp", **secrets)
    campaign = app.record(made["id"], ["m-0"])
    url = made["webhookURL"]
    wrong = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": f"Token {SECRET}"},
        {"Authorization": "Bearer " + app.token},
        {"Authorization": "Basic ???"},
        {"Authorization": "Basic " + base64.b64encode(b"no colon").decode()},
        {"X-Hub-Signature-256": "sha256="},
        {"X-360dialog-Signature": "0" * 64},
        {"X-Twilio-Signature": ""},
        prove(SECRET + "x", url, body),
        prove(SECRET[:-1], url, body),
        prove("", url, body),
    ]
    if prove in {dialog360, meta, twilio}:
        wrong.append(prove(SECRET, url, body + b"&x=1"))
        wrong.append({name: "é" + value for name, value in prove(SECRET, url, body).items()})
    for headers in wrong:
        encoded = {name: value.strip().encode("latin-1") for name, value in headers.items()}
        answer = httpx.post(url, content=body, headers=encoded)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (401, 401), headers
        assert answer.headers["www-authenticate"] == "Bearer"
    assert set(stored(database_url, app).values()) == {0}
    assert app.totals(campaign)["delivered"] == 0
    answer = httpx.post(url, content=body, headers=prove(SECRET, url, body))
    assert answer.status_code == 200, answer.text
    assert app.totals(campaign)["delivered"] == 1


def test_a_webhook_refuses_an_unreadable_body_without_proof_and_keeps_it_with_proof(
    app: App, database_url: str
) -> None:
    url = create(app, provider="generic", webhookSecret=SECRET)["webhookURL"]
    assert httpx.post(url, content=b"\xff\x00nonsense").status_code == 401
    assert set(stored(database_url, app).values()) == {0}
    assert httpx.post(url, content=b"\xff\x00nonsense", headers=bearer(SECRET, "", b"")).status_code == 200
    [kept] = app.result("GET", "/receipts/unreadable")
    assert (kept["raw"], kept["times"], len(kept["firstAt"]), len(kept["lastAt"])) == (
        "\ufffd\0nonsense",
        1,
        24,
        24,
    )


def test_a_webhook_of_another_provider_or_of_no_channel_is_404(app: App) -> None:
    url = create(app, provider="generic")["webhookURL"]
    for other in (
        url.replace("/generic/", "/meta/"),
        url.replace("/generic/", "/nobody/"),
        url[:-1],
        url + "x",
        url.rpartition("-")[0],
    ):
        answer = httpx.post(other, content=RECEIPT)
        assert (answer.status_code, answer.json()["code"]) == (404, 404)
    assert httpx.put(url, content=RECEIPT).status_code == 405


def test_a_reference_in_the_url_names_the_message_of_a_receipt_that_names_none(app: App) -> None:
    """Twilio echoes nothing of ours but the URL that it was told to call, and it may call before it answers."""
    channel = create(app, type="sms", provider="twilio", phone="SHOP", credentials={"authToken": SECRET})
    campaign = app.record(channel["id"], [None, None])
    body = b"MessageSid=SM1&MessageStatus=delivered"
    url = f"{channel['webhookURL']}?reference=tc%3A{campaign}.1"
    assert (
        httpx.post(url, content=body, headers=twilio(SECRET, channel["webhookURL"], body)).status_code == 401
    )
    assert httpx.post(url, content=body, headers=twilio(SECRET, url, body)).status_code == 200
    assert app.totals(campaign)["delivered"] == 1
    for n, odd in enumerate(("", "tc%3A0.1", "SM1", "tc%3A1.x", "%00", "a" * 5000)):
        parked = f"MessageSid=SM-{n}&MessageStatus=delivered".encode()
        strange = f"{channel['webhookURL']}?reference={odd}"
        assert httpx.post(strange, content=parked, headers=twilio(SECRET, strange, parked)).status_code == 200
    assert app.totals(campaign)["delivered"] == 1
    assert len(app.result("GET", "/receipts/parked")) == 6


def test_a_receipts_own_reference_wins_over_the_urls(app: App) -> None:
    channel = create(app, provider="generic")
    campaign = app.record(channel["id"], [None, None, None])
    receipts = [
        {"messageID": "a", "status": "delivered", "reference": f"tc:{campaign}.2"},
        {"messageID": "b", "status": "read"},
    ]
    url = f"{channel['webhookURL']}?x=1&reference=tc:{campaign}.0"
    assert httpx.post(url, json={"receipts": receipts}).status_code == 200
    known = app.result("GET", f"/sent-campaigns/{campaign}/messages")["messages"]
    assert [row.get("messageID") for row in known] == ["b", None, "a"]


def test_a_new_secret_counts_within_five_seconds(app: App) -> None:
    made = create(app, provider="generic", webhookSecret="old")
    assert httpx.post(made["webhookURL"], content=RECEIPT, headers=bearer("old", "", b"")).status_code == 200
    app.result("PATCH", f"/channels/{made['id']}", json={"webhookSecret": "new"})
    wait_for(
        lambda: (
            httpx.post(made["webhookURL"], content=RECEIPT, headers=bearer("new", "", b"")).status_code == 200
        ),
        5,
    )
    assert httpx.post(made["webhookURL"], content=RECEIPT, headers=bearer("old", "", b"")).status_code == 401


def test_metas_handshake_gives_the_challenge_back_to_whom_knows_the_token(app: App) -> None:
    url = create(app, provider="meta", credentials={"verifyToken": "agreed", "appSecret": "s"})["webhookURL"]
    question = {"hub.mode": "subscribe", "hub.verify_token": "agreed", "hub.challenge": "1158201444"}
    answer = httpx.get(url, params=question)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    wrong = [
        {"hub.verify_token": "guessed"},
        {"hub.verify_token": ""},
        {"hub.mode": "unsubscribe"},
        {"hub.mode": ""},
    ]
    for change in wrong:
        assert httpx.get(url, params=question | change).status_code == 403
    assert httpx.get(url).status_code == 403
    assert (
        httpx.get(
            create(app, provider="meta")["webhookURL"], params=question | {"hub.verify_token": ""}
        ).status_code
        == 403
    )
    assert httpx.get(create(app)["webhookURL"], params=question).status_code == 404, (
        "only Meta has a handshake"
    )
