"""Webhook endpoints and their delivery log over HTTP."""

from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, patch, post

from tallycast import administrations, db, endpoints, notices
from tallycast.endpoints import Endpoint, EndpointChange, NewEndpoint
from tallycast.errors import BadQuery, NotFound, Unprocessable, UnsupportedMediaType
from tallycast.idempotency import Answer
from tallycast.moments import write_moment
from tallycast.notices import STATES, Notice
from tallycast.web.answers import (
    Asked,
    create,
    decode,
    encode,
    next_link,
    read_choice,
    read_json,
    read_page,
    read_query,
    succeed,
)
from tallycast.web.auth import by_of
from tallycast.web.openapi import LIMIT, OFFSET, Doc, Parameter
from tallycast.web.services import of

Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="  # noqa: S105 - an example
_NEW_EXAMPLE = {
    "url": "https://example.com/hooks/tallycast",
    "events": ["campaign.sent", "campaign.figures"],
    "description": "Warehouse",
}
_DELIVERY_EXAMPLE: dict[str, Any] = {
    "id": "msg_1d0c8a1e6f5b4f0f9b7a3b1c5d2e4f60",
    "type": "campaign.sent",
    "state": "waiting",
    "createdAt": "2026-11-23T03:02:11.482Z",
    "attempts": 1,
    "attemptedAt": "2026-11-23T03:02:11.901Z",
    "dueAt": "2026-11-23T03:02:16.901Z",
    "status": 500,
    "answer": "Internal Server Error",
    "campaignID": "1882651363373254867",
}


class EndpointView(msgspec.Struct, frozen=True, rename="camel"):
    """An endpoint without its secret. `events` empty = all of them. `failingSince`: nothing was taken since then."""

    id: str
    url: str
    description: str
    events: list[str]
    created_at: Moment
    has_old_secret: bool
    failing_since: Moment | None
    disabled_at: Moment | None
    disabled_reason: str | None


class EndpointSecret(msgspec.Struct, frozen=True):
    """The secret is shown here and never again."""

    id: str
    secret: str


class _Envelope(msgspec.Struct):
    result: EndpointSecret


