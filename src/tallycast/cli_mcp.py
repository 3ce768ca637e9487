"""The command line's `mcp`: reports for assistants."""

import click

from tallycast.ways import Way, asks


@click.command("mcp")
@asks
def mcp(way: Way) -> None:
    """Answer an assistant's questions about campaigns, on standard input and output (MCP).

    \b
      tallycast mcp --app APP                 the database of this machine
      tallycast mcp --profile shop            a server elsewhere; its token may be one with reports:read alone

    An assistant starts this command by itself, see docs/integrations.md. All its tools only read.
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    from tallycast import assistant  # noqa: PLC0415 - other commands need not load it

    way.run(assistant.serve)
