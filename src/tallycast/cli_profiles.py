"""The command line's `profile`: servers elsewhere, and the tokens that open them."""

import click
import msgspec

from tallycast import profiles
from tallycast.commands import explaining, print_rows, read_secret
from tallycast.config import BadSetting
from tallycast.profiles import Profile
from tallycast.ways import NAMELESS


@click.group()
def profile() -> None:
    """Profiles: servers elsewhere that commands ask, with their tokens.

    \b
      tallycast profile add shop --url https://campaigns.example.com      the token is asked for
      tallycast report summary --profile shop --last 7d
      tallycast profile use shop                                         from now on, without --profile

    They are kept in tallycast/profiles.toml in your config directory, which nobody else can read. A command asks the
    server of --profile or --url; else that of TALLYCAST_PROFILE or TALLYCAST_URL; else, unless a --data-dir or a
    --database-url is given, that of `profile use`; else the database of this machine.
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@profile.command("add")
@click.argument("name")
@click.option("--url", required=True, help="where the server is reached, e.g. https://campaigns.example.com")
@click.option("--token", default="-", help="an app's token; asked for, or read from stdin, when left out")
@click.option("--app", default="", help="the app's id, where the token does not name it")
def add_profile(name: str, url: str, token: str, app: str) -> None:
    """Keep a server and its token under a name. One of that name is replaced."""
    with explaining():
        kept = profiles.read()
        plain = profiles.check_token(read_secret("token", token) or "")
        new = Profile(profiles.check_url(url), plain, app)
        if not (app or profiles.app_of(plain)):
            raise BadSetting(NAMELESS)
        added = {**kept.profiles, profiles.check_name(name): new}
        profiles.write(msgspec.structs.replace(kept, profiles=added))
    click.echo(f"kept {name}; see whether it works: tallycast doctor --profile {name}")


@profile.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_profiles(as_json: bool) -> None:
    """List the profiles, without their tokens."""
    with explaining():
        kept = profiles.read()
    rows = [
        {
            "name": name,
            "url": one.url,
            "app": one.app or profiles.app_of(one.token),
            "inUse": name == kept.current,
        }
        for name, one in sorted(kept.profiles.items())
    ]
    print_rows(rows, as_json, "no profiles: tallycast profile add NAME --url URL")


@profile.command("remove")
@click.argument("name")
def remove_profile(name: str) -> None:
    """Forget a profile and its token. The token stays valid until it is revoked."""
    with explaining():
        kept = profiles.read()
        kept.find(name)
        others = {known: one for known, one in kept.profiles.items() if known != name}
        current = "" if kept.current == name else kept.current
        profiles.write(profiles.Profiles(current, others))
    click.echo(f"removed {name}")


@profile.command("use")
@click.argument("name", required=False)
@click.option("--none", "is_none", is_flag=True, help="none: commands ask this machine's database again")
def use_profile(name: str | None, is_none: bool) -> None:
    """Let commands ask this server from now on."""
    if (name is None) != is_none:
        raise click.UsageError("Give the NAME of a profile, or --none.")
    with explaining():
        kept = profiles.read()
        if name is not None:
            kept.find(name)
        profiles.write(msgspec.structs.replace(kept, current=name or ""))
    click.echo(f"commands ask {name}" if name else "commands ask this machine")
