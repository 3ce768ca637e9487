"""Tracked links: redirect at once, note the click beside it."""

from uuid import uuid4

from litestar import HttpMethod, Response, route

from tallycast.errors import NotFound
from tallycast.links import Click, set_aside_reason
from tallycast.receipts import now_ms
from tallycast.telemetry import CLICKS
from tallycast.web.answers import Asked
from tallycast.web.openapi import Doc
from tallycast.web.services import of

_MAX_AGENT = 500
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz")


def _clip(text: str) -> str:
    return text.replace("\0", "")[:_MAX_AGENT]


@route(
    "/r/{code:str}",
    http_method=[HttpMethod.GET, HttpMethod.OPTIONS],
    status_code=302,
    doc=Doc(
        operation_id="followLink",
        summary="Follow a tracked link",
        tag="Links",
        status=302,
        errors=(NotFound,),
    ),
)
async def follow_link(request: Asked, code: str) -> Response[bytes]:
    """Redirects to the registered target. The redirect does not wait for the click to be stored."""
    link, seq = await of(request).targets.resolve(code)
    method: str = request.scope["state"]["method"]
    agent = _clip(request.headers.get("user-agent", ""))
    purpose = _clip(next((request.headers[name] for name in _PURPOSES if name in request.headers), ""))
    click = Click(
        link.app_id, str(uuid4()), link.link_key, link.campaign_id, seq, now_ms(), method, agent, purpose
    )
    of(request).intake.note_click(click)
    CLICKS.labels("no" if set_aside_reason(method, agent, purpose) else "yes").inc()
    return Response(
        b"",
        status_code=302,
        headers={"Location": link.url, "Cache-Control": "no-store", "X-Robots-Tag": "noindex"},
        media_type="text/plain",
    )
