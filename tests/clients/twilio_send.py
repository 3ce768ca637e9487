"""Sends one message with Twilio's own REST client to the account's API at the given address; prints its id and status."""

import sys
from typing import Any

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

address, to, text = sys.argv[1:]


class Redirected(TwilioHttpClient):  # type: ignore[misc] # the library has no types
    """To the address instead of Twilio's own."""

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super().request(method, url.replace("https://api.twilio.com", address), *args, **kwargs)


try:
    sent = Client("AC1", "a", http_client=Redirected()).messages.create(
        to=to, from_="+85230001234", body=text
    )
    print(sent.sid, sent.status, sent.num_segments)  # noqa: T201 - its answer
except TwilioRestException as error:
    print(error.code, error.status)  # noqa: T201 - its answer
