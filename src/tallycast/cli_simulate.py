"""`tallycast simulate`: the simulated providers from the command line."""

from pathlib import Path

import click

from tallycast.commands import explaining


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", type=click.IntRange(0, 65535), default=9090, show_default=True, help="port for HTTP")
@click.option(
    "--smpp-port", type=click.IntRange(0, 65535), default=2775, show_default=True, help="port for SMPP; 0 = no SMSC"
)  # fmt: skip
@click.option(
    "--profile", default="normal", show_default=True, help="calm, normal, worst, or a JSON file of fields"
)
@click.option("--seed", type=int, default=1, show_default=True, help="the same seed, the same fates")
@click.option(
    "--ledger", type=click.Path(path_type=Path, dir_okay=False), help="also append the ledger to this NDJSON file"
)  # fmt: skip
@click.option("--public-url", default="", help="how tallycast is reached, for links in templates; found out if left out")  # fmt: skip
def simulate(
    host: str, port: int, smpp_port: int, profile: str, seed: int, ledger: Path | None, public_url: str
) -> None:
    """Play 360dialog, Meta, Twilio and an SMSC, to rehearse a campaign without sending anything.

    Prints one line when it is ready, and how to point a channel at it. Every key is accepted, and what it sends
    is kept in a ledger: what reached which handset, and what became of it.

    \b
    The profile says how often the providers refuse, stay silent or repeat themselves, and what people do:
      calm      everything arrives, at once
      normal    a usual day: some failures, late and repeated receipts, a few refusals
      worst     all of it at once: rate limits, errors, time-outs after the message was taken, receipts that are
                lost, repeated, out of order or there before the answer
      FILE      JSON fields that differ from a base, e.g. {"base": "calm", "failed": 0.5, "deliveredSeconds": [1, 2]}

    \b
    While it runs (URL is the one it prints):
      curl URL/simulator/ledger                        every message and refusal, one JSON line each
      curl URL/simulator/ledger/summary                counts, and handsets that got something twice
      curl URL/simulator/pending                       what is still to be posted; 0 = settled
      curl 'URL/simulator/pace?key=KEY'                messages taken in each second
      curl URL/simulator/profile -d '{"base": "worst"}'   another profile, from now on
      curl -X DELETE URL/simulator/ledger              start anew
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    import uvloop  # noqa: PLC0415 - other commands need not load it

    from tallycast.simulator import server  # noqa: PLC0415 - the same
    from tallycast.simulator.profiles import load_profile  # noqa: PLC0415 - the same

    with explaining():
        plan = server.Plan(port, smpp_port or None, host, load_profile(profile), seed, ledger, public_url)
        uvloop.run(server.serve(plan, lambda bound: _explain(host, bound, smpp_port)))


def _explain(host: str, port: int, smpp_port: int) -> None:
    url = f"http://{host}:{port}"
    smpp = f' · smpp {{"host": "{host}", "port": "{smpp_port}", "systemID": "any", "password": "any"}}'
    click.echo(f"tallycast simulator is ready: {url}")
    hosts = ",".join(f"{host}:{one}" for one in (port, smpp_port) if one)
    click.echo(
        f"""
Let tallycast call it: tallycast serve --private-hosts {hosts}
Credentials that point a channel here:
  sandbox, 360dialog  {{"baseURL": "{url}", "apiKey": "any"}}
  meta                {{"baseURL": "{url}", "accessToken": "any", "phoneNumberID": "1001", "wabaID": "1"}}
  twilio              {{"baseURL": "{url}", "accountSID": "AC1", "authToken": "any"}}
{smpp.replace(" · smpp ", "  smpp                ") if smpp_port else ""}
And where their receipts shall go (Twilio is told with each message, SMPP needs nothing):
  curl {url}/v1/configs/webhook -H 'D360-API-KEY: any' \\
    -d '{{"url": "WEBHOOK-URL", "headers": {{"Authorization": "Bearer SECRET"}}}}'
  curl {url}/simulator/meta/1001 \\
    -d '{{"webhookURL": "WEBHOOK-URL", "appSecret": "SECRET", "verifyToken": "TOKEN"}}'
"""
    )
