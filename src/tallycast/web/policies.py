"""What holds for all campaigns of an app, over HTTP."""

from litestar import Response, get, patch

from tallycast import administrations, policies
from tallycast.errors import BadQuery
from tallycast.policies import PolicyChange, PolicyView
from tallycast.web.answers import Asked, decode, read_json, succeed
from tallycast.web.auth import by_of
from tallycast.web.openapi import Doc
from tallycast.web.services import of

_EXAMPLE = {
    "requiresApproval": True,
    "timeZone": "Asia/Hong_Kong",
    "quietHours": {"from": "21:00", "until": "08:00"},
    "stopWords": ["no more"],
    "startWords": [],
    "staleMinutes": 60,
    "retention": {"days": 400, "mode": "anonymise"},
}


@get(
    "/policy",
    scope="reports:read",
    doc=Doc(
        operation_id="getPolicy",
        summary="What holds for all campaigns of the app",
        tag="Consent",
        result=PolicyView,
        example=_EXAMPLE,
    ),
)
async def get_policy(request: Asked, appID: str) -> Response[bytes]:
    """`quietHours` are the recipient's local time, null where there are none; `timeZone` is for recipients whose own
    is not known. `stopWords` and `startWords` are known beside the usual ones. `staleMinutes`: how late a schedule may
    start at most. `retention`: how many days after its end a campaign's recipients are made anonymous, or deleted; null
    where they are kept.
    """
    async with of(request).pool.connection() as connection:
        return succeed(request, policies.view(await policies.find_policy(connection, appID)))


@patch(
    "/policy",
    scope="channels:write",
    doc=Doc(
        operation_id="changePolicy",
        summary="Change what holds for all campaigns of the app",
        tag="Consent",
        body=PolicyChange,
        body_example=_EXAMPLE,
        result=PolicyView,
        example=_EXAMPLE,
        errors=(BadQuery,),
    ),
)
async def change_policy(request: Asked, appID: str) -> Response[bytes]:
    """What is left out stays; `quietHours` and `retention` that are null are removed."""
    change = decode(await read_json(request), PolicyChange)
    async with of(request).pool.connection() as connection, connection.transaction():
        changed = await policies.change_policy(connection, appID, change)
        by, said = by_of(request), administrations.describe(change)
        await administrations.note(connection, appID, by, "policy.changed", **said)
    return succeed(request, policies.view(changed))
