"""Channels over HTTP."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, patch, post

from tallycast import administrations, channels, db
from tallycast.channels import Channel, ChannelChange, NewChannel
from tallycast.errors import BadQuery, NotFound
from tallycast.idempotency import Answer
from tallycast.keys import BadKey
from tallycast.moments import write_moment
from tallycast.web.answers import Asked, create, decode, encode, read_json, succeed
from tallycast.web.auth import by_of
from tallycast.web.openapi import Doc
from tallycast.web.services import of

_NEW_EXAMPLE = {
    "type": "whatsApp",
    "provider": "360dialog",
    "phone": "+85230001234",
    "channelName": "Shop",
    "sourceName": "Marketing",
    "webhookSecret": "a long random text",
}


class Paused(msgspec.Struct, frozen=True):
    """Since when, and why, nothing is sent over a channel."""

    since: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    reason: str


class ChannelView(msgspec.Struct, frozen=True, rename="camel"):
    """A channel as the API shows it: never with its secrets, only whether it has one.

    `ratePerSecond` is how many messages (SMS: parts) go out a second; null where the provider only receives. `heardAt` is
    when the provider said something last, a receipt or a reply, to within five seconds; null where it never did.
    """

    id: str
    type: str
    provider: str
    phone: str
    channel_name: str
    source_name: str
    webhook_url: str = msgspec.field(name="webhookURL")
    has_webhook_secret: bool
    credentials: list[str]
    rate_per_second: float | None
    paused: Paused | None
    created_at: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    heard_at: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})] | None


class CreatedChannel(msgspec.Struct, frozen=True):
    id: str
    webhook_url: str = msgspec.field(name="webhookURL")


def _view(request: Asked, channel: Channel) -> ChannelView:
    try:
        secrets = channel.open_secrets(of(request).cipher)
    except BadKey:  # sealed with a key that is gone: it is shown all the same, so that it can be deleted
        secrets = channels.Secrets("?")
    return ChannelView(
        channel.channel_id,
        channel.type,
        channel.provider,
        channel.phone,
        channel.channel_name,
        channel.source_name,
        channels.webhook_url(of(request).settings.base_url, channel),
        bool(secrets.webhook_secret),
        sorted(secrets.credentials),
        channel.rate_per_second,
        _view_pause(channel),
        write_moment(channel.created_at),
        None if channel.heard_at is None else write_moment(channel.heard_at),
    )


def _view_pause(channel: Channel) -> Paused | None:
    if channel.paused_at is None:
        return None
    return Paused(write_moment(channel.paused_at), channel.paused_reason or "")


@post(
    "/channels",
    scope="channels:write",
    doc=Doc(
        operation_id="createChannel",
        summary="Add a channel and get its webhook URL",
        tag="Channels",
        body=NewChannel,
        body_example=_NEW_EXAMPLE,
        result=CreatedChannel,
        status=201,
        errors=(BadQuery,),
        is_idempotent=True,
    ),
)
async def create_channel(request: Asked, appID: str) -> Response[bytes]:
    """Set the webhook URL at the provider, with the secret in an `Authorization: Bearer` header of its own."""
    body = await read_json(request)
    new = decode(body, NewChannel)

    async def work(connection: db.Connection) -> Answer:
        hosts = of(request).settings.private_hosts
        channel = await channels.create(connection, of(request).cipher, appID, new, hosts)
        by, said = by_of(request), administrations.describe(new)
        await administrations.note(connection, appID, by, "channel.created", channel.channel_id, **said)
        url = channels.webhook_url(of(request).settings.base_url, channel)
        return Answer(201, encode(CreatedChannel(channel.channel_id, url)))

    return await create(request, appID, body, work)


@get(
    "/channels",
    scope="channels:write",
    doc=Doc(
        operation_id="listChannels",
        summary="The channels of the app",
        tag="Channels",
        result=list[ChannelView],
    ),
)
async def list_channels(request: Asked, appID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        found = await channels.list_all(connection, appID)
    return succeed(request, [_view(request, channel) for channel in found])


@get(
    "/channels/{channelID:str}",
    scope="channels:write",
    doc=Doc(
        operation_id="getChannel",
        summary="One channel",
        tag="Channels",
        result=ChannelView,
        errors=(NotFound,),
    ),
)
async def get_channel(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        return succeed(request, _view(request, await channels.find(connection, appID, channelID)))


@patch(
    "/channels/{channelID:str}",
    scope="channels:write",
    doc=Doc(
        operation_id="changeChannel",
        summary="Change a channel's names, secrets or rate",
        tag="Channels",
        body=ChannelChange,
        body_example={"channelName": "Shop", "webhookSecret": "a long random text"},
        result=ChannelView,
        errors=(BadQuery, NotFound),
    ),
)
async def change_channel(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """What is left out stays, each of the `credentials` too; a secret that is null or empty is removed, `credentials`
    null removes all of them, and with `ratePerSecond` null the provider's usual rate holds. Type and provider cannot
    change.
    """
    wanted = decode(await read_json(request), ChannelChange)
    async with of(request).pool.connection() as connection, connection.transaction():
        changed = await channels.change(
            connection, of(request).cipher, appID, channelID, wanted, of(request).settings.private_hosts
        )
        by, said = by_of(request), administrations.describe(wanted)
        await administrations.note(connection, appID, by, "channel.changed", channelID, **said)
    return succeed(request, _view(request, changed))


@post(
    "/channels/{channelID:str}/resume",
    status_code=200,
    scope="channels:write",
    doc=Doc(
        operation_id="resumeChannel",
        summary="Let a paused channel send again",
        tag="Channels",
        result=ChannelView,
        errors=(NotFound,),
    ),
)
async def resume_channel(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """A channel pauses by itself when its provider refuses everything: `paused.reason` says why. Mend that first."""
    async with of(request).pool.connection() as connection, connection.transaction():
        resumed = await channels.resume(connection, appID, channelID)
        await administrations.note(connection, appID, by_of(request), "channel.resumed", channelID)
    return succeed(request, _view(request, resumed))


@delete(
    "/channels/{channelID:str}",
    status_code=200,
    scope="channels:write",
    doc=Doc(
        operation_id="deleteChannel",
        summary="Delete a channel and its secrets",
        tag="Channels",
        result=dict[str, str],
        example={},
        errors=(NotFound,),
    ),
)
async def delete_channel(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """Its campaigns and their figures stay; its webhook URL answers 404 from now on."""
    async with of(request).pool.connection() as connection, connection.transaction():
        await channels.delete(connection, appID, channelID)
        await administrations.note(connection, appID, by_of(request), "channel.deleted", channelID)
    return succeed(request, {})
