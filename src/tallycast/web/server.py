"""The server: every route on one screen."""

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
from functools import partial

from litestar import Litestar, Response, Router, get
from litestar.datastructures import State
from litestar.enums import ScopeType
from litestar.response import Redirect
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from tallycast.config import Settings
from tallycast.serving import STOPS
from tallycast.telemetry import set_up_logging
from tallycast.web import (
    audience,
    campaigns,
    channels,
    health,
    openapi,
    optouts,
    policies,
    receipts,
    redirects,
    reports,
    sendings,
    stages,
    templates,
    trials,
    webhooks,
)
from tallycast.web.answers import answer_problem
from tallycast.web.auth import check_token
from tallycast.web.edge import Edge
from tallycast.web.services import lifespan, make_services

API = Router(
    "/v1/api/apps/{appID:str}",
    guards=[check_token],
    route_handlers=[
        reports.get_sent_campaigns_summary,
        reports.get_sent_campaigns_detail,
        campaigns.record_sent_campaign,
        campaigns.record_messages,
        campaigns.list_references,
        campaigns.create_links,
        channels.create_channel,
        channels.list_channels,
        channels.get_channel,
        channels.change_channel,
        channels.resume_channel,
        channels.delete_channel,
        templates.list_templates,
        audience.import_audience,
        audience.list_imports,
        audience.get_import,
        audience.get_errors,
        audience.clear_audience,
        audience.get_sample,
        sendings.create_campaign,
        sendings.list_campaigns,
        sendings.get_campaign,
        sendings.change_campaign,
        sendings.delete_campaign,
        sendings.list_transitions,
        sendings.preview_campaign,
        *stages.ACTIONS,
        stages.retry_failed,
        stages.list_unknown,
        stages.settle_unknown,
        trials.test_campaign,
        trials.get_test,
        policies.get_policy,
        policies.change_policy,
        optouts.list_opt_outs,
        optouts.add_opt_outs,
        optouts.import_opt_outs,
        optouts.remove_opt_out,
        receipts.list_parked,
        receipts.list_unreadable,
    ],
)


@get("/")
async def go_to_docs() -> Redirect:
    return Redirect("/docs", status_code=302)


@get("/docs")
async def get_docs() -> Response[bytes]:
    """The API's documentation, with assets of this server: it works offline."""
    return Response(openapi.PAGE.read_bytes(), media_type="text/html")


ROUTES: list[ControllerRouterHandler] = [
    API,
    redirects.follow_link,
    health.get_liveness,
    health.get_readiness,
    health.get_metrics,
    openapi.get_openapi,
    get_docs,
    go_to_docs,
]


def make_litestar(settings: Settings, url: str) -> Litestar:
    static = create_static_files_router("/static", [openapi.STATIC], cache_control=None)
    return Litestar(
        [*ROUTES, static],
        lifespan=[lifespan],
        on_startup=[_take_stops],
        state=State({"services": make_services(settings, url), "unrouted": webhooks.OPERATIONS}),
        exception_handlers={Exception: answer_problem},
        openapi_config=None,
        request_max_body_size=None,
        logging_config=None,
    )


def make_app(settings: Settings, url: str) -> ASGIApp:
    """The ASGI application of one server process, with the database at `url`."""
    _end_with_parent()
    set_up_logging(settings.log_format, settings.log_level)
    logging.getLogger("litestar").setLevel(logging.ERROR)
    litestar = make_litestar(settings, url)
    return Edge(_send_on(litestar, webhooks.Webhooks(litestar.state["services"])), settings.cors_origins)


def _send_on(litestar: ASGIApp, webhooks_app: ASGIApp) -> ASGIApp:
    """Webhooks to their own application, everything else to the framework's routes."""

    async def send_on(scope: Scope, receive: Receive, send: Send) -> None:
        is_webhook = scope["type"] == ScopeType.HTTP and scope["path"].startswith("/webhooks/")
        await (webhooks_app if is_webhook else litestar)(scope, receive, send)

    return send_on


async def _take_stops() -> None:
    """Let the signals in that `serving` holds back, once the loop runs for good: until then one would be lost."""
    release = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPS)
    asyncio.get_running_loop().call_later(0.05, release)


def _end_with_parent() -> None:
    """Be ended by the kernel when `serve` is killed: an orphan would keep the port (prctl(2), PR_SET_PDEATHSIG).

    Killed, not asked to stop: under load a young process may never finish stopping, and nobody is left to see to it.
    What it has answered is durable.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():  # it was killed before
        os._exit(1)
