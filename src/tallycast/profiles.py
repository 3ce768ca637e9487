"""Profiles: servers that a person uses from this machine, with their tokens, in the user's own config directory."""

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from tallycast.config import BadSetting

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_TOKEN = re.compile(r"tct_([A-Za-z0-9](?:-?[A-Za-z0-9])*)_[0-9A-Za-z]{43}")


class Profile(msgspec.Struct, frozen=True):
    """A server and the token that opens it; `app` where the token does not name its own."""

    url: str
    token: str
    app: str = ""

    def __repr__(self) -> str:
        return f"Profile({self.url})"


class Profiles(msgspec.Struct, frozen=True):
    """All profiles by name; `current` is used where nothing says otherwise, empty for none."""

    current: str = ""
    profiles: dict[str, Profile] = {}

    def find(self, name: str) -> Profile:
        """The profile of that name, or BadSetting."""
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none yet: tallycast profile add NAME --url URL"
            raise BadSetting(f"no profile {name!r}; there is {known}")
        return self.profiles[name]


def file() -> Path:
    """`tallycast/profiles.toml` in the user's config directory (XDG_CONFIG_HOME, else ~/.config)."""
    return Path(click.get_app_dir("tallycast")) / "profiles.toml"


def read() -> Profiles:
    """The user's profiles; BadSetting for a file that others can read, or that is not understood."""
    path = file()
    try:
        with path.open("rb") as source:
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
            content: dict[str, Any] = tomllib.load(source)
    except FileNotFoundError:
        return Profiles()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read: {error}") from None
    if mode & 0o077:
        raise BadSetting(f"{path} holds tokens and others can read it: chmod 600 {path}")
    try:
        return msgspec.convert(content, Profiles)
    except msgspec.ValidationError as error:
        raise BadSetting(f"{path} is not what is expected: {error}") from None


def write(wanted: Profiles) -> None:
    """Replace the file, in one step, readable by nobody else."""
    lines = [f"current = {_quote(wanted.current)}"]
    for name, one in sorted(wanted.profiles.items()):
        values = {"url": one.url, "token": one.token, **({"app": one.app} if one.app else {})}
        lines += ["", f"[profiles.{name}]", *(f"{key} = {_quote(text)}" for key, text in values.items())]
    path = file()
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as target:
        target.write("\n".join(lines) + "\n")
    draft.replace(path)


def _quote(text: str) -> str:
    """A basic string of TOML: JSON's, of text without control characters."""
    return msgspec.json.encode(text).decode()


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadSetting(f"a profile's name must be up to 40 letters, digits, - and _, not {name[:60]!r}")
    return name


def check_url(url: str) -> str:
    """A server's address without the slash at its end, or BadSetting."""
    parts = urlsplit(url.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or not url.isprintable():
        raise BadSetting(f"the URL must be like https://campaigns.example.com, not {url[:80]!r}")
    return url.strip().rstrip("/")


def check_token(token: str) -> str:
    """A token as it can stand in a header, or BadSetting; it is not repeated."""
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise BadSetting("a token is printable ASCII without spaces, like tct_APP_…")
    return token


def app_of(token: str) -> str:
    """The app that a token of tallycast names; empty where it names none."""
    match = _TOKEN.fullmatch(token)
    return match[1] if match else ""
