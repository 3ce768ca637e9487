"""Files for people: the exports of the API, for whoever is signed in."""

from litestar import get

from tallycast.dashboard.guard import by_of
from tallycast.web.answers import Asked
from tallycast.web.downloads import Download
from tallycast.web.exports import send_campaigns, send_recipients


@get("/apps/{appID:str}/exports/campaigns", role="viewer")
async def download_campaigns(request: Asked, appID: str) -> Download:
    """Parameters as in the API."""
    return send_campaigns(request, appID)


@get("/apps/{appID:str}/exports/recipients", role="viewer")
async def download_recipients(request: Asked, appID: str) -> Download:
    """Parameters as in the API."""
    return send_recipients(request, appID, by_of(request))
