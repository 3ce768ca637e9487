"""The settings: one frozen table. The command line's options, the environment and docs/settings.md derive from it."""

import ipaddress
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

ENV_PREFIX = "TALLYCAST_"
# Database connections of a server process that only receipts and authentication use.
URGENT_CONNECTIONS = 3
# And those that exports take at most, one each; none is open while nothing is exported.
EXPORT_CONNECTIONS = 4


class BadSetting(ValueError):
    """A setting that cannot be used; the message names it and says what was expected."""


def _setting(default: Any, help_text: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"help": help_text, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    host: str = _setting("127.0.0.1", "address to listen on; only this machine unless told otherwise")
    port: int = _setting(8080, "TCP port to listen on")
    workers: int = _setting(1, "server processes; one per two cores is a good start")
    background_workers: int | None = _setting(
        None,
        "processes of `serve` that send campaigns and import audiences; as many as --workers when left out, "
        "0 = none here (run `tallycast worker` elsewhere)",
    )
    data_dir: Path = _setting(
        Path("tallycast-data"), "folder of the embedded database, the encryption key and the spool"
    )
    database_url: str | None = _setting(
        None,
        "PostgreSQL 15 or later, e.g. postgresql://user@db1,db2/name?target_session_attrs=read-write; "
        "without it an embedded PostgreSQL runs in the data directory",
        secret=True,
    )
    database_connections: int = _setting(
        8, "database connections of one server process, besides three for receipts and up to four for exports"
    )
    replica_url: str | None = _setting(
        None,
        "a streaming replica of the database that answers reports and exports, as long as it is level with the primary",
        secret=True,
    )
    encryption_key: str | None = _setting(
        None,
        "32 random bytes in base64 that encrypt channel secrets; several, separated by commas, all open and the first one "
        "seals; without it a key file is made in the data directory",
        secret=True,
    )
    public_url: str | None = _setting(
        None,
        "how the outside reaches this server, e.g. https://campaigns.example.com; used in webhook URLs and links",
    )
    rate_limit: int = _setting(0, "requests a minute that one token may make; 0 = no limit")
    cors_origins: tuple[str, ...] = _setting((), "browser origins that may call the API, separated by commas")
    private_hosts: tuple[str, ...] = _setting(
        (),
        "hosts that are not public and that channels may send to all the same, as host or host:port, "
        "separated by commas, e.g. smsc.example.lan:2775",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "reverse proxies on other machines, as addresses or networks separated by commas, whose X-Forwarded-For tells "
        "who signs in; this machine's is always believed",
    )
    max_body_mb: int = _setting(16, "largest JSON body in megabytes (streams of messages are not limited)")
    max_upload_mb: int = _setting(200, "largest file of recipients in megabytes")
    log_format: str = _setting("console", "console or json")
    log_level: str = _setting("info", "debug, info, warning or error")

    def __post_init__(self) -> None:
        self._require("port", 1 <= self.port <= 65535, "a port from 1 to 65535")
        self._require("workers", 1 <= self.workers <= 256, "a number from 1 to 256")
        background = self.background_workers or 0
        self._require("background_workers", 0 <= background <= 256, "a number from 0 to 256")
        self._require("database_connections", 2 <= self.database_connections <= 500, "a number from 2 to 500")
        self._require("rate_limit", self.rate_limit >= 0, "a number from 0")
        self._require("max_body_mb", 1 <= self.max_body_mb <= 1024, "a number from 1 to 1024")
        self._require("max_upload_mb", 1 <= self.max_upload_mb <= 10_000, "a number from 1 to 10000")
        self._require("log_format", self.log_format in {"console", "json"}, "console or json")
        self._require(
            "log_level",
            self.log_level in {"debug", "info", "warning", "error"},
            "debug, info, warning or error",
        )
        self._require("trusted_proxies", all(map(_is_network, self.trusted_proxies)), "addresses or networks")
        url = self.public_url or "https://"
        self._require(
            "public_url", url.startswith(("http://", "https://")), "a URL that starts with https://"
        )

    def _require(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise BadSetting(f"{name.replace('_', '-')} must be {expected}, not {getattr(self, name)!r}")

    @property
    def background_count(self) -> int:
        """How many workers `serve` starts."""
        return self.workers if self.background_workers is None else self.background_workers

    @property
    def local_url(self) -> str:
        """How this machine reaches the server; a listener on every address is named by the machine's own."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound  # nosec B104 - compared, not bound
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.port}"

    @property
    def base_url(self) -> str:
        """How webhooks and links are reached."""
        return (self.public_url or self.local_url).rstrip("/")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def load(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from given options, else the environment (`TALLYCAST_PORT`, …), else the defaults."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        given = options.get(setting.name)
        text = environ.get(ENV_PREFIX + setting.name.upper(), "")
        if given is not None:
            values[setting.name] = given
        elif text:
            values[setting.name] = _read(setting.name, text)
    return Settings(**values)


def _read(name: str, text: str) -> Any:
    kind = setting_type(name)
    if kind is tuple:
        return read_list(text)
    try:
        return kind(text)
    except ValueError:
        raise BadSetting(f"{ENV_PREFIX}{name.upper()} must be a number, not {text!r}") from None


def read_list(text: str) -> tuple[str, ...]:
    """Origins or hosts separated by commas, without the slash that people add."""
    return tuple(part.strip().rstrip("/") for part in text.split(",") if part.strip())


def setting_type(name: str) -> type:
    """The plain type of a setting: `str | None` is str, `tuple[str, ...]` is tuple."""
    kind = get_type_hints(Settings)[name]
    if get_origin(kind) in {Union, types.UnionType}:
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
    plain: type = get_origin(kind) or kind
    return plain