class Delivery(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One event for one endpoint. `id` is the header `webhook-id` of every attempt; `status` and `answer` (its first
    characters, or what went wrong) are those of the last one; `dueAt` is when there is another.
    """

    id: str
    type: str
    state: notices.State
    created_at: Moment
    attempts: int
    attempted_at: Moment | None = None
    due_at: Moment | None = None
    status: int | None = None
    answer: str = ""
    campaign_id: str | None = msgspec.field(name="campaignID", default=None)


class DeliveryWithBody(Delivery, frozen=True, rename="camel", omit_defaults=True):
    """With what is sent."""

    body: dict[str, Any] = {}


def _view(endpoint: Endpoint) -> EndpointView:
    return EndpointView(
        endpoint.endpoint_id,
        endpoint.url,
        endpoint.description,
        list(endpoint.events),
        write_moment(endpoint.created_at),
        endpoint.old_secret is not None,
        None if endpoint.failing_since is None else write_moment(endpoint.failing_since),
        None if endpoint.disabled_at is None else write_moment(endpoint.disabled_at),
        endpoint.disabled_reason,
    )


def _describe(notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.notice_id,
        "type": notice.type,
        "state": notice.state,
        "created_at": write_moment(notice.created_at),
        "attempts": notice.attempts,
        "attempted_at": None if notice.attempted_at is None else write_moment(notice.attempted_at),
        "due_at": None if notice.due_at is None or notice.state != "waiting" else write_moment(notice.due_at),
        "status": notice.status,
        "answer": notice.answer,
        "campaign_id": None if notice.campaign_id is None else str(notice.campaign_id),
    }


@post(
    "/webhook-endpoints",
    scope="channels:write",
    doc=Doc(
        operation_id="createWebhookEndpoint",
        summary="Have another system told what happens in the app",
        tag="Webhooks out",
        body=NewEndpoint,
        body_example=_NEW_EXAMPLE,
        result=EndpointSecret,
        example={"id": "ep_5rNqzXKf8gk2wYvB7dPm1c", "secret": _SECRET},
        status=201,
        errors=(BadQuery, Unprocessable, UnsupportedMediaType),
        is_idempotent=True,
    ),
)
async def create_endpoint(request: Asked, appID: str) -> Response[bytes]:
    """What it is told is signed as Standard Webhooks has it, with the secret of this answer: keep it, it is not shown
    again. Without `events` it is told all of them.
    """
    body = await read_json(request)
    new = decode(body, NewEndpoint)
    services = of(request)

    async def work(connection: db.Connection) -> Answer:
        made = await endpoints.create(
            connection, services.cipher, appID, new, services.settings.private_hosts
        )
        by, said = by_of(request), administrations.describe(new)
        await administrations.note(connection, appID, by, "endpoint.created", made.endpoint_id, **said)
        # The answer is kept under its Idempotency-Key: the secret is put in after that.
        return Answer(201, encode(EndpointSecret(made.endpoint_id, "")))

    made = msgspec.json.decode((await create(request, appID, body, work)).content, type=_Envelope).result
    async with services.pool.connection() as connection:
        endpoint = await endpoints.find(connection, appID, made.id)
    return _show_secret(request, endpoint, 201)


def _show_secret(request: Asked, endpoint: Endpoint, status: int) -> Response[bytes]:
    secret = endpoints.show_secret(endpoint.open_secret(of(request).cipher))
    return succeed(request, EndpointSecret(endpoint.endpoint_id, secret), status)


@get(
    "/webhook-endpoints",
    scope="channels:write",
    doc=Doc(
        operation_id="listWebhookEndpoints",
        summary="The webhook endpoints of the app",
        tag="Webhooks out",
        result=list[EndpointView],
    ),
)
async def list_endpoints(request: Asked, appID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        found = await endpoints.list_all(connection, appID)
    return succeed(request, [_view(one) for one in found])


@get(
    "/webhook-endpoints/{endpointID:str}",
    scope="channels:write",
    doc=Doc(
        operation_id="getWebhookEndpoint",
        summary="One webhook endpoint",
        tag="Webhooks out",
        result=EndpointView,
        errors=(NotFound,),
    ),
)
async def get_endpoint(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        return succeed(request, _view(await endpoints.find(connection, appID, endpointID)))


@patch(
    "/webhook-endpoints/{endpointID:str}",
    scope="channels:write",
    doc=Doc(
        operation_id="changeWebhookEndpoint",
        summary="Change a webhook endpoint, disable or enable it",
        tag="Webhooks out",
        body=EndpointChange,
        body_example={"events": ["campaign.sent"], "isDisabled": False},
        result=EndpointView,
        errors=(BadQuery, NotFound, UnsupportedMediaType),
    ),
)
async def change_endpoint(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    """What is left out stays. What waits for an endpoint when it is disabled has failed, and can be sent again by
    `…/deliveries/{deliveryID}/retry` once it is enabled.
    """
    wanted = decode(await read_json(request), EndpointChange)
    hosts = of(request).settings.private_hosts
    async with of(request).pool.connection() as connection, connection.transaction():
        changed = await endpoints.change(connection, appID, endpointID, wanted, hosts)
        by, said = by_of(request), administrations.describe(wanted)
        await administrations.note(connection, appID, by, "endpoint.changed", endpointID, **said)
    return succeed(request, _view(changed))


@delete(
    "/webhook-endpoints/{endpointID:str}",
    status_code=200,
    scope="channels:write",
    doc=Doc(
        operation_id="deleteWebhookEndpoint",
        summary="Delete a webhook endpoint and its delivery log",
        tag="Webhooks out",
        result=dict[str, str],
        example={},
        errors=(NotFound,),
    ),
)
async def delete_endpoint(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.delete(connection, appID, endpointID)
        await administrations.note(connection, appID, by_of(request), "endpoint.deleted", endpointID)
    return succeed(request, {})


@post(
    "/webhook-endpoints/{endpointID:str}/rotate-secret",
    status_code=200,
    scope="channels:write",
    doc=Doc(
        operation_id="rotateWebhookSecret",
        summary="A new secret, while the old one signs for another day",
        tag="Webhooks out",
        result=EndpointSecret,
        example={"id": "ep_5rNqzXKf8gk2wYvB7dPm1c", "secret": _SECRET},
        errors=(NotFound,),
    ),
)
async def rotate_secret(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    """For a day each delivery has two signatures, so that the receiver can change over at any moment of it."""
    async with of(request).pool.connection() as connection, connection.transaction():
        changed = await endpoints.rotate_secret(connection, of(request).cipher, appID, endpointID)
        await administrations.note(connection, appID, by_of(request), "endpoint.secretRotated", endpointID)
    return _show_secret(request, changed, 200)


@post(
    "/webhook-endpoints/{endpointID:str}/test",
    status_code=202,
    scope="channels:write",
    doc=Doc(
        operation_id="testWebhookEndpoint",
        summary="Send an endpoint a test event",
        tag="Webhooks out",
        result=Delivery,
        status=202,
        example=_DELIVERY_EXAMPLE | {"type": notices.TEST},
        errors=(NotFound, Unprocessable),
    ),
)
async def test_endpoint(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    """An event `webhook.test`, whatever the endpoint listens to. Ask `…/deliveries/{deliveryID}` what became of it."""
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.require_enabled(connection, appID, endpointID)
        notice_id = await notices.add_test(connection, appID, endpointID)
        notice = await notices.find(connection, appID, endpointID, notice_id)
    return succeed(request, Delivery(**_describe(notice)), 202)


@get(
    "/webhook-endpoints/{endpointID:str}/deliveries",
    scope="channels:write",
    doc=Doc(
        operation_id="listWebhookDeliveries",
        summary="What an endpoint was told, the latest first",
        tag="Webhooks out",
        query=(
            Parameter("state", "Only those in this state.", {"type": "string", "enum": list(STATES)}),
            LIMIT,
            OFFSET,
        ),
        result=list[Delivery],
        example=[_DELIVERY_EXAMPLE],
        errors=(BadQuery, NotFound),
    ),
)
async def list_deliveries(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    """It goes back 30 days."""
    query = read_query(request)
    limit, offset = read_page(query)
    state = read_choice(query, "state", STATES)
    async with of(request).pool.connection() as connection:
        await endpoints.find(connection, appID, endpointID)
        found = await notices.list_page(connection, appID, endpointID, state, limit + 1, offset)
    headers = next_link(request, f"offset={offset + limit}") if len(found) > limit > 0 else None
    return succeed(request, [Delivery(**_describe(one)) for one in found[:limit]], headers=headers)


@get(
    "/webhook-endpoints/{endpointID:str}/deliveries/{deliveryID:str}",
    scope="channels:write",
    doc=Doc(
        operation_id="getWebhookDelivery",
        summary="One delivery, with what is sent",
        tag="Webhooks out",
        result=DeliveryWithBody,
        errors=(NotFound,),
    ),
)
async def get_delivery(request: Asked, appID: str, endpointID: str, deliveryID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        notice = await notices.find(connection, appID, endpointID, deliveryID)
    body = msgspec.json.decode(notice.body)
    return succeed(request, DeliveryWithBody(**_describe(notice), body=body))


@post(
    "/webhook-endpoints/{endpointID:str}/deliveries/{deliveryID:str}/retry",
    status_code=200,
    scope="channels:write",
    doc=Doc(
        operation_id="retryWebhookDelivery",
        summary="Send a delivery again",
        tag="Webhooks out",
        result=Delivery,
        errors=(NotFound, Unprocessable),
    ),
)
async def retry_delivery(request: Asked, appID: str, endpointID: str, deliveryID: str) -> Response[bytes]:
    """At once, with the same `webhook-id`, and with a day of further attempts if it fails."""
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.require_enabled(connection, appID, endpointID)
        notice = await notices.send_again(connection, appID, endpointID, deliveryID)
    return succeed(request, Delivery(**_describe(notice)))
