"""Modes of chmod: the gateway's arithmetic beside the real program's."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crestline.gateway.hosts.file_modes import apply_mode, check_mode
from crestline.model import InvalidRequestError

_actions = st.tuples(st.sampled_from("+-="), st.sampled_from(["", "r", "wx", "X", "s", "t", "rwxXst", "u", "g", "o"]))
_clauses = st.tuples(
    st.sampled_from(["", "u", "g", "o", "a", "ug", "go", "uo"]), st.lists(_actions, min_size=1, max_size=2)
)
_modes = st.lists(_clauses, min_size=1, max_size=3).map(
    lambda clauses: ",".join(who + "".join(map("".join, actions)) for who, actions in clauses)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_modes, st.integers(0, 0o7777), st.booleans())
def test_symbolic_modes_mean_what_chmod_means(tmp_path: Path, mode: str, before: int, is_directory: bool) -> None:
    path = tmp_path / ("directory" if is_directory else "file")
    path.mkdir(exist_ok=True) if is_directory else path.touch()
    os.chmod(path, before)
    # chmod(1) reports bits of a clause without u, g, o and a that its mask leaves alone; it changes the rest.
    subprocess.run(["chmod", "--", mode, path], check=False, umask=0o022, stderr=subprocess.DEVNULL)
    after = stat.S_IMODE(path.stat().st_mode)
    assert oct(apply_mode(mode, before, is_directory=is_directory)) == oct(after)


@pytest.mark.parametrize("mode", ["", "rwx", "u+y", "u", "+x;id", "u+x,", "99", "u+s; id", "u+x\n", "a" * 300 + "+x"])
def test_what_chmod_does_not_take(mode: str) -> None:
    with pytest.raises(InvalidRequestError, match="invalid mode"):
        check_mode(mode)
