"""Notes: why an answer has less in it than a reader would expect."""

from tallycast import campaigns, db

HEADER = "Tallycast-Note"


async def explain_absence(connection: db.Connection, app_id: str, campaign_id: int) -> dict[str, str]:
    """The header that says why a list of a campaign's recipients is empty: they were deleted."""
    retention = await campaigns.find_retention(connection, app_id, campaign_id)
    return {HEADER: retention.describe()} if retention is not None and retention.mode == "delete" else {}
