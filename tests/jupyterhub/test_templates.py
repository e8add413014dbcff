"""The batch job made of settings: migrated templates, typed resources, software."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.model import InvalidRequestError, JobSpec
from crestline.model.script import render_directives
from crestline_jupyterhub import FirecRESTSpawner
from crestline_jupyterhub.software import software
from crestline_jupyterhub.template import fill

BATCHSPAWNER = """#!/bin/bash
#SBATCH --job-name=jupyter
#SBATCH --chdir={{homedir}}
#SBATCH --export={{keepvars}}
{% if partition %}#SBATCH --partition={{partition}}
{% endif %}{% if runtime %}#SBATCH --time={{runtime}}
{% endif %}{% if memory %}#SBATCH --mem={{memory}}
{% endif %}{% if gres %}#SBATCH --gres={{gres}}
{% endif %}{% if nprocs %}#SBATCH --cpus-per-task={{nprocs}}
{% endif %}{% if reservation %}#SBATCH --reservation={{reservation}}
{% endif %}{% if options %}#SBATCH {{options}}
{% endif %}
{{prologue}}
{% if srun %}{{srun}} {% endif %}{{cmd}}
{{epilogue}}
"""
FIRECRESTSPAWNER = """#!/bin/bash
#SBATCH --job-name=jupyter-{{username}}
{% if account %}#SBATCH --account={{account}}
{% endif %}{% if constraint %}#SBATCH --constraint={{constraint}}
{% endif %}{% if nnodes %}#SBATCH --nodes={{nnodes[0]}}
{% endif %}{% if uenv %}#SBATCH --uenv={{uenv}}
{% endif %}{% if uenv_view %}#SBATCH --view={{uenv_view}}
{% endif %}{% if cluster %}#SBATCH --clusters={{cluster}}
{% endif %}{% if qos %}#SBATCH --qos={{qos}}
{% endif %}{% if queue %}#SBATCH --partition={{queue}}
{% endif %}# {{host}} {{ngpus}} {{reservation_custom}} {{spawner_name}}
{{cmd}}
"""
PBS = """#!/bin/sh
#PBS -q {queue}@{host}
#PBS -l walltime={runtime}
{prologue}
{cmd}
"""
NAMES = """queue host memory nprocs nnodes ngpus runtime partition account options prologue epilogue keepvars
    keepvars_extra cluster qos srun reservation reservation_custom gres submitenv constraint uenv uenv_view username
    homedir""".split()


def spawner(**settings: Any) -> FirecRESTSpawner:
    """One without a hub."""
    user = SimpleNamespace(name=settings.pop("user", "alice"), settings={}, url="/user/alice/")
    made = FirecRESTSpawner(hub_name="test", **settings)
    made.user = user
    made.attempt = "0123456789ab"
    return made


def spec(**settings: Any) -> JobSpec:
    return spawner(**settings).job_spec("/home/a b/.crestline/one", "/home/a b")


def directives(text: str | None) -> list[str]:
    return [line for line in str(text).splitlines() if line.startswith(("#SBATCH", "#PBS"))]


def test_every_name_of_batchspawner_and_firecrestspawner_is_a_setting() -> None:
    assert [name for name in NAMES if not spawner().has_trait(f"req_{name}")] == []


def test_templates_of_batchspawner_go_on_working() -> None:
    script = spec(
        batch_script=BATCHSPAWNER, req_partition="debug", req_runtime="1:00:00", req_srun="srun", req_nprocs="4"
    ).script
    assert directives(script)[1:] == [
        "#SBATCH --chdir=/home/a b",
        "#SBATCH --export=ALL",
        "#SBATCH --partition=debug",
        "#SBATCH --time=1:00:00",
        "#SBATCH --cpus-per-task=4",
    ]
    assert str(script).count("srun ") == 1
    assert "srun python3 '/home/a b/.crestline/one/session.pyz'" in str(script)


def test_templates_of_firecrestspawner_go_on_working() -> None:
    script = spec(batch_script=FIRECRESTSPAWNER, req_account="csstaff", req_nnodes="2", req_uenv="app/1.0").script
    assert directives(script) == [
        "#SBATCH --job-name=jupyter-alice",
        "#SBATCH --account=csstaff",
        "#SBATCH --nodes=2",
        "#SBATCH --uenv=app/1.0",
    ]


def test_templates_of_plain_fields_go_on_working() -> None:
    script = spec(batch_script=PBS, req_queue="work", req_host="pbs", req_runtime="1:00", req_prologue="a\nb").script
    assert directives(script) == ["#PBS -q work@pbs", "#PBS -l walltime=1:00"]
    assert "\na\nb\npython3 " in str(script)


@pytest.mark.parametrize(
    "template",
    [
        "{{ cmd.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}",
        "{{ nothing_of_this_name }}",
        "{% if %}",
        "{cmd.__class__}",
        "{cmd[0]}",
        "{nothing}",
        "{0}",
        "{",
    ],
)
def test_a_template_cannot_reach_the_hub(template: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be filled"):
        fill(template, {"cmd": "x"})


def test_template_has_a_filter_for_the_shell() -> None:
    assert fill("{{ x | quote }}", {"x": "a'; id"}) == shlex.quote("a'; id")


def test_a_users_name_is_quoted() -> None:
    script = spec(user="a$(id)", batch_script="#!/bin/sh\ncd /home/{{username}}\n").script
    assert script == "#!/bin/sh\ncd /home/'a$(id)'\n"


FIELDS = ["partition", "account", "reservation", "runtime", "memory", "ngpus", "constraint", "qos", "gres", "cluster"]
FIELDS += ["uenv", "uenv_view", "nnodes", "ntasks", "nprocs"]


@given(st.sampled_from(FIELDS), st.text(min_size=1))
def test_no_value_adds_a_line_or_an_option(field: str, value: str) -> None:
    try:
        job = spec(**{f"req_{field}": value})
    except InvalidRequestError:
        return
    assert job.script == spec().script
    lines = render_directives(job)
    assert len(lines) <= 1
    assert all(len(line.splitlines()) == 1 and len(line.split()) == 2 for line in lines)


@given(st.sampled_from(["partition", "account", "options", "srun", "gres"]), st.text(min_size=1))
def test_no_value_adds_a_line_to_a_template(field: str, value: str) -> None:
    template = f"#!/bin/sh\n# {{{{ {field} }}}}\n"
    try:
        script = spec(batch_script=template, **{f"req_{field}": value}).script
    except InvalidRequestError:
        assert not value.isprintable()
        return
    assert len(str(script).splitlines()) == 2


def test_software_is_typed_and_quoted() -> None:
    chosen = {
        "modules": ["cray", "a; id"],
        "module_paths": ["/apps"],
        "venv": "/home/alice/my env/",
        "variables": {"OMP_NUM_THREADS": "$(id)"},
        "uenv": "app/1.0:v1",
        "view": "default",
    }
    job = spec(software=chosen)
    lines = str(job.script).splitlines()
    assert lines[:6] == [
        "#!/bin/bash",
        "module use /apps",
        "module load cray",
        "module load 'a; id'",
        ". '/home/alice/my env/bin/activate'",
        "export OMP_NUM_THREADS='$(id)'",
    ]
    assert lines[6].startswith("python3 ")
    assert job.directives == ("--uenv=app/1.0:v1", "--view=default")


def test_a_session_in_a_container_has_the_whole_command_in_it() -> None:
    job = spec(software={"container": "/apps/lab.sif"}, req_srun="srun", clusters={"dask": {}})
    assert "\nsrun apptainer exec /apps/lab.sif python3 " in str(job.script)
    assert "\napptainer exec /apps/lab.sif dask scheduler " in str(job.script)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "x"},
        {"modules": "x"},
        {"modules": ["a\nb"]},
        {"venv": ["x"]},
        {"variables": {"A B": "x"}},
        {"variables": {"A": ["x"]}},
    ],
)
def test_wrong_software_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"software|environment variable"):
        software(wrong)
