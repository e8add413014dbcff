"""Programs of the user's own machine whose output the client reads: any output, or none, ends in time and in bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crestline.client.auth import TokenCommand, token_command
from crestline.client.files import ignore
from crestline.client.files.ignore import IgnoreRules
from crestline.model import AuthenticationError

pytestmark = pytest.mark.anyio
MARK = "s3cretMark"


def shell(text: str) -> TokenCommand:
    return TokenCommand(["/bin/sh", "-c", text])


@pytest.mark.parametrize(
    "text",
    [
        f"echo {MARK}; yes | head -c 8388608 | tr -d '\\n'",
        f"yes {MARK} | tr -d '\\n'",
        f"echo {MARK}; echo {MARK}",
        f"printf '{MARK}\\033[2J'",
        f"printf '{MARK}\\000'",
        f"printf '{MARK}\\377'",
        f"printf '{MARK}\\342\\200\\256'",
        f"echo {MARK}; exit 1",
        f"echo {MARK}; kill -9 $$",
        "true",
    ],
)
async def test_a_token_command_that_prints_no_token(text: str) -> None:
    with pytest.raises(AuthenticationError, match="gave no token") as caught:
        await shell(text).auth_headers()
    assert MARK not in f"{caught.value!r} {caught.value.hint} {caught.value.__context__!r}"


@pytest.mark.parametrize(
    "text",
    [
        "echo $$ >{pid}; exec sleep 600",
        "echo $$ >{pid}; exec >&-; exec sleep 600",
        "echo $$ >{pid}; sleep 2 & echo token; exec >&-; exec sleep 600",
    ],
)
async def test_a_token_command_that_never_ends(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_command, "_TIMEOUT", 1.0)
    with pytest.raises(AuthenticationError, match="did not end within"):
        await shell(text.format(pid=tmp_path / "pid")).auth_headers()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_what_a_token_command_writes_to_standard_error_is_not_kept() -> None:
    headers = await shell("head -c 8388608 /dev/zero >&2; echo token").auth_headers()
    assert headers == {"Authorization": "Bearer token"}


@pytest.mark.parametrize("answer", ["exec sleep 600", "yes /x", "kill -9 $$"])
def test_a_git_that_does_not_answer(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own ignore file is then where Git has it by default."""
    monkeypatch.setattr(ignore, "_GIT_TIMEOUT", 1.0)
    for name, text in {
        "bin/git": f"#!/bin/sh\n{answer}\n",
        "config/git/ignore": "*.h5\n",
        "tree/.git/x": "",
        "tree/x.h5": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin/git").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert IgnoreRules(tmp_path / "tree").excludes("x.h5", is_directory=False)
