"""The direct way to the reports that are asked most: the same routes, guards and handlers, without the framework's
way from one to the next. It copies a route for each guard, which alone takes longer than to read a page's parameters.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

from litestar import Litestar, Request
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Receive, Send

from tallycast.web.answers import Asked, Encoded, answer_or_fail

Guard = Callable[[Asked, HTTPRouteHandler], Awaitable[None]]
_ROOT = "/v1/api/apps/"
# What RFC 3986 lets a host be written with (section 3.2.2). The framework refuses all others.
_HOST = re.compile(rb"[0-9A-Za-z!$&'()*+,;=\-._~:\[\]@%]*")


class Direct:
    """The routes that are marked `is_direct`: GETs of an app's whole, which answer with an `Encoded`."""

    def __init__(self, framework: Litestar) -> None:
        self._routes = {route.tail: route for route in _find_routes(framework)}

    def find(self, scope: Any) -> ASGIApp | None:
        """The route of a request; None where the framework has to see to it."""
        if scope["method"] != "GET" or not scope["path"].startswith(_ROOT):
            return None
        app_id, _, tail = scope["path"].removeprefix(_ROOT).partition("/")
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return self._routes.get(tail) if app_id and _HOST.fullmatch(host) else None


class Route:
    def __init__(self, framework: Litestar, path: str, handler: HTTPRouteHandler) -> None:
        self.tail = path.removeprefix(_ROOT).partition("/")[2]
        self._framework = framework
        self._path = path
        self._handler = handler
        self._guards = cast("list[Guard]", handler.resolve_guards())

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        app_id = scope["path"].removeprefix(_ROOT).partition("/")[0]
        scope.update(litestar_app=self._framework, path_params={"appID": app_id}, path_template=self._path)
        answer = await answer_or_fail(self._ask(Request(scope, receive, send), app_id), scope["state"]["cid"])
        await answer(scope, receive, send)

    async def _ask(self, request: Asked, app_id: str) -> Encoded:
        for guard in self._guards:
            await guard(request, self._handler)
        answer: Encoded = await self._handler.fn(request=request, appID=app_id)
        return answer


def _find_routes(framework: Litestar) -> Iterator[Route]:
    for route in framework.routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            if "is_direct" in handler.opt:
                yield Route(framework, route.path_format, handler)
