"""Who may do what: the guard of every route below `/v1/api/apps/{appID}`."""

from collections.abc import Iterable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tallycast import apps, signins
from tallycast.administrations import By
from tallycast.errors import NotFound, TooManyRequests, Unauthorized
from tallycast.web.services import Services


def _authorization(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The header, without decoding all the others for it."""
    return next((value.decode("latin-1") for name, value in headers if name == b"authorization"), "")


def actor_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Who asks, as it is recorded: the token's id, and its name for people; in a command's own process its user."""
    services: Services = connection.app.state["services"]
    if services.operator is not None:
        return services.operator
    grant = connection.scope["state"]["grant"]
    return f"token {grant.token_id}" + (f" ({grant.name})" if grant.name else "")


def address_of(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """From where somebody asks, see `signins.find_address`; '' for a command in its own process."""
    services: Services = connection.app.state["services"]
    client, forwarded = connection.scope["client"], connection.headers.get("x-forwarded-for", "")
    return signins.find_address(client[0] if client else "", forwarded, services.settings.trusted_proxies)


def by_of(connection: ASGIConnection[Any, Any, Any, Any]) -> By:
    """Who asks, for the log of administrations."""
    return By(actor_of(connection), address_of(connection))


async def check_token(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Unauthorized, Forbidden or TooManyRequests; a route that names no scope is open to nobody.

    RFC 6750 section 2.1: the token is in the Authorization header, after `Bearer`. OPTIONS only tells the methods.
    """
    if connection.scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]
        return
    if "\0" in connection.scope["path"]:  # no name has it, and PostgreSQL cannot look for it
        raise NotFound
    services: Services = connection.app.state["services"]
    if services.operator is not None:
        await _check_app(services, connection.path_params["appID"])
        return
    scheme, _, token = _authorization(connection.scope["headers"]).partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized
    grant = connection.scope["state"]["grant"] = await services.tokens.check(
        token.strip(), connection.path_params["appID"], handler.opt["scope"]
    )
    if services.limiter is not None:
        seconds = services.limiter.wait(f"{grant.app_id} {grant.token_id}")
        if seconds:
            raise TooManyRequests(headers={"Retry-After": str(seconds)})


async def _check_app(services: Services, app_id: str) -> None:
    """NotFound for an app that is not there: a misspelt id must not look like an empty app."""
    async with services.pool.connection() as connection:
        if await apps.find_app(connection, app_id) is None:
            raise NotFound(f"no app {app_id}")
