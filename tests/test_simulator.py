"""The simulator's HTTP side, checked by tallycast's own verifiers and parsers."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from outside import SPRING, change, outside, statuses
from tallycast.events import Receipt, Status, TextReply
from tallycast.providers import meta, twilio

pytestmark = pytest.mark.anyio

# 360dialog


async def test_a_message_is_answered_like_metas_and_its_receipts_come_with_the_agreed_header() -> None:
    async with outside(change(read=1.0)) as ours:
        await ours.point()
        status, answer = await ours.send("+85290000001")
        message_id = answer["messages"][0]["id"]
        assert status == 200
        assert answer == {
            "messaging_product": "whatsapp",
            "contacts": [{"input": "+85290000001", "wa_id": "85290000001"}],
            "messages": [{"id": message_id, "message_status": "accepted"}],
        }
        events = await ours.events()
        assert statuses(events) == [Status.ACCEPTED, Status.DELIVERED, Status.READ]
        assert {(one.message_id, one.reference) for one in events if isinstance(one, Receipt)} == {
            (message_id, "tc:7.0")
        }
        [line] = await ours.ledger()
        assert line.pop("at").endswith("Z")
        assert line == {
            "kind": "message", "provider": "360dialog", "channel": "k1", "sender": "k1", "recipient": "+85290000001",
            "messageID": message_id, "messageIDs": [message_id], "reference": "tc:7.0", "template": "spring_sale_v3",
            "text": "Hi Mei, 20% off everything this week.", "became": "read", "failureCode": None, "answer": "given",
            "told": ["sent", "delivered", "read"], "replies": [], "clicks": 0, "previews": 0,
        }  # fmt: skip


async def test_statuses_that_are_due_together_come_in_one_body() -> None:
    async with outside(change(delivered_seconds=(0.3, 0.3))) as ours:
        await ours.point()
        await asyncio.gather(*(ours.send(f"8529000{n:04d}", reference=f"tc:7.{n}") for n in range(100)))
        assert Counter(statuses(await ours.events())) == {Status.ACCEPTED: 100, Status.DELIVERED: 100}
        assert len(ours.heard) < 100


async def test_what_the_webhook_does_not_answer_with_200_is_posted_again() -> None:
    async with outside(change(webhook_backoff_seconds=(0.01, 0.02))) as ours:
        await ours.point()
        ours.answers = [503, 204, 302]
        await ours.send()
        await ours.settle()
        assert (await ours.ledger())[0]["told"] == ["sent", "delivered"]
        assert (await ours.summary())["givenUp"] == 0


async def test_a_webhook_that_never_answers_200_is_given_up_in_the_end() -> None:
    async with outside(change(webhook_attempts=3, webhook_backoff_seconds=(0.01, 0.02))) as ours:
        await ours.point()
        ours.answers = [500] * 99
        await ours.send()
        await ours.settle()
        assert ((await ours.summary())["givenUp"], (await ours.ledger())[0]["told"]) == (2, [])


async def test_the_webhook_of_a_key_can_be_asked_for() -> None:
    async with outside() as ours:
        headers = {"D360-API-KEY": "k1"}
        assert (await ours.ask("GET", "/v1/configs/webhook", headers=headers))[0] == 404
        await ours.point()
        assert await ours.ask("GET", "/v1/configs/webhook", headers=headers) == (
            200,
            {"url": f"{ours.own_url}/webhooks/360dialog/c1", "headers": {"Authorization": "Bearer s3cret"}},
        )


# Meta


async def test_meta_asks_for_the_handshake_and_signs_what_it_posts() -> None:
    hook = {"appSecret": "app-secret", "verifyToken": "token"}
    async with outside() as ours:
        hook["webhookURL"] = f"{ours.own_url}/webhooks/meta/c1"
        status, _ = await ours.ask("POST", "/simulator/meta/1001", json={**hook, "verifyToken": "another"})
        assert status == 400
        assert (await ours.ask("POST", "/simulator/meta/1001", json=hook))[0] == 200
        ours.heard.clear()
        body = {"to": "85290000001", "type": "template", "template": SPRING}
        status, _ = await ours.ask(
            "POST", "/v23.0/1001/messages", json=body, headers={"Authorization": "Bearer t"}
        )
        assert status == 200
        posts = await ours.settle()
        assert all(meta.verify("app-secret", {}, post.signed()) for post in posts)
        assert not meta.verify("another", {}, posts[0].signed())
        events = [event for post in posts for event in meta.parse(post.body, "application/json")]
        assert statuses(events) == [Status.ACCEPTED, Status.DELIVERED]
        assert b'"phone_number_id":"1001"' in posts[0].body


# Twilio


async def test_twilio_signs_its_callbacks_with_the_accounts_token() -> None:
    async with outside() as ours:
        callback = f"{ours.own_url}/webhooks/twilio/c1?reference=tc%3A7.3"
        status, answer = await ours.send_sms(StatusCallback=callback, Body="Hallo")
        assert (status, answer["status"], answer["num_segments"]) == (201, "queued", "1")
        posts = await ours.settle()
        assert [post.url for post in posts] == [callback, callback]
        assert all(twilio.verify("", {"authToken": "t0ken"}, post.signed()) for post in posts)
        assert not twilio.verify("", {"authToken": "another"}, posts[0].signed())
        events = [event for post in posts for event in twilio.parse(post.body, "")]
        assert statuses(events) == [Status.ACCEPTED, Status.DELIVERED]
        [line] = await ours.ledger()
        assert (line["reference"], line["text"], line["messageID"]) == ("tc:7.3", "Hallo", answer["sid"])


async def test_who_answers_stop_by_sms_is_refused_from_then_on() -> None:
    async with outside(change(stop_texts=1.0)) as ours:
        incoming = f"{ours.own_url}/webhooks/twilio/c1"
        await ours.ask("POST", "/simulator/twilio/AC1", json={"authToken": "t0ken", "incomingURL": incoming})
        await ours.send_sms()
        [post] = await ours.settle()
        assert twilio.verify("", {"authToken": "t0ken"}, post.signed())
        [reply] = twilio.parse(post.body, "")
        assert isinstance(reply, TextReply)
        assert (reply.text, reply.sender) == ("STOP", "+85290000001")
        status, answer = await ours.send_sms()
        assert (status, answer["code"]) == (400, 21610)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"to": "12"}, 21211), ({"Body": ""}, 21602), ({"From": ""}, 21603), ({"Body": "x" * 1601}, 21617)],
)
async def test_twilio_refuses_what_is_no_message(fields: dict[str, str], code: int) -> None:
    async with outside() as ours:
        status, answer = await ours.send_sms(**fields)
        assert (status, answer["code"], answer["status"]) == (400, code, 400)


# Refusals


@pytest.mark.parametrize(
    ("fields", "gateway", "at_meta", "at_twilio"),
    [
        ({"throttled": 1.0}, (429, "130429"), (429, "130429"), (429, "20429")),
        ({"limited": 1.0}, (400, "400"), (400, "80007"), (429, "20429")),
        ({"broken": 1.0}, (502, "502"), (503, "2"), (500, "20500")),
        ({"pair_limited": 1.0}, (400, "131056"), (400, "131056"), (429, "20429")),
        ({"invalid_keys": ("k1", "t0ken")}, (401, "401"), (401, "190"), (401, "20003")),
    ],
)
async def test_each_provider_refuses_in_its_own_words(
    fields: dict[str, Any], gateway: tuple[int, str], at_meta: tuple[int, str], at_twilio: tuple[int, str]
) -> None:
    async with outside(change(**fields)) as ours:
        body = {"to": "85290000001", "type": "template", "template": SPRING}
        token = {"Authorization": "Bearer t0ken"}
        answers = [
            await ours.send(),
            await ours.ask("POST", "/v23.0/1001/messages", json=body, headers=token),
            await ours.send_sms(),
        ]
        lines = await ours.ledger()
        assert [line["kind"] for line in lines] == ["refused"] * 3
        found = [(status, line["code"]) for (status, _), line in zip(answers, lines, strict=True)]
        assert found == [gateway, at_meta, at_twilio]


async def test_a_throttled_request_says_when_to_come_again() -> None:
    async with outside(change(throttled=1.0, retry_after_seconds=7)) as ours:
        headers = {"D360-API-KEY": "k1"}
        body = {"to": "85290000001", "type": "template", "template": SPRING}
        async with ours.client.post(f"{ours.url}/messages", json=body, headers=headers) as answer:
            assert answer.headers["Retry-After"] == "7"


async def test_a_channel_above_its_ceiling_is_refused_and_others_are_not() -> None:
    async with outside(change(ceiling=10)) as ours:
        answers = [await ours.send(f"8529000{n:04d}") for n in range(12)]
        assert [status for status, _ in answers] == [200] * 10 + [400] * 2
        assert answers[-1][1]["error"]["code"] == 130429
        assert (await ours.send(key="k2"))[0] == 200


async def test_a_recipient_gets_no_second_message_too_soon() -> None:
    async with outside(change(pair_seconds=60.0)) as ours:
        assert [(await ours.send(to))[0] for to in ("85290000001", "85290000002", "85290000001")] == [
            200,
            200,
            400,
        ]


async def test_a_key_expires_after_its_messages_until_the_profile_renews_it() -> None:
    async with outside(change(expires_after=2)) as ours:
        assert [(await ours.send(f"8529000{n:04d}"))[0] for n in range(3)] == [200, 200, 401]
        assert (await ours.ask("POST", "/simulator/profile", json={"expiresAfter": 0}))[0] == 200
        assert (await ours.send("85290000003"))[0] == 200


# Templates


def use(name: str, *components: dict[str, Any], language: str = "en_US") -> dict[str, Any]:
    return {"name": name, "language": {"code": language}, "components": list(components)}


def body_of(*texts: str) -> dict[str, Any]:
    return {"type": "body", "parameters": [{"type": "text", "text": text} for text in texts]}


@pytest.mark.parametrize(
    ("template", "status", "code"),
    [
        (use("no_such"), 404, 132001),
        (use("hello", language="de"), 404, 132001),
        (use("free_money", body_of("1")), 404, 132001),
        (use("winter_sale", body_of("1")), 400, 132015),
        (use("hello", body_of("too many")), 400, 132000),
        (use("spring_sale_v3", body_of("Mei", "20%")), 400, 132000),
        (use("spring_sale_v3", *SPRING["components"][:2]), 400, 132000),  # type: ignore[index]
        (
            use("spring_sale_v3", {"type": "header", "parameters": [{"type": "text", "text": "x"}]}),
            400,
            132012,
        ),
        (use("hello", {"type": "button", "sub_type": "url", "index": "0", "parameters": []}), 400, 132000),
    ],
)
async def test_a_template_that_is_not_as_approved_is_refused(
    template: dict[str, Any], status: int, code: int
) -> None:
    async with outside() as ours:
        found, answer = await ours.send(template=template)
        assert (found, answer["error"]["code"]) == (status, code)


async def test_named_parameters_fill_their_places() -> None:
    named = [
        {"type": "text", "parameter_name": name, "text": text}
        for name, text in (("order", "A7"), ("name", "Mei"))
    ]
    async with outside() as ours:
        assert (await ours.send(template=use("order_ready", {"type": "body", "parameters": named})))[0] == 200
        assert (await ours.ledger())[0]["text"] == "Mei, your order A7 is ready."


async def test_templates_are_listed_page_by_page_as_each_provider_does() -> None:
    async with outside(public_url="https://shop.example.com") as ours:
        _, page = await ours.ask(
            "GET", "/v1/configs/templates?limit=2&offset=1", headers={"D360-API-KEY": "k1"}
        )
        assert [(one["name"], one["status"]) for one in page["waba_templates"]] == [
            ("spring_sale_v3", "approved"),
            ("order_ready", "approved"),
        ]
        assert (page["count"], page["total"], page["offset"]) == (2, 6, 1)
        buttons = page["waba_templates"][0]["components"][3]["buttons"]
        assert buttons[2] == {"type": "URL", "text": "Shop", "url": "https://shop.example.com/r/{{1}}"}
        names, path = [], "/v23.0/1/message_templates?limit=4"
        while path:
            _, page = await ours.ask("GET", path, headers={"Authorization": "Bearer t"})
            names += [(one["name"], one["status"]) for one in page["data"]]
            path = page["paging"].get("next", "").removeprefix(ours.url)
        assert (len(names), names[-2:]) == (6, [("winter_sale", "PAUSED"), ("free_money", "REJECTED")])


async def test_a_key_that_opens_nothing_lists_no_templates_either() -> None:
    async with outside(change(invalid_keys=("old",))) as ours:
        gateway, meta = "/v1/configs/templates", "/v23.0/1/message_templates"
        assert (await ours.ask("GET", gateway, headers={"D360-API-KEY": "old"}))[0] == 401
        assert (await ours.ask("GET", gateway))[0] == 401
        status, answer = await ours.ask("GET", meta, headers={"Authorization": "Bearer old"})
        assert (status, answer["error"]["code"]) == (401, 190)


async def test_a_template_can_be_added_paused_and_deleted_while_the_simulator_runs() -> None:
    template = {"name": "new_one", "language": "de", "components": [{"type": "BODY", "text": "Hallo"}]}
    async with outside() as ours:
        for status, answer in (("APPROVED", 200), ("PAUSED", 400)):
            path, body = "/v1/configs/templates", {**template, "status": status}
            assert (await ours.ask("POST", path, json=body))[0] == 201
            assert (await ours.send(template=use("new_one", language="de")))[0] == answer
        assert (await ours.ask("DELETE", "/v1/configs/templates/new_one"))[0] == 200
        assert (await ours.send(template=use("new_one", language="de")))[0] == 404
