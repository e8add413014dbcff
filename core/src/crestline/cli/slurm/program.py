"""What the commands share: reading the command line, failing in Slurm's words, and the way to a system."""

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
"""whose options and output these commands follow"""
_NOT_ANSWERED = (124, 126, 127, 137)
"""exit codes of a command that is not installed there, or that had no time"""


class CommandError(Exception):
    """The command cannot go on.

    Attributes:
        lines: for stderr, without the command's name.
        code: exit code.
    """

    def __init__(self, *lines: str, code: int = 1) -> None:
        super().__init__(*lines)
        self.lines = lines
        self.code = code


def run(program: str, work: Callable[[list[str]], int | None]) -> NoReturn:
    """Be the program: do its work with the command line's words, and exit."""
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
    except BrokenPipeError:  # the reader of our output has gone; the interpreter must not try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def read_options(
    program: str, words: Sequence[str], grammar: str, *, lists: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """The options of a command line, by their long names, and the other words, as getopt_long(3) reads them.

    Args:
        program: for the message.
        words: the command line.
        grammar: long names, each with its letter before a `/` if it has one; `=` behind those that take a value, `?`
            behind those that take one only after `=`: `j/jobs= h/noheader array?`.
        lists: options whose values add up if they are repeated; of the others the last counts.

    Raises:
        CommandError: what Slurm's command would say.
    """
    try:
        parsed = parse_options(words, grammar)
    except InvalidRequestError as error:
        hint = () if program == "sacct" else (f'Try "{program} --help" for more information',)
        raise CommandError(f"{program}: {error.message}", *hint) from None
    return parsed.settings(lists), parsed.words


def read_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The options that environment variables stand for; of an option without a value it counts that they are set.

    Args:
        variables: the variable, and the option's long name, with `!` behind it if it takes no value.
    """
    found = {option: os.environ[name] for name, option in variables.items() if name in os.environ}
    return {option.rstrip("!"): "" if option.endswith("!") else value for option, value in found.items()}


async def slurm_answer(there: System, program: str, words: Sequence[str]) -> SlurmOutput | None:
    """What Slurm's own command on the system prints.

    Args:
        there: the system.
        program: one of `QUERIES`.
        words: the command line, in which `-M` does not count.

    Returns:
        None if the gateway cannot ask it, or its command does not answer.
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
        return None  # not Slurm, or more than it may be asked for: the command says itself what it can do
    if answer.exit_code in _NOT_ANSWERED:
        return None
    if any(name in ("json", "yaml") for name, _ in pairs) and "data_parser/" not in answer.output:
        return None  # an older Slurm has documents of another shape, or none
    return answer


def print_answer(answer: SlurmOutput) -> int:
    """Print what Slurm's own command has printed; returns its exit code.

    Names that other users chose must not drive the terminal, so control characters are escaped there.
    """
    for text, stream in ((answer.output, sys.stdout), (answer.errors, sys.stderr)):
        lines = [escaped(line) for line in text.split("\n")] if stream.isatty() else [text]
        print("\n".join(lines), end="", file=stream)
    return answer.exit_code


def _printing_variables(program: str) -> dict[str, str]:
    """What changes the output of a command: `SQUEUE_FORMAT`, `SLURM_TIME_FORMAT` and the like."""
    prefix = f"{program.upper()}_"
    return {
        name: value
        for name, value in os.environ.items()
        if (name.startswith(prefix) and name != f"{prefix}CLUSTERS") or name == "SLURM_TIME_FORMAT"
    }


def _local_zone() -> str:
    """The name of this machine's time zone (`Europe/Zurich`), since the commands print local times."""
    try:
        name = os.readlink("/etc/localtime").partition("zoneinfo/")[2]
    except OSError:
        name = ""
    if name:
        return name
    offset = time.strftime("%z")  # `+0100`, which POSIX writes as `<+0100>-01:00`
    return f"<{offset}>{'-' if offset[0] == '+' else '+'}{offset[1:3]}:{offset[3:]}"


def on_system(target: str | None, system: str | None, action: Callable[[System], Awaitable[T]]) -> T:
    """Connect, do `action`, and disconnect. Who polls will come again, so that no command waits for long."""

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
    """Run; SIGTERM cancels as Ctrl-C does."""

    try:
        return run_interruptible(work)
    except asyncio.CancelledError:
        raise CommandError(code=ENDED_BY_SIGTERM) from None


def one_line(text: str) -> str:
    """The text with blanks for what does not print, line ends among them."""
    return "".join(each if each.isprintable() else " " for each in text)
