"""Test messages over HTTP."""

import msgspec
from litestar import Response, get, post

from tallycast import campaigns, db, readiness, sendings, trials
from tallycast.errors import BadQuery, NotFound, ServiceUnavailable, Unprocessable, UnsupportedMediaType
from tallycast.idempotency import Answer
from tallycast.trials import WAITING, Outcome
from tallycast.web.answers import Asked, create, decode, encode, read_json, succeed
from tallycast.web.auth import actor_of
from tallycast.web.openapi import Doc
from tallycast.web.services import of

_EXAMPLE = {
    "trialID": "0d4bb2b4-40f2-4b53-9d7c-6b1e1f7a0c55",
    "recipient": "+85298765432",
    "outcome": "accepted",
    "messageID": "wamid.HBgLODUyOTg3NjU0MzI",
}


class NewTrial(msgspec.Struct, forbid_unknown_fields=True):
    """Where to, and values by column; those that are left out are the first recipient's."""

    recipient: str
    variables: dict[str, str] = {}


class _Asked(msgspec.Struct):
    trial_id: str = msgspec.field(name="trialID")


class _Envelope(msgspec.Struct):
    result: _Asked


@post(
    "/campaigns/{campaignID:str}/test",
    status_code=200,
    scope="campaigns:write",
    doc=Doc(
        operation_id="testCampaign",
        summary="Send the message to one number, ahead of everything else",
        tag="Sending",
        body=NewTrial,
        body_example={"recipient": "+85298765432", "variables": {}},
        result=Outcome,
        later=202,
        example=_EXAMPLE,
        errors=(BadQuery, NotFound, UnsupportedMediaType, Unprocessable, ServiceUnavailable),
        is_idempotent=True,
    ),
)
async def test_campaign(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Answers what the provider said: `accepted` with its message id, `refused` with its reason, or `unknown`. When no
    worker has tried within 15 seconds the answer is 202 with `waiting`: ask `…/test/{trialID}` later. One that no
    worker has taken within ten minutes is never sent, and `refused`. A test is in no count and no report.
    """
    campaign_id = campaigns.parse_id(campaignID)
    services = of(request)
    connect = services.pool.connection
    async with connect() as connection:
        await sendings.find(connection, appID, campaign_id)
    body = await read_json(request)
    wanted = decode(body, NewTrial)
    private_hosts = services.settings.private_hosts
    await readiness.relist(connect, services.cipher, private_hosts, appID, campaign_id)

    async def work(connection: db.Connection) -> Answer:
        sending = await sendings.hold(connection, appID, campaign_id)
        trial_id = await trials.ask(
            connection, sending, wanted.recipient, wanted.variables, actor_of(request), services.cipher
        )
        return Answer(202, encode(_Asked(trial_id)))

    asked = await create(request, appID, body, work)
    trial_id = msgspec.json.decode(asked.content, type=_Envelope).result.trial_id
    outcome = await trials.wait_for(connect, appID, campaign_id, trial_id)
    return succeed(request, outcome, 202 if outcome.outcome == WAITING else 200)


@get(
    "/campaigns/{campaignID:str}/test/{trialID:str}",
    scope="reports:read",
    doc=Doc(
        operation_id="getTest",
        summary="What became of a test message",
        tag="Sending",
        result=Outcome,
        example=_EXAMPLE,
        errors=(NotFound,),
    ),
)
async def get_test(request: Asked, appID: str, campaignID: str, trialID: str) -> Response[bytes]:
    """`waiting` until a worker has tried."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        return succeed(request, await trials.find(connection, appID, campaign_id, trialID))
