"""Each command's help ends with an example that it understands; people who want no colours get none."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer

from service.cli import app
from service.cli.examples import EXAMPLES

WHOLE = typer.main.get_command(app)


def commands(part=WHOLE, path=()) -> Iterator[tuple[str, object]]:
    for name, command in getattr(part, "commands", {}).items():
        yield from commands(command, (*path, name))
    if not hasattr(part, "commands"):
        yield " ".join(path), part


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_ends_with_an_example_of_it(name):
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith(f"Example: errata {name}"), f"add one to service/cli/examples.py: {name}"


@pytest.mark.parametrize("line", EXAMPLES.strip().splitlines())
def test_an_example_is_understood(line):
    name = max((each for each in COMMANDS if f"{line} ".startswith(f"{each} ")), key=len)
    given = shlex.split(line)[len(name.split()) :]
    COMMANDS[name].make_context(name, given).close()


def run(*given: str, **environment: str) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, "-m", "service.cli", *given]
    return subprocess.run(asked, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_nobody_gets_colours_who_wants_none():
    forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[" in run("diff", "--help", **forced).stdout
    assert "\x1b[" not in run("diff", "--help", TERM="dumb", NO_COLOR="1").stdout


def test_the_shell_can_complete():
    told = run(_ERRATA_COMPLETE="complete_bash", COMP_WORDS="errata le", COMP_CWORD="1")
    assert told.stdout.split() == ["ledger"]
