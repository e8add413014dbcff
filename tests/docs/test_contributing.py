"""The table of CONTRIBUTING.md that tells where to change what."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {
    "core": ROOT / "core/src/crestline",
    **{
        name: ROOT / f"integrations/{name}/src/crestline_{name}"
        for name in ("airflow", "gitlab_runner", "jupyterhub", "reframe")
    },
}
_, _, _TABLE = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where do I change")
ANSWERS = [line.split("|")[2] for line in _TABLE.partition("## Tests")[0].splitlines() if line.count("|") == 3][2:]


def test_the_table_has_answers() -> None:
    assert len(ANSWERS) >= 20


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_answer_names_at_most_two_paths_that_exist(answer: str) -> None:
    paths = [name for name in re.findall(r"`([^`]+)`", answer) if "/" in name]
    assert 1 <= len(paths) <= 2
    for name in paths:
        room, _, rest = name.partition("/")
        path = ROOMS[room] / rest if room in ROOMS else ROOT / name
        assert path.exists(), name
