"""The command line's `webhooks`: other systems that are told what happens in an app."""

from typing import Any

import click

from tallycast.api import Api, below
from tallycast.commands import COUNT, print_rows, write_json
from tallycast.ways import Way, asks

_json = click.option("--json", "as_json", is_flag=True, help="print JSON")
_endpoint = click.argument("endpoint_id", metavar="ENDPOINT")
_PATH = "/webhook-endpoints"


@click.group()
def webhooks() -> None:
    """Webhooks to other systems: signed as Standard Webhooks say, and tried again for a day.

    \b
      tallycast webhooks add --app APP https://crm.example.com/tallycast      prints the secret, once
      tallycast webhooks test --app APP ENDPOINT
      tallycast webhooks deliveries --app APP ENDPOINT
      tallycast webhooks retry --app APP ENDPOINT DELIVERY
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@webhooks.command("list")
@_json
@asks
def list_endpoints(way: Way, as_json: bool) -> None:
    """List the endpoints, and which of them fail or are disabled."""
    found = way.run(lambda api: api.request("GET", _PATH))
    if as_json:
        click.echo(write_json(found))
        return
    names = ("id", "url", "events", "failingSince", "disabledReason")
    rows = [
        {name: one.get(name) for name in names} | {"events": ", ".join(one["events"]) or "all"}
        for one in found
    ]
    print_rows(rows, False, f"no endpoints: tallycast webhooks add --app {way.app_id} URL")


@webhooks.command("add")
@click.argument("address", metavar="ADDRESS")
@click.option("--event", "events", multiple=True, help="only these; may be repeated; all when left out")
@click.option("--description", default="", help="what it is for")
@_json
@asks
def add_endpoint(way: Way, address: str, events: tuple[str, ...], description: str, as_json: bool) -> None:
    """Add an endpoint, and show the secret that signs what it gets."""
    new = {"url": address, "events": events, "description": description}
    made = way.run(lambda api: api.request("POST", _PATH, json=new))
    click.echo(write_json(made) if as_json else f"endpoint  {made['id']}\nsecret    {made['secret']}")


@webhooks.command("remove")
@_endpoint
@asks
def remove_endpoint(way: Way, endpoint_id: str) -> None:
    """Remove an endpoint: it is told nothing more."""
    way.run(lambda api: api.request("DELETE", below(_PATH[1:], endpoint_id)))
    click.echo(f"removed {endpoint_id}")


@webhooks.command("test")
@_endpoint
@_json
@asks
def test_endpoint(way: Way, endpoint_id: str, as_json: bool) -> None:
    """Send a test event to an endpoint."""
    _print_delivery(way.run(lambda api: api.request("POST", below(_PATH[1:], endpoint_id, "test"))), as_json)


@webhooks.command("deliveries")
@_endpoint
@click.option("--limit", type=COUNT, default=20, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@_json
@asks
def list_deliveries(way: Way, endpoint_id: str, limit: int, offset: int, as_json: bool) -> None:
    """List what an endpoint was told, the latest first, and what it answered."""

    async def work(api: Api) -> list[Any]:
        return await api.list(below(_PATH[1:], endpoint_id, "deliveries"), None, limit, offset)

    found = way.run(work)
    if as_json:
        click.echo(write_json(found))
        return
    names = ("id", "type", "state", "createdAt", "attempts", "status", "answer")
    print_rows([{name: one.get(name) for name in names} for one in found], False, "nothing was delivered yet")


@webhooks.command("retry")
@_endpoint
@click.argument("delivery_id", metavar="DELIVERY")
@_json
@asks
def retry_delivery(way: Way, endpoint_id: str, delivery_id: str, as_json: bool) -> None:
    """Deliver something again, now."""
    path = below(_PATH[1:], endpoint_id, "deliveries", delivery_id, "retry")
    _print_delivery(way.run(lambda api: api.request("POST", path)), as_json)


def _print_delivery(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(write_json(found))
        return
    answer = f", answered {found['status']}" if "status" in found else ""
    click.echo(f"{found['type']} {found['id']} is {found['state']}{answer}")
