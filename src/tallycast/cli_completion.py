"""`tallycast completion`: what a shell needs to complete tallycast's commands and options."""

import click
from click.shell_completion import get_completion_class

_INSTALL = {
    "bash": "# To install: tallycast completion bash > ~/.local/share/bash-completion/completions/tallycast",
    "zsh": "# To install: tallycast completion zsh > ~/.zfunc/_tallycast, with fpath+=~/.zfunc before compinit in ~/.zshrc",
    "fish": "# To install: tallycast completion fish > ~/.config/fish/completions/tallycast.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes tallycast's commands and options.

    \b
      tallycast completion bash > ~/.local/share/bash-completion/completions/tallycast
      tallycast completion zsh > ~/.zfunc/_tallycast
      tallycast completion fish > ~/.config/fish/completions/tallycast.fish
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "tallycast", "_TALLYCAST_COMPLETE").source()
    lines = script.strip().split("\n")
    # zsh wants its own mark on the first line.
    place = 1 if lines[0].startswith("#compdef") else 0
    click.echo("\n".join([*lines[:place], _INSTALL[shell], *lines[place:]]))
