"""Whether a campaign can be sent as it is: what must be mended first is said in words."""

from collections.abc import Collection

from tallycast import apps, audience, channels, db, rendering, sendings, templates
from tallycast.channels import Channel
from tallycast.errors import NotFound, Unprocessable
from tallycast.keys import BadKey, Cipher
from tallycast.rendering import Renderer, RenderError
from tallycast.sendings import Sending

_FRESH_SECONDS = 600.0


async def check(connection: db.Connection, sending: Sending, cipher: Cipher | None = None) -> None:
    """Unprocessable when the campaign cannot be sent; its tracked links are made. Part of the caller's transaction.

    Without a cipher the channel's secrets are not looked into.
    """
    await _check_audience(connection, sending)
    await check_channel(connection, sending, cipher)
    await check_template(connection, sending)
    await _check_texts(connection, sending)


async def check_import(connection: db.Connection, sending: Sending) -> None:
    """Unprocessable while the audience may still grow."""
    if await audience.is_importing(connection, sending.app_id, sending.campaign_id):
        raise Unprocessable("its audience is being imported: wait until that has ended")


async def _check_audience(connection: db.Connection, sending: Sending) -> None:
    await check_import(connection, sending)
    if sending.total == 0:
        raise Unprocessable("it has no recipients: import its audience first")


async def check_channel(connection: db.Connection, sending: Sending, cipher: Cipher | None = None) -> None:
    if sending.is_channel_deleted:
        raise Unprocessable(
            f"its channel {sending.channel_id} was deleted: make the campaign again on another one"
        )
    if sending.channel_paused is not None:
        why = f" ({sending.channel_paused})" if sending.channel_paused else ""
        raise Unprocessable(f"its channel {sending.channel_id} is paused{why}: resume the channel first")
    if sending.is_fallback_deleted:
        raise Unprocessable(f"its fallback's channel {sending.fallback_channel_id} was deleted: name another")
    for channel_id in filter(None, (sending.channel_id, sending.fallback_channel_id)):
        if cipher is not None:
            await _check_credentials(connection, sending.app_id, channel_id, cipher)


async def _check_credentials(connection: db.Connection, app_id: str, channel_id: str, cipher: Cipher) -> None:
    channel = await channels.find(connection, app_id, channel_id)
    missing = find_missing(channel, cipher)
    if missing:
        raise Unprocessable(
            f"channel {channel.channel_name or channel.phone} cannot send yet, it needs: {', '.join(missing)}"
        )


def find_missing(channel: Channel, cipher: Cipher) -> list[str]:
    """What a channel lacks for sending; Unprocessable where its secrets cannot be read."""
    return channels.missing_credentials(channel.type, channel.provider, _open(channel, cipher))


def _open(channel: Channel, cipher: Cipher) -> dict[str, str]:
    try:
        return channel.open_secrets(cipher).credentials
    except BadKey as error:
        raise Unprocessable(str(error)) from None


async def check_template(connection: db.Connection, sending: Sending) -> None:
    """Unprocessable where the provider's template, as it was listed last, is not the one that is used."""
    use = sending.template_use()
    if use is not None:
        listed = await templates.list_cached(connection, sending.app_id, sending.channel_number)
        templates.check_use(use, listed)


async def _check_texts(connection: db.Connection, sending: Sending) -> None:
    app = await apps.find_app(connection, sending.app_id)
    if app is None:
        raise NotFound(f"no app {sending.app_id}")
    try:
        Renderer(sending, app.app_key, "", await rendering.make_links(connection, sending)).check()
    except RenderError as error:
        raise Unprocessable(str(error)) from None


async def relist(
    connect: db.Connect, cipher: Cipher, private_hosts: Collection[str], app_id: str, campaign_id: int
) -> None:
    """Ask the provider for its templates, where the campaign uses one and what is remembered is old.

    Outside of any transaction, before the campaign goes on; errors as in `listings.ask`.
    """
    async with connect() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
        if sending.kind != "whatsApp" or sending.is_channel_deleted or await _is_fresh(connection, sending):
            return
        channel = await channels.find(connection, app_id, sending.channel_id)
    if not find_missing(channel, cipher):
        await templates.refresh(connect, cipher, private_hosts, channel)


async def _is_fresh(connection: db.Connection, sending: Sending) -> bool:
    age = await templates.find_age(connection, sending.app_id, sending.channel_number)
    return age is not None and age.seconds < _FRESH_SECONDS
