"""Both dialects and the typed one, the site's limits, and the trap of YAML."""

from __future__ import annotations

import pytest

from crestline.model import ConfigError
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.resources import ask
from crestline_gitlab_runner.settings import Defaults
from crestline_gitlab_runner.time_limits import parse_limit


def test_the_three_dialects_say_the_same() -> None:
    typed = {
        "CRESTLINE_NODES": "2",
        "CRESTLINE_TASKS": "8",
        "CRESTLINE_TIME": "00:20:00",
        "CRESTLINE_PARTITION": "normal",
    }
    slurm = {
        "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS": "8", "SLURM_TIMELIMIT": "00:20:00", "SLURM_PARTITION": "normal",
    }  # fmt: skip
    jacamar = {"SCHEDULER_PARAMETERS": "-N2 -n 8 --time=00:20:00 --partition normal"}
    specs = [ask(Defaults(), each, 0) for each in (typed, slurm, jacamar)]
    assert specs[0] == specs[1] == specs[2]
    spec, remarks = specs[0]
    assert (spec.nodes, spec.tasks, spec.time_limit, spec.partition) == (2, 8, "00:20:00", "normal")
    assert remarks == []


def test_defaults_fill_and_variables_win() -> None:
    defaults = Defaults(account="proj", nodes=1, time="00:30:00", directives=["--no-requeue"])
    spec, _ = ask(defaults, {"SLURM_NNODES": "3", "SLURM_GPUS_PER_NODE": "4", "SLURM_HINT": "nomultithread"}, 0)
    assert (spec.account, spec.nodes, spec.time_limit) == ("proj", 3, "00:30:00")
    assert spec.directives == ("--no-requeue", "--gpus-per-node=4", "--hint=nomultithread")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("10:30", 630), ("01:00:00", 3600), ("1-12", 129600), ("1-12:30", 131400), ("2-01:00:00", 176400)],
)
def test_time_limits_as_sbatch_takes_them(text: str, seconds: int) -> None:
    assert parse_limit(text, "x", longest=None).seconds == seconds


def test_the_trap_is_explained_and_refused_where_it_cannot_be_meant() -> None:
    with pytest.raises(BuildFailureError, match=r"1-06:00:00.*without quotes.*1800"):
        ask(Defaults(), {"SLURM_TIMELIMIT": "1800"}, 3600)
    spec, remarks = ask(Defaults(), {"SLURM_TIMELIMIT": "120"}, 10800)
    assert spec.time_limit == "02:00:00"
    assert 'write "00:02:00"' in remarks[0]
    _, remarks = ask(Defaults(), {"SLURM_TIMELIMIT": "02:00:00"}, 3600)
    assert "Raise `timeout:`" in remarks[0]


@pytest.mark.parametrize(
    "variables",
    [
        {"CRESTLINE_ACCOUNT": "a b"},
        {"CRESTLINE_ACCOUNT": "a\n#SBATCH --uid=0"},
        {"SLURM_CONSTRAINT": "$(id)"},
        {"CRESTLINE_NODES": "-1"},
        {"CRESTLINE_NODES": "9"},
        {"CRESTLINE_PARTITION": "other"},
        {"CRESTLINE_TIME": "05:00:00"},
        {"CRESTLINE_TIME": "soon"},
        {"CRESTLINE_TIME": "00:00:00"},
        {"CRESTLINE_TIME": "0"},
        {"CRESTLINE_TIME": "UNLIMITED"},
        {"SCHEDULER_PARAMETERS": "--uid=0"},
        {"SCHEDULER_PARAMETERS": "--wrap 'id'"},
        {"SCHEDULER_PARAMETERS": "-N 'open"},
        {"SCHEDULER_PARAMETERS": "script.sh"},
        {"SLURM_NTASKS": "1e9"},
    ],
)
def test_what_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(BuildFailureError):
        ask(Defaults(allowed=["partition:normal,debug", "nodes<=8", "time<=04:00:00"]), variables, 0)


def test_invalid_limit_is_refused() -> None:
    with pytest.raises(ConfigError):
        ask(Defaults(allowed=["nodes=8"]), {}, 0)


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "1000", "SLURM_NTASKS_PER_NODE": "1"},
        {"CRESTLINE_TASKS": "17", "CRESTLINE_TASKS_PER_NODE": "2"},
        {"SCHEDULER_PARAMETERS": "-n 100 --ntasks-per-node=10"},
        {"CRESTLINE_NODES": "8", "CRESTLINE_TASKS_PER_NODE": "100"},
    ],
)
def test_limits_count_what_is_implied(variables: dict[str, str]) -> None:
    with pytest.raises(BuildFailureError, match="allowed here"):
        ask(Defaults(allowed=["nodes<=8", "tasks<=500"]), variables, 0)


def test_a_limit_holds_for_what_the_scheduler_would_choose() -> None:
    limited = Defaults(allowed=["nodes<=8", "time<=04:00:00"])
    for variables in ({"SLURM_NTASKS": "1000"}, {"CRESTLINE_GPUS": "64"}, {"SLURM_MEM_PER_CPU": "100G"}):
        spec, _ = ask(limited, variables, 0)
        assert "--nodes=1-8" in spec.directives
        assert spec.time_limit == "04:00:00"
    spec, _ = ask(limited, {"SLURM_NTASKS": "16", "SLURM_NNODES": "2"}, 0)
    assert (spec.nodes, spec.directives) == (2, ())


def test_sbatchs_own_variables_do_not_reach_it() -> None:
    """Unlike `SLURM_*`, they would pass the checks: sbatch reads them from its environment."""
    variables = {f"SBATCH_{name}": "x" for name in ("PARTITION", "ACCOUNT", "QOS", "TIMELIMIT", "EXCLUSIVE")}
    assert ask(Defaults(), variables, 0) == ask(Defaults(), {}, 0)
    assert ask(Defaults(), variables, 0)[0].environment == {}


def test_a_limit_as_long_as_gitlabs_own_is_reached() -> None:
    assert ask(Defaults(), {"SLURM_TIMELIMIT": "01:00:00"}, 3600)[1] == []
