"""The command line as a person has it: on the server's machine, or anywhere else."""

import re
from dataclasses import dataclass, field
from typing import Literal

from click.testing import CliRunner

from harness import App, Server
from tallycast.cli import main

Place = Literal["local", "remote"]
PLACES: tuple[Place, ...] = ("local", "remote")


@dataclass
class Terminal:
    """Runs commands on an app of a server, in this process: on its database, or over HTTP with the app's token."""

    server: Server
    app: App
    place: Place
    stderr: str = field(default="", init=False)

    def run(self, *arguments: str, status: int = 0, text: str | bytes = "") -> str:
        """A command's standard output; its standard error is kept."""
        done = CliRunner(env=self.environ()).invoke(
            main, [*arguments, *self.options()], input=text, catch_exceptions=False
        )
        self.stderr = done.stderr
        assert done.exit_code == status, done.output
        return done.stdout

    def environ(self) -> dict[str, str]:
        return {"TALLYCAST_TOKEN": self.app.token} if self.place == "remote" else {}

    def options(self) -> list[str]:
        if self.place == "remote":
            return ["--url", self.server.url]
        return ["--app", self.app.app_id, *self.server.storage, "--public-url", self.server.url]


def plain(text: str) -> str:
    """A text without what differs from one moment to the next: moments, ages and random ids."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "MOMENT", text)
    text = re.sub(r'("ageSeconds": |"age": ")[\d.]+', r"\1AGE", text)
    return re.sub(r" +", " ", re.sub(r"\b\d{15,}\b|[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text))
