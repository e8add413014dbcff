"""A command of the user's that prints an access token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from crestline import clock
from crestline.client.auth.base import BearerAuthorizer, fingerprint
from crestline.client.auth.token import Token, make_token, shared_source
from crestline.client.command_output import read_command
from crestline.model import AuthenticationError

_TIMEOUT = 60.0
_TOKEN = re.compile(r"[!-~]+")
_HINT = "It must print the token and nothing else on its standard output."


class TokenCommand(BearerAuthorizer):
    """Runs a command, given as an argument list and run without a shell, and again before its token expires.

    It always runs in the directory that was the working directory when this object was made.

    How long a token lives is read from the token itself (JWT); any other token is used until it is refused.
    """

    def __init__(self, command: Sequence[str]) -> None:
        argv = tuple(command)
        directory = _working_directory()
        self.identity = f"token command {fingerprint(*argv)}"

        def fetch() -> Token:
            return _run(argv, directory)

        self._source = shared_source(("token_command", argv, directory), fetch)


def _working_directory() -> Path | None:
    """The working directory; None if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _run(argv: tuple[str, ...], directory: Path | None) -> Token:
    issued = clock.time()
    try:
        status, output = read_command(argv, timeout=_TIMEOUT, directory=directory)
    except TimeoutError:
        raise AuthenticationError(
            f"The token command {argv[0]!r} did not end within {_TIMEOUT:.0f} s.", hint="It must not ask for input."
        ) from None
    except OSError as error:
        raise AuthenticationError(
            f"The token command {argv[0]!r} cannot be run: {error.strerror}.",
            hint="Give token_command as a list: the program first, then its arguments.",
        ) from None
    except ValueError as error:
        raise AuthenticationError(f"The token command {argv[0]!r} gave no token: {error}.", hint=_HINT) from None
    value = output.decode(errors="replace").strip()
    if status or not _TOKEN.fullmatch(value):
        raise AuthenticationError(f"The token command {argv[0]!r} gave no token (exit status {status}).", hint=_HINT)
    return make_token(value, issued)
