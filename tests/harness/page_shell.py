"""Shell blocks of a page, run as a reader types them: one after the other, in one directory, with what was exported."""

from __future__ import annotations

import doctest
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
VENV = Path(sys.prefix)
PATIENCE = 120

_SERVICE = re.compile(r"(crestline serve|crestline relay|python app\.py)\b[^&#]*")
_READY = {"crestline serve": "Ctrl-C", "crestline relay": "agents", "python app.py": "Uvicorn running"}

_PROGRAMS = {
    # The port of the documentation may be taken; a test must not take one that the user has in use.
    "crestline": """#!/bin/sh
case "$1" in
  serve) shift; exec "{bin}/crestline" serve --port 0 "$@" ;;
  relay) shift; exec "{bin}/crestline" relay "$@" --port 0 ;;
esac
exec "{bin}/crestline" "$@"
""",
    "python": """#!/bin/sh
[ "$1" != app.py ] || set -- "$@" --port 0
exec "{bin}/python" "$@"
""",
    # What takes minutes, and has tests of its own, says what it would do: targets of make, the examples' checks.
    "make": """#!/bin/sh
PATH="${{PATH#*:}}" exec make --dry-run --directory "{root}" "$@"
""",
    "crestline-reframe": """#!/bin/sh
case "$PWD" in */examples/*)
  for word do
    shift
    [ "$word" = -r ] && word=-l
    set -- "$@" "$word"
  done
esac
exec "{bin}/crestline-reframe" "$@"
""",
    # All is installed already.
    "python3": """#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec "{bin}/python3" "$@"
mkdir -p "$3/bin" && ln -s "{bin}"/* "$3/bin"
""",
    # What only root can do, told by its words.
    "systemctl": """#!/bin/sh
[ "$*" = "reload ssh" ]
""",
}

_TAIL = """
export -p > "$STATE/exports"
pwd > "$STATE/directory"
"""


@dataclass
class Shell:
    """Runs blocks in `place`; what is exported and where one stands is kept from block to block."""

    place: Path
    environment: dict[str, str]
    start: Path | None = None
    """where one stands first; None: in `place`"""

    _services: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        programs = self.place / ".programs"
        programs.mkdir()
        for name, text in _PROGRAMS.items():
            (programs / name).write_text(text.format(bin=VENV / "bin", root=ROOT))
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{VENV / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.place),
            "LANG": "C.UTF-8",
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",
            "PIP_NO_INDEX": "1",  # all is installed: whatever a page asks for must be among that
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "AIRFLOW_HOME": str(self.place / "airflow"),
        } | self.environment
        self._state = self.place / ".state"
        self._state.mkdir()

    def run(self, script: str) -> str:
        """Run a block; what it says on stdout and stderr.

        Raises:
            AssertionError: it exits with another code than 0.
        """
        lines = []
        for line in script.splitlines(keepends=True):
            if service := _SERVICE.match(line):
                self._run("".join(lines))
                lines.clear()
                self._serve(service[0].strip(), _READY[service[1]])
            else:
                lines.append(line)
        return self._run("".join(lines))

    def console(self, session: str) -> None:
        """Run what stands behind `$ `, and compare what it says with what follows, where `...` stands for anything."""
        for command, expected in commands(session):
            said = self.run(command)
            if expected:
                assert doctest.OutputChecker().check_output(
                    expected, said, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
                ), f"$ {command}\nsays\n{said}\nnot\n{expected}"

    def close(self) -> None:
        """End what was started."""
        for process in self._services:
            process.send_signal(signal.SIGTERM)
        for process in self._services:
            process.wait(PATIENCE)

    def _run(self, script: str) -> str:
        if not script.strip():
            return ""
        head = f'[ -e "{self._state}/exports" ] && . "{self._state}/exports"\nSTATE="{self._state}"\n'
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", f"{head}{script}\n{_TAIL}"],
            env=self.environment,
            cwd=self._where(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        said = done.stdout.decode()
        assert done.returncode == 0, f"exit code {done.returncode}\n{script}\n{said}"
        return said

    def _where(self) -> str | Path:
        left = self._state / "directory"
        return left.read_text().strip() if left.exists() else self.start or self.place

    def _serve(self, command: str, ready: str) -> None:
        log = self.place / f".service-{len(self._services)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                env=self.environment,
                cwd=self._where(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._services.append(process)
        with log.open() as output:
            said = ""
            while ready not in said:
                assert process.poll() is None, f"{command}: {said}{output.read()}"
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    said += output.read()


def commands(session: str) -> Iterator[tuple[str, str]]:
    """Each command with what is expected of it; a line that ends in a backslash goes on."""
    command: list[str] = []
    expected: list[str] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            if command:
                yield "\n".join(command), "\n".join(expected)
            command, expected = [line[2:]], []
        elif command and command[-1].endswith("\\"):
            command.append(line)
        else:
            expected.append(line)
    yield "\n".join(command), "\n".join([*expected, ""]) if expected else ""
