"""What a request to a provider is made from, checked before it is."""

from collections.abc import Mapping
from urllib.parse import quote

from tallycast.providers.contract import Outgoing


def credential(credentials: Mapping[str, str], name: str) -> str:
    """A credential that must be there and fit a header; ValueError names it."""
    value = credentials.get(name, "").strip()
    if not value:
        raise ValueError(f"the channel's credentials lack {name}")
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"the channel's credential {name} must be plain ASCII text")
    return value


def path_part(credentials: Mapping[str, str], name: str) -> str:
    """A credential as one segment of a URL's path."""
    return quote(credential(credentials, name), safe="")


def base_url(credentials: Mapping[str, str], default: str) -> str:
    """Where the provider is reached, without the slash that people add."""
    return (credentials.get("baseURL", "").strip() or default).rstrip("/")


def text_of(message: Outgoing) -> str:
    if not message.text:
        raise ValueError("the message has neither a text nor a template")
    return message.text
