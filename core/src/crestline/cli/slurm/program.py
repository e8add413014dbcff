"""Shared parts of the commands: parsing the command line, reporting errors as Slurm does, connecting to a system."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from crestline import __version__
from crestline.cli.interruptible import ENDED_BY_SIGTERM, run_interruptible
from crestline.cli.lazy_imports import install
from crestline.cli.output import one_line as escaped
from crestline.listening import check_listening
from crestline.model import CrestlineError, InvalidRequestError, UnsupportedError
from crestline.model.slurm_queries import QUERIES, SlurmQuery, parse_options
from crestline.tracing import configure

if TYPE_CHECKING:
    from crestline.client import System
    from crestline.model.slurm_queries import SlurmOutput

T = TypeVar("T")
SLURM_VERSION = "24.11.0"
"""Version of Slurm whose options and output these commands follow."""
_NOT_ANSWERED = (124, 126, 127, 137)
"""Exit codes of a command that is not installed on the system, or that timed out."""


class CommandError(Exception):
    """The command fails.

    Attributes:
        lines: lines for stderr, printed without a prefix.
        code: the exit code.
    """

    def __init__(self, *lines: str, code: int = 1) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.code = code


def run(program: str, work: Callable[[list[str]], int | None]) -> NoReturn:
    """Run the console script `program`: pass the arguments to `work` and exit with its result."""
    install()
    configure()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    words = sys.argv[1:]
    try:
        if words[:1] in (["--version"], ["-V"]):
            print(f"slurm {SLURM_VERSION} (crestline {__version__})")
            code = 0
        elif words[:1] in (["--help"], ["--usage"]):
            print(f"{program} over FirecREST. It takes the options of Slurm's {program} that the API can serve;")
            print("they are listed in Crestline's documentation, page 'Slurm's commands'.")
            code = 0
        else:
            code = work(words) or 0
        sys.stdout.flush()
    except CommandError as failure:
        for line in failure.lines:
            print(line, file=sys.stderr)
        code = failure.code
    except CrestlineError as error:
        print(f"{program}: error: {one_line(str(error))}", file=sys.stderr)
        code = 1
    except OSError as error:
        print(f"{program}: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # the reader has closed the pipe; prevent the interpreter from flushing again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def read_options(
    program: str, words: Sequence[str], grammar: str, *, lists: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Parse options as getopt_long(3) does. Returns their values by long name, and the other words.

    Args:
        program: the name of the command, for error messages.
        words: the command line.
        grammar: the long names, each preceded by its letter and a `/` if it has one. `=` follows options that take a
            value, `?` those that take one only after `=`: `j/jobs= h/noheader array?`.
        lists: options whose values accumulate if repeated. For others the last value counts.

    Raises:
        CommandError: invalid option, with the message of Slurm's command.
    """
    try:
        parsed = parse_options(words, grammar)
    except InvalidRequestError as error:
        hint = () if program == "sacct" else (f'Try "{program} --help" for more information',)
        raise CommandError(f"{program}: {error.message}", *hint) from None
    return parsed.settings(lists), parsed.words


def read_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the options that environment variables set. Options without a value ignore that of the variable.

    Args:
        variables: for each variable the long name of the option, followed by `!` if the option takes no value.
    """
    found = {option: os.environ[name] for name, option in variables.items() if name in os.environ}
    return {option.rstrip("!"): "" if option.endswith("!") else value for option, value in found.items()}


async def slurm_answer(there: System, program: str, words: Sequence[str]) -> SlurmOutput | None:
    """Run Slurm's own command on the system.

    Args:
        there: the system.
        program: one of `QUERIES`.
        words: the command line, of which `-M` is ignored.

    Returns:
        Its output, or None if the gateway cannot run it or the command does not respond.
    """
    from crestline.client import Capability

    if Capability.SLURM_QUERIES not in there.capabilities:
        return None
    parsed = parse_options(words, QUERIES[program])
    pairs = [(name, value) for name, value in parsed.pairs if name != "clusters"]
    query = SlurmQuery(
        program=program,
        arguments=(*replace(parsed, pairs=pairs).written(), *parsed.words),
        environment={"TZ": os.environ.get("TZ") or _local_zone(), **_printing_variables(program)},
        me=getpass.getuser(),
    )
    try:
        answer = await there.backend.system.ask_slurm(query)
    except (UnsupportedError, InvalidRequestError):
        return None  # not Slurm, or an unsupported query: the caller answers or refuses it
    if answer.exit_code in _NOT_ANSWERED:
        return None
    if any(name in ("json", "yaml") for name, _ in pairs) and "data_parser/" not in answer.output:
        return None  # older versions of Slurm use another schema, or none
    return answer


def print_answer(answer: SlurmOutput) -> int:
    """Print the output of Slurm's own command and return its exit code.

    On a terminal, control characters are escaped: names that other users chose must not control it.
    """
    for text, stream in ((answer.output, sys.stdout), (answer.errors, sys.stderr)):
        lines = [escaped(line) for line in text.split("\n")] if stream.isatty() else [text]
        print("\n".join(lines), end="", file=stream)
    return answer.exit_code


def _printing_variables(program: str) -> dict[str, str]:
    """Return the variables that change the output of a command, such as `SQUEUE_FORMAT` and `SLURM_TIME_FORMAT`."""
    prefix = f"{program.upper()}_"
    return {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(prefix) and name != f"{prefix}CLUSTERS") or name == "SLURM_TIME_FORMAT"
    }


def _local_zone() -> str:
    """Return the name of this machine's time zone (`Europe/Zurich`), since the commands print local times."""
    try:
        name = os.readlink("/etc/localtime").partition("zoneinfo/")[2]
    except OSError:
        name = ""
    if name:
        return name
    offset = time.strftime("%z")  # `+0100`, in POSIX notation `<+0100>-01:00`
    return f"<{offset}>{'-' if offset[0] == '+' else '+'}{offset[1:3]}:{offset[3:]}"


def on_system(target: str | None, system: str | None, action: Callable[[System], Awaitable[T]]) -> T:
    """Connect, run `action`, and disconnect.

    Retries for at most 30 seconds: tools that poll call the command again.
    """

    async def connected() -> T:
        from crestline.client import Policy, RetryPolicy, connect, find_site
        from crestline.client.session_cache import session_cache_file

        check_listening(find_site(target)[0].url)
        policy = Policy(retry=RetryPolicy(attempts=4, total_timeout=30))
        async with connect(
            target, system=system, policy=policy, session_cache=session_cache_file(target, system)
        ) as there:
            return await action(there)

    return _run(connected())


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`. SIGTERM cancels it as Ctrl-C does."""

    try:
        return run_interruptible(work)
    except asyncio.CancelledError:
        raise CommandError(code=ENDED_BY_SIGTERM) from None


def one_line(text: str) -> str:
    """Replace unprintable characters, including newlines, with spaces."""
    return "".join(each if each.isprintable() else " " for each in text)
