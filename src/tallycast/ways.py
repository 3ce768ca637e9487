"""How a command reaches the API: by its options, the environment or a profile; else in this process."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, NamedTuple, TypeVar

import click

from tallycast import databases, migrations, profiles
from tallycast.api import Api
from tallycast.commands import Command, Result, explaining, name_operator, option, read_secret
from tallycast.config import ENV_PREFIX, BadSetting, Settings, load

# What the API within this process is told; each may be given as an option or in the environment.
_LOCAL = ("data_dir", "database_url", "encryption_key", "public_url", "private_hosts")
_STORAGE = ("data_dir", "database_url")
NAMELESS = (
    "the token does not name its app, as those of `tallycast token create` do: mend it, or give --app as well"
)
Function = TypeVar("Function", bound=Command)


class Given(NamedTuple):
    """What a command's options say of where to ask."""

    url: str | None = None
    token: str | None = None
    profile: str | None = None
    app_id: str | None = None


@dataclass(frozen=True)
class Way:
    """To the API of one app: a server over HTTP, or without one the database of `settings`, in this process."""

    settings: Settings
    server: profiles.Profile | None
    app_id: str | None

    def of(self, app_id: str | None) -> "Way":
        """The same for another app, where one is given."""
        return replace(self, app_id=app_id or self.app_id)

    def run(self, work: Callable[[Api], Awaitable[Result]]) -> Result:
        """Do work that asks the API."""
        if self.app_id is None and self.server is not None:
            raise BadSetting(NAMELESS)
        if self.app_id is None:
            raise click.UsageError("Missing option '--app': the app's id; `tallycast app list` shows them")
        if self.server is not None:
            return asyncio.run(self._work_remotely(self.server, self.app_id, work))
        with databases.reach(self.settings) as url:
            migrations.migrate(url)
            return asyncio.run(self._work_here(url, self.app_id, work))

    async def _work_remotely(
        self, server: profiles.Profile, app_id: str, work: Callable[[Api], Awaitable[Result]]
    ) -> Result:
        from tallycast import api_remote  # noqa: PLC0415 - a local command need not load it

        async with api_remote.open_remote(server.url, server.token) as caller:
            return await work(Api(caller, app_id, _tell))

    async def _work_here(self, url: str, app_id: str, work: Callable[[Api], Awaitable[Result]]) -> Result:
        from tallycast import api_local  # noqa: PLC0415 - a remote command need not load it

        async with api_local.open_local(self.settings, url, name_operator()) as (caller, services):

            async def do_import(import_id: str) -> None:
                await api_local.run_import(services, app_id, import_id, name_operator())

            return await work(Api(caller, app_id, _tell, do_import))


def _tell(line: str) -> None:
    click.echo(f"tallycast: {line}", err=True)


def asks(command: Command) -> Command:
    """For a command that asks the API: the options that say which, and where; the command gets one `way`."""

    @wraps(command)
    def run(**arguments: Any) -> Any:
        settings = {name: arguments.pop(name) for name in _LOCAL}
        given = Given(*(arguments.pop(name, None) for name in Given._fields))
        with explaining():
            return command(way=find_way(settings, given), **arguments)

    wrapped: Command = run
    for name in reversed(_LOCAL):
        wrapped = option(name)(wrapped)
    for add in reversed(_REMOTE):
        wrapped = add(wrapped)
    return wrapped


_REMOTE = (
    click.option("--app", "app_id", help="the app's id; a remote one is known by its token"),
    click.option("--profile", help="a server that `tallycast profile add` has kept (TALLYCAST_PROFILE)"),
    click.option("--url", help="a remote server, e.g. https://campaigns.example.com (TALLYCAST_URL)"),
    click.option(
        "--token",
        help="what opens the remote server; - asks for it, or reads a line of stdin (TALLYCAST_TOKEN)",
    ),
)


def find_way(settings: Mapping[str, Any], given: Given, environ: Mapping[str, str] | None = None) -> Way:
    """Options win over the environment, and that over the profile in use; the rest is local."""
    environ = os.environ if environ is None else environ
    server = _find_server(settings, given, environ)
    app_id = given.app_id
    if server is not None:
        app_id = app_id or server.app or profiles.app_of(server.token) or None
    return Way(load(settings, environ), server, app_id)


def _find_server(
    settings: Mapping[str, Any], given: Given, environ: Mapping[str, str]
) -> profiles.Profile | None:
    url, named = environ.get(f"{ENV_PREFIX}URL"), environ.get(f"{ENV_PREFIX}PROFILE")
    is_asked = any((given.url, given.token, given.profile))
    storage = [f"--{name.replace('_', '-')}" for name in _STORAGE if settings.get(name) is not None]
    if is_asked and storage:
        raise BadSetting(
            f"{storage[0]} is a database here, and --url or --profile a server elsewhere: give one"
        )
    if given.url and given.profile:
        raise BadSetting("--url and --profile both name a server: give one")
    if storage:
        return None
    if given.url or (url and not given.profile):
        return _at(given.url or url or "", given.token, environ)
    if given.profile or named:
        return _with(profiles.read().find(given.profile or named or ""), given.token)
    if not is_asked and any(environ.get(ENV_PREFIX + name.upper()) for name in _STORAGE):
        return None
    kept = profiles.read()
    if kept.current:
        return _with(kept.find(kept.current), given.token)
    if given.token:
        raise BadSetting("--token opens a server: name it with --url or --profile")
    return None


def _at(url: str, token: str | None, environ: Mapping[str, str]) -> profiles.Profile:
    """A server whose token is given beside its address: that of a profile goes to no other."""
    found = read_secret("token", token) or environ.get(f"{ENV_PREFIX}TOKEN")
    if not found:
        raise BadSetting(f"a token for {url} must be given, in TALLYCAST_TOKEN or by --token -")
    return profiles.Profile(profiles.check_url(url), profiles.check_token(found))


def _with(profile: profiles.Profile, token: str | None) -> profiles.Profile:
    given = read_secret("token", token)
    return profile if not given else profiles.Profile(profile.url, profiles.check_token(given), profile.app)


def of_campaign(command: Command) -> Command:
    """The argument that says which campaign."""
    return click.argument("campaign_id", metavar="CAMPAIGN")(command)
