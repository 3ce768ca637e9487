"""The API for a command in its own process: the server's routes and handlers, loaded as they are asked for.

A command asks one or two routes of a hundred; loading all of them would take longer than it works.
"""

import warnings
from importlib import import_module
from typing import Any

from litestar import Router
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, Receive, Send

from tallycast.web.answers import answer_problem
from tallycast.web.auth import check_token
from tallycast.web.edge import Edge
from tallycast.web.framework import make_application
from tallycast.web.services import Services

_ROOT = "/v1/api/apps/{appID:str}"
_PLACE = _ROOT.count("/") + 1
# Which modules have the routes whose paths begin so; a test compares this with the server's own list.
MODULES = {
    "administrations": ("administrations",),
    "audience-samples": ("audience",),
    "campaigns": ("audience", "sendings", "stages", "trials"),
    "channels": ("channels", "templates"),
    "data": ("changes", "insights", "reports"),
    "erasures": ("people",),
    "exports": ("exports",),
    "opt-outs": ("optouts",),
    "people": ("people",),
    "policy": ("policies",),
    "receipts": ("receipts",),
    "sent-campaigns": ("campaigns",),
    "webhook-endpoints": ("endpoints",),
}


def make_local_app(services: Services) -> ASGIApp:
    """The API alone; who asks is `services.operator`."""
    parts: dict[str, ASGIApp] = {}

    async def answer(scope: Any, receive: Receive, send: Send) -> None:
        part = "".join(scope["path"].split("/")[_PLACE : _PLACE + 1])
        if part not in parts:
            parts[part] = _load(part, services)
        await parts[part](scope, receive, send)

    return Edge(answer, ())


def _load(part: str, services: Services) -> ASGIApp:
    router = Router(_ROOT, guards=[check_token], route_handlers=find_handlers(part))
    with warnings.catch_warnings():
        # Path parameters are found by their names; a server does not hear the framework's advice about it either.
        warnings.simplefilter("ignore", DeprecationWarning)
        return make_application([router], services, {Exception: answer_problem})


def find_handlers(part: str) -> list[HTTPRouteHandler]:
    """The handlers of all routes whose paths begin with a part."""
    modules = [import_module(f"tallycast.web.{name}") for name in MODULES.get(part, ())]
    values = [value for module in modules for value in vars(module).values()]
    handlers = [value for value in values if isinstance(value, HTTPRouteHandler)]
    return [one for one in handlers if any(path.split("/")[1] == part for path in one.paths)]
