"""One person over HTTP: all that is known under a number, its erasure, and who was erased."""

import msgspec
from litestar import Response, get, post

from tallycast import people
from tallycast.errors import BadQuery, Unprocessable, UnsupportedMediaType
from tallycast.people import Erasure, Person
from tallycast.web.answers import Asked, decode, read_json, read_page, read_query, succeed
from tallycast.web.auth import by_of
from tallycast.web.openapi import LIMIT, OFFSET, Doc
from tallycast.web.services import of

_DIGEST = "anon1-mfzwizjxmnqwy3dt"
_EXAMPLE = {
    "erasureID": "6f1d7c1e-8a4b-4a53-9d0e-3b9a6d2f4c11",
    "digest": _DIGEST,
    "askedAs": "token 4fGh7Kq2Lm (privacy desk)",
    "erasedAt": "2026-11-23T03:00:00.000Z",
    "touched": {"messages": 3, "setAside": 1, "optOuts": 1, "texts": 2},
}


class EraseOptions(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`optOut`: opt the person out of everything, so that later audiences leave them out. Otherwise only what they have
    said themselves survives.
    """

    opt_out: bool = True


@get(
    "/people/{number:str}",
    scope="people:write",
    doc=Doc(
        operation_id="getPerson",
        summary="Everything that is known about a phone number",
        tag="People",
        result=Person,
        example={
            "recipient": "+85298765432",
            "digests": [_DIGEST],
            "userIDs": [],
            "messages": [],
            "texts": [],
            "optOuts": [],
            "trials": [],
            "importErrors": [],
            "unreadable": [],
            "erasures": [],
        },
        errors=(BadQuery,),
    ),
)
async def get_person(request: Asked, appID: str, number: str) -> Response[bytes]:
    """Messages of all campaigns with all that happened to them, what the person wrote, whether they want messages, test
    messages, rows of files that were not taken, and bodies that were not understood. Empty lists where nothing is known.
    """
    services = of(request)
    recipient = people.read_number(number)
    async with services.pool.connection() as connection:
        found = await people.show(connection, services.cipher, appID, recipient)
        await people.note_showing(connection, services.cipher, appID, recipient, by_of(request))
    return succeed(request, found)


@post(
    "/people/{number:str}/erase",
    status_code=200,
    scope="people:write",
    doc=Doc(
        operation_id="erasePerson",
        summary="Make a person anonymous everywhere",
        tag="People",
        body=EraseOptions,
        body_example={"optOut": True},
        is_body_optional=True,
        result=Erasure,
        example=_EXAMPLE,
        errors=(BadQuery, Unprocessable, UnsupportedMediaType),
    ),
)
async def erase_person(request: Asked, appID: str, number: str) -> Response[bytes]:
    """A digest takes the number's place; contents, texts and the rest go; figures stay. Messages that wait are not sent
    any more: they fail as `erased`. 422 while one is on its way, or an audience is being imported: ask again.
    Repeating it erases what has come since.
    """
    services = of(request)
    recipient = people.read_number(number)
    options = decode(await read_json(request) or b"{}", EraseOptions)
    async with services.pool.connection() as connection:
        by = by_of(request)
        erased = await people.erase(
            connection, services.cipher, appID, recipient, by, opt_out=options.opt_out
        )
    return succeed(request, erased)


@get(
    "/erasures",
    scope="people:write",
    doc=Doc(
        operation_id="listErasures",
        summary="Who was erased, by whom and when",
        tag="People",
        query=(LIMIT, OFFSET),
        result=list[Erasure],
        example=[_EXAMPLE],
        errors=(BadQuery,),
    ),
)
async def list_erasures(request: Asked, appID: str) -> Response[bytes]:
    """The latest first. `touched` counts the rows by what they are; `setAside` are messages that were waiting."""
    limit, offset = read_page(read_query(request))
    async with of(request).pool.connection() as connection:
        return succeed(request, await people.list_erasures(connection, appID, limit, offset))
