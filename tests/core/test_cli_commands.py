"""The command itself: help, version, errors, completion, and commands that others add."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from crestline import __version__
from crestline.cli.app import app
from crestline.cli.programs import BUILT_IN
from harness.command import CRESTLINE, Command

COMMANDS = ["serve", "env", "systems", "run", "submit", "ps", "wait", "logs", "cancel", "ls", "cat", "cp", "doctor"]


def test_help_lists_every_command(alone: Command) -> None:
    help_page = alone("--help").stdout.decode()
    listed = [line.split()[0] for line in help_page.splitlines() if line.startswith("  ") and line.strip()]
    assert set(COMMANDS) <= set(listed)
    assert alone().stdout.decode() == help_page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json_and_takes_no_secret(alone: Command, command: str) -> None:
    help_page = alone(command, "--help").stdout.decode()
    assert "--json" in help_page
    options = [word for word in help_page.split() if word.startswith("--")]
    assert not [option for option in options if any(word in option for word in ("secret", "password", "token"))]


def test_the_list_of_commands_has_each_help_s_first_sentence() -> None:
    group: Any = get_command(app)
    listed = {name: each.summary for name, each in BUILT_IN.items()}
    assert listed == {name: group.get_command(None, name).short_help for name in BUILT_IN}


def test_version(alone: Command) -> None:
    assert alone("--version").stdout.decode() == f"crestline {__version__}\n"


def test_help_imports_no_command() -> None:
    """Nor client and gateway, nor what starts slowly in the standard library."""
    script = (
        "import sys; from crestline.cli.app import run; run(['--help']);"
        "print(*[name for name in sys.modules if name.startswith(('crestline.client', 'crestline.gateway', 'httpx',"
        " 'litestar', 'rich', 'asyncio', 'ssl', 'crestline.cli.jobs', 'crestline.cli.files'))], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert b"crestline" not in done.stderr
    assert done.stderr.strip() == b""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serv"], "Did you mean 'serve'?"),
        (["ps", "--nmae", "x"], "--name"),
        (["wait"], "JOB"),
        (["ps", "--window", "soon"], "'soon' is not a length of time: write 90s, 15m, 8h or 3d."),
        (["submit", "--env", "A", "/dev/null"], "--env 'A' is not NAME=VALUE."),
        (["submit", "--nodes", "0", "/dev/null"], "--nodes"),
        (["cp", "only"], "cp needs a source and a target."),
        (["cp", "a", "b"], ":PATH"),
        (["cp", ":a", "x@y:b", "c"], "only one system"),
        (["run"], "Give either a command or --script FILE."),
        (["run", "--array", "0-3", "true"], "submit --array"),
        (["serve", "--port", "65536"], "--port"),
    ],
)
def test_usage_errors_are_one_line_with_code_2(alone: Command, arguments: list[str], said: str) -> None:
    line = alone.refused(*arguments, code=2)
    assert line.startswith("crestline: ")
    assert said in line


def test_errors_as_json(alone: Command) -> None:
    error = json.loads(alone.refused("ps", "--json", code=78))["error"]
    assert error["type"] == "ConfigError"
    assert error["exit_code"] == 78
    assert "FIRECREST_URL" in error["hint"]
    usage = json.loads(alone.refused("ps", "--json", "--nonsense", code=2))["error"]
    assert (usage["exit_code"], usage["type"]) == (2, "NoSuchOption")


def test_no_site(alone: Command) -> None:
    assert alone.refused("ps", code=78).startswith("crestline: No site is configured.")
    assert "Unknown site 'y'" in alone.refused("ps", "--site", "x@y", code=78)


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    away = Command(tmp_path, FIRECREST_URL="http://127.0.0.1:9", FIRECREST_TOKEN="secret-token", FIRECREST_SYSTEM="x")
    line = away.refused("ps", code=69)
    assert "127.0.0.1:9" in line
    assert "secret-token" not in line


def test_local_files_that_are_not_there(alone: Command) -> None:
    assert alone.refused("submit", "nothing.sh", code=66) == "crestline: nothing.sh: No such file or directory."
    binary = alone.place / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert "UTF-8" in alone.refused("submit", binary, code=65)


def test_control_characters_in_messages_are_escaped(alone: Command) -> None:
    assert "\\x1b" in alone.refused("submit", "\x1b[31m", code=66)


def test_reader_that_goes_away(alone: Command) -> None:
    """No traceback when the output is a closed pipe."""
    piped = subprocess.run(
        ["/bin/sh", "-c", f"{CRESTLINE} --help | true"], env=alone.environment, capture_output=True, timeout=60
    )
    assert piped.stderr == b""


def _complete(command: Command, line: str) -> list[str]:
    words = line.split(" ")
    asked = {"_CRESTLINE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([CRESTLINE], env=command.environment | asked, capture_output=True, check=True, timeout=60)
    return done.stdout.decode().split()


def test_completion(alone: Command) -> None:
    assert _complete(alone, "crestline su") == ["submit"]
    assert "--time" in _complete(alone, "crestline run --ti")
    alone.sites_file.write_text('[sites.lab]\nurl = "http://x"\nsystem = "one"\n[sites.other]\nurl = "http://y"\n')
    assert _complete(alone, "crestline ps --site ") == ["one@lab", "other"]
    assert _complete(alone, "crestline ps -s ot") == ["other"]
    alone.sites_file.write_text("no toml")
    assert _complete(alone, "crestline ps --site o") == []


PLUGIN = """
import typer
from crestline.model import PermissionDeniedError

app = typer.Typer(help="A command of another distribution.")

@app.command()
def hello(name: str) -> None:
    print("hello", name)

@app.command()
def fail() -> None:
    raise PermissionDeniedError("Not you.", hint="Ask.")

def program(arguments: list[str]) -> int:
    "A program of another distribution."
    print(*arguments)
    return 3
"""


@pytest.fixture
def plugged(tmp_path: Path) -> Command:
    """With a distribution installed (a real dist-info) that adds commands; two of them do not load."""
    packages = tmp_path / "packages"
    info = packages / "crestline_extra-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crestline-extra\nVersion: 1\n")
    entries = {
        "extra": "crestline_extra:app",
        "broken": "crestline_no_such:app",
        "odd": "crestline_extra:PLUGIN",
        "program": "crestline_extra:program",
        "ps": "crestline_extra:app",
    }
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[crestline.commands]", *lines, ""]))
    (packages / "crestline_extra.py").write_text(PLUGIN + "\nPLUGIN = 'no command'\n")
    return Command(tmp_path / "work", PYTHONPATH=str(packages))


def test_commands_of_other_distributions(plugged: Command) -> None:
    assert plugged("extra", "hello", "you").stdout == b"hello you\n"
    assert plugged.refused("extra", "fail", code=77) == "crestline: Not you. Ask."
    help_page = plugged("--help").stdout.decode()
    assert "A command of another distribution." in help_page
    assert "A program of another distribution." in help_page
    assert plugged("program", "--help", "x", code=3).stdout == b"--help x\n"
    assert "--all-users" in plugged("ps", "--help").stdout.decode(), "a built-in command cannot be replaced"
    assert "completion" not in plugged("extra", "--help").stdout.decode()


def test_a_broken_command_of_another_distribution_spoils_nothing_else(plugged: Command) -> None:
    assert "cannot be loaded" in plugged("--help").stdout.decode()
    line = plugged.refused("broken", "--whatever", "x", code=78)
    assert "crestline_no_such" in line
    assert "crestline-extra" in line
    assert "not a typer.Typer" in plugged.refused("odd", code=78)
