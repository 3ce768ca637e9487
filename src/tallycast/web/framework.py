"""The framework as it is used here: in a server, and in a command's own process."""

from collections.abc import Sequence
from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.plugins import PluginProtocol
from litestar.types import ControllerRouterHandler, ExceptionHandlersMap

from tallycast.web.services import Services


class Application(Litestar):
    """Without the plug-ins that the framework adds for pydantic and attrs where they are installed: none of our types
    is one of theirs, and loading them takes a tenth of a second and 20 MB in each process.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins


def make_application(
    routes: Sequence[ControllerRouterHandler],
    services: Services,
    exception_handlers: ExceptionHandlersMap,
    unrouted: Any = (),
    **jobs: Any,
) -> Application:
    """The application of these routes. `unrouted`: operations that are documented, and answered elsewhere."""
    return Application(
        routes,
        **jobs,
        state=State({"services": services, "unrouted": unrouted}),
        exception_handlers=exception_handlers,
        openapi_config=None,
        request_max_body_size=None,
        logging_config=None,
    )
