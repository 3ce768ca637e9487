"""The providers, one file each: its proof of origin and its format, no database and no HTTP answers."""

from tallycast.providers import dialog360, generic, meta, twilio
from tallycast.providers.contract import Provider, Signed

__all__ = ["PROVIDERS", "Provider", "Signed"]

PROVIDERS: dict[str, Provider] = {
    "360dialog": dialog360,
    "meta": meta,
    "twilio": twilio,
    "generic": generic,
    "smpp": generic,  # the gateway that holds the SMPP bind posts its receipts as plain JSON
    "sandbox": dialog360,  # the simulator speaks 360dialog's format
}
