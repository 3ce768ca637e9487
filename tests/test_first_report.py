"""The main road: a recorded campaign, receipts by webhook, exact figures in the next summary."""

from harness import App


def test_a_receipt_answered_200_is_in_the_very_next_summary(app: App) -> None:
    channel = app.add_channel(sourceName="Marketing")
    campaign = app.record(
        channel, ["m-1", "m-2", "m-3", "m-4"], date="2026-11-20T03:00:00Z", subject="spring_v3"
    )
    assert app.post_receipts(channel, {"messageID": "m-1", "status": "read"}).status_code == 200
    app.post_receipts(channel, {"messageID": "m-2", "status": "delivered"})
    app.post_receipts(channel, {"messageID": "m-3", "status": "failed", "errorCode": 131026})
    assert app.summary() == [
        {
            "id": campaign,
            "date": "2026-11-20T03:00:00.000Z",
            "campaignName": "Spring sale",
            "channel": "WhatsApp",
            "createdBy": "Mei",
            "sender": {"phone": "+85230001234", "channelName": "Shop", "sourceName": "Marketing"},
            "subject": "spring_v3",
            "totalRecipients": 4,
            "delivered": 2,
            "read": 1,
            "replied": 0,
            "pending": 1,
            "failed": 1,
        }
    ]
