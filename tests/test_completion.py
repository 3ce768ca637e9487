"""Completion scripts: valid for their shell, and they complete."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tallycast.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_valid_and_says_how_it_is_installed(shell: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["completion", shell], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"# To install: tallycast completion {shell} > ~/" in done.stdout
    assert "_TALLYCAST_COMPLETE" in done.stdout
    script = tmp_path / "script"
    script.write_text(done.stdout)
    if program := shutil.which(shell):
        subprocess.run([program, "-n", str(script)], check=True)
    if shell == "zsh":  # else zsh does not take it for a completion
        assert done.stdout.startswith("#compdef tallycast\n")


def test_a_shell_is_given_the_words_that_fit() -> None:
    program = Path(sys.executable).with_name("tallycast")
    words = {"_TALLYCAST_COMPLETE": "bash_complete", "COMP_WORDS": "tallycast report s", "COMP_CWORD": "2"}
    done = subprocess.run([program], env={**os.environ, **words}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,story", "plain,summary"]
