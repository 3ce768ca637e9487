"""A channel's WhatsApp templates over HTTP."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get

from tallycast import channels, db, templates
from tallycast.channels import Channel
from tallycast.errors import BadQuery, NotFound, ServiceUnavailable, Unprocessable
from tallycast.moments import write_moment
from tallycast.templates import Age, Listed
from tallycast.web.answers import Asked, read_choice, read_query, succeed
from tallycast.web.openapi import Doc, Parameter
from tallycast.web.services import of

_FRESH_SECONDS = 600.0
_EXAMPLE = {
    "templates": [
        {
            "name": "order_ready",
            "language": "en_US",
            "status": "APPROVED",
            "category": "UTILITY",
            "components": [{"type": "BODY", "text": "Hi {{1}}, your order is ready."}],
        }
    ],
    "listedAt": "2026-11-23T03:00:04.000Z",
    "ageSeconds": 0,
    "problem": None,
}


class TemplateView(msgspec.Struct, frozen=True):
    name: str
    language: str
    status: str
    category: str
    components: list[dict[str, Any]]


class TemplateList(msgspec.Struct, frozen=True, rename="camel"):
    """What the provider listed `ageSeconds` ago. `problem`: why it could not be asked now; null when it could."""

    templates: list[TemplateView]
    listed_at: Annotated[str | None, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    age_seconds: int
    problem: str | None


@get(
    "/channels/{channelID:str}/templates",
    scope="campaigns:write",
    doc=Doc(
        operation_id="listTemplates",
        summary="The WhatsApp templates of a channel",
        tag="Channels",
        query=(
            Parameter(
                "refresh",
                "Ask the provider now, also when its list is known.",
                {"type": "string", "enum": ["true", "false"], "default": "false"},
            ),
        ),
        result=TemplateList,
        example=_EXAMPLE,
        errors=(BadQuery, NotFound, Unprocessable, ServiceUnavailable),
    ),
)
async def list_templates(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """From 360dialog, Meta or the sandbox; asked at most every ten minutes unless told to. When the provider cannot be
    asked, what it listed before is answered, with its age and the `problem`.
    """
    is_asked = read_choice(read_query(request), "refresh", ("true", "false")) == "true"
    async with of(request).pool.connection() as connection:
        channel = await channels.find(connection, appID, channelID)
        known, age = await _recall(connection, channel)
    if age is not None and age.seconds < _FRESH_SECONDS and not is_asked:
        return succeed(request, _view(known, age))
    try:
        await templates.refresh(
            of(request).pool.connection, of(request).cipher, of(request).settings.private_hosts, channel
        )
    except (Unprocessable, ServiceUnavailable) as error:
        if age is None:
            raise
        return succeed(request, _view(known, age, error.message))
    async with of(request).pool.connection() as connection:
        return succeed(request, _view(*await _recall(connection, channel)))


async def _recall(connection: db.Connection, channel: Channel) -> tuple[list[Listed], Age | None]:
    listed = await templates.list_cached(connection, channel.app_id, channel.channel_number)
    return listed, await templates.find_age(connection, channel.app_id, channel.channel_number)


def _view(listed: list[Listed], age: Age | None, problem: str | None = None) -> TemplateList:
    return TemplateList(
        [TemplateView(one.name, one.language, one.status, one.category, one.components) for one in listed],
        None if age is None else write_moment(age.listed_at),
        0 if age is None else round(age.seconds),
        problem,
    )
