"""The server: every route on one screen."""

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
from functools import partial

from litestar import Litestar, Response, Router, get
from litestar.enums import ScopeType
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from tallycast.config import Settings
from tallycast.dashboard import (
    account,
    actions,
    assets,
    attention,
    audiences,
    campaign,
    downloads,
    drafting,
    home,
    review,
    settings_channels,
    settings_log,
    settings_optouts,
    settings_policy,
    settings_retention,
    settings_staff,
    settings_tokens,
    settings_webhooks,
    signin,
)
from tallycast.dashboard import campaigns as campaign_pages
from tallycast.dashboard import recipients as recipient_pages
from tallycast.dashboard.faults import answer_error, answer_fault
from tallycast.dashboard.guard import check_viewer
from tallycast.serving import STOPS
from tallycast.telemetry import set_up_logging
from tallycast.web import (
    administrations,
    audience,
    campaigns,
    changes,
    channels,
    endpoints,
    exports,
    health,
    insights,
    openapi,
    optouts,
    people,
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
from tallycast.web.auth import check_token
from tallycast.web.direct import Direct
from tallycast.web.edge import Edge
from tallycast.web.framework import make_application
from tallycast.web.services import lifespan, make_services

API = Router(
    "/v1/api/apps/{appID:str}",
    guards=[check_token],
    route_handlers=[
        reports.get_sent_campaigns_summary,
        reports.get_sent_campaigns_detail,
        insights.get_insights,
        insights.list_recipients,
        insights.get_recipient,
        insights.get_attention,
        changes.get_campaign_changes,
        exports.export_recipients,
        exports.export_campaigns,
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
        people.get_person,
        people.erase_person,
        people.list_erasures,
        receipts.list_parked,
        receipts.list_unreadable,
        administrations.list_administrations,
        endpoints.create_endpoint,
        endpoints.list_endpoints,
        endpoints.get_endpoint,
        endpoints.change_endpoint,
        endpoints.delete_endpoint,
        endpoints.rotate_secret,
        endpoints.test_endpoint,
        endpoints.list_deliveries,
        endpoints.get_delivery,
        endpoints.retry_delivery,
    ],
)


PAGES = Router(
    "/",
    guards=[check_viewer],
    exception_handlers={Exception: answer_fault},
    route_handlers=[
        home.list_apps,
        signin.show_sign_in,
        signin.sign_in,
        signin.sign_out,
        signin.show_welcome,
        signin.accept,
        account.show_account,
        account.change_name,
        account.change_password,
        account.end_sessions,
        account.change_preferences,
        campaign_pages.list_campaigns,
        campaign_pages.show_totals,
        campaign.show_campaign,
        campaign.show_side,
        campaign.show_notice,
        campaign.follow_campaign,
        recipient_pages.list_recipients,
        recipient_pages.show_recipient,
        attention.show_attention,
        attention.list_unknown,
        attention.settle_unknown,
        downloads.download_campaigns,
        downloads.download_recipients,
        drafting.show_new,
        drafting.create,
        drafting.show_edit,
        drafting.change,
        drafting.delete,
        drafting.refresh_templates,
        audiences.show_audience,
        audiences.receive,
        audiences.show_import,
        audiences.begin,
        audiences.discard,
        audiences.clear,
        audiences.download_errors,
        audiences.download_sample,
        review.show_review,
        review.show_size,
        review.send_test,
        review.change_moment,
        actions.list_actions,
        actions.ask_start,
        *actions.ACTIONS,
        actions.retry_failed,
        actions.leave_action,
        settings_channels.show_settings,
        settings_channels.list_channels,
        settings_channels.show_new,
        settings_channels.create,
        settings_channels.show_channel,
        settings_channels.change,
        settings_channels.pause,
        settings_channels.resume,
        settings_channels.delete,
        settings_tokens.list_tokens,
        settings_tokens.create,
        settings_tokens.revoke,
        settings_staff.list_staff,
        settings_staff.let_in,
        settings_staff.change_role,
        settings_staff.remove,
        settings_staff.invite_again,
        settings_policy.show_policy,
        settings_policy.change_policy,
        settings_optouts.list_opt_outs,
        settings_optouts.add,
        settings_optouts.import_file,
        settings_optouts.remove,
        settings_retention.show_retention,
        settings_retention.change,
        settings_retention.download_person,
        settings_retention.erase,
        settings_log.show_log,
        settings_webhooks.list_endpoints,
        settings_webhooks.create,
        settings_webhooks.show_endpoint,
        settings_webhooks.change,
        settings_webhooks.delete,
        settings_webhooks.rotate_secret,
        settings_webhooks.send_test,
        settings_webhooks.show_delivery,
        settings_webhooks.retry_delivery,
    ],
)


@get("/docs")
async def get_docs() -> Response[bytes]:
    """The API's documentation, with assets of this server: it works offline."""
    return Response(openapi.PAGE.read_bytes(), media_type="text/html")


ROUTES: list[ControllerRouterHandler] = [
    API,
    PAGES,
    redirects.follow_link,
    health.get_liveness,
    health.get_readiness,
    health.get_metrics,
    openapi.get_openapi,
    get_docs,
    assets.get_asset,
]


def make_litestar(settings: Settings, url: str) -> Litestar:
    return make_application(
        ROUTES,
        make_services(settings, url),
        {Exception: answer_error},
        webhooks.OPERATIONS,
        lifespan=[lifespan],
        on_startup=[_take_stops],
    )


def make_app(settings: Settings, url: str) -> ASGIApp:
    """The ASGI application of one server process, with the database at `url`."""
    _end_with_parent()
    set_up_logging(settings.log_format, settings.log_level)
    logging.getLogger("litestar").setLevel(logging.ERROR)
    return Edge(_send_on(make_litestar(settings, url)), settings.cors_origins)


def _send_on(litestar: Litestar) -> ASGIApp:
    """Webhooks to their own application, reports the direct way, everything else to the framework's routes."""
    webhooks_app, direct = webhooks.Webhooks(litestar.state["services"]), Direct(litestar)

    async def send_on(scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp | None = litestar
        if scope["type"] == ScopeType.HTTP:
            app = webhooks_app if scope["path"].startswith("/webhooks/") else direct.find(scope)
        await (app or litestar)(scope, receive, send)

    return send_on


async def _take_stops(application: Litestar) -> None:
    """Let the signals in that `serving` holds back, once the loop runs for good: until then one would be lost.

    The server waits for requests to end, so those that follow a campaign are let go. The loop hears of a signal by its
    own way (signal.set_wakeup_fd), whatever handler stands here.
    """
    loop, close = asyncio.get_running_loop(), application.state["services"].watches.close
    for number in STOPS:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(close))
    loop.call_later(0.05, partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOPS))


def _end_with_parent() -> None:
    """Be ended by the kernel when `serve` is killed: an orphan would keep the port (prctl(2), PR_SET_PDEATHSIG).

    Killed, not asked to stop: under load a young process may never finish stopping, and nobody is left to see to it.
    What it has answered is durable.
    """
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():  # it was killed before
        os._exit(1)
