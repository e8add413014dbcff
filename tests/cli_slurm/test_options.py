"""Options of sbatch and scancel, and where they arrive."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from crestline.cli.slurm.accounting_fields import FIELDS
from crestline.cli.slurm.layout import long_format, short_format
from crestline.cli.slurm.queue_fields import LONG, SHORT
from crestline.model import Job, JobState
from harness.gateway import RunningGateway
from harness.slurm_commands import BIN, SlurmCommands


def test_every_option_reaches_the_job(local: SlurmCommands, gateway: RunningGateway) -> None:
    (local.place / "job.sh").write_text("#!/bin/bash\n#SBATCH -J inside -t 99 --mem=1G\necho $1\n")
    words = ["-H", "-J", "outside", "-p", "normal", "-t", "10", "-N1", "-n", "2", "-c1", "--mem", "100M", "--nice"]
    words += ["-o", "out-%j", "--error=err-%j", "-D", str(local.place), "--comment", "two words", "--mail-type=END"]
    words += ["--no-requeue", "--ntasks-per-n=2", "--export=ONE=1,a,TWO=2 3", "--parsable", "job.sh", "it's", "-x"]
    job = local("sbatch", *words).strip()
    layout = "%j|%P|%T|%l|%C|%D|%Z"
    assert local("squeue", "-h", "-j", job, "-o", layout) == f"outside|normal|PENDING|10:00|2|1|{local.place}\n"
    with gateway.http() as http:
        (shown,) = http.get(f"/compute/{gateway.system}/jobs/{job}/metadata").json()["jobs"]
    assert shown["standardOutput"] == f"{local.place}/out-{job}"
    assert shown["standardError"] == f"{local.place}/err-{job}"
    script = shown["script"].splitlines()
    for line in ("--comment='two words'", "--nodes=1", "--ntasks=2", "--mem=100M", "--ntasks-per-node=2", "--hold"):
        assert f"#SBATCH {line}" in script
    assert "set -- 'it'\"'\"'s' -x" in script
    assert not any("export" in line or "chdir" in line for line in script if line.startswith("#SBATCH"))
    local("scancel", job)


def test_the_environment_is_what_export_names(local: SlurmCommands) -> None:
    show = "env | grep -E '^(SECRET|NAMED|GIVEN)=' | sort"
    variables = {"SECRET": "not to be told", "NAMED": "by, name"}
    local("sbatch", "-W", "-o", "all", "--wrap", show, **variables)
    local("sbatch", "-W", "-o", "some", "--export=NAMED,GIVEN=a=b", "--wrap", show, **variables)
    local("sbatch", "-W", "-o", "none", "--wrap", show, SBATCH_EXPORT="NONE", **variables)
    assert (local.place / "all").read_text() == ""
    assert (local.place / "some").read_text() == "GIVEN=a=b\nNAMED=by, name\n"
    assert (local.place / "none").read_text() == ""


def test_variables_stand_for_options(local: SlurmCommands) -> None:
    job = local("sbatch", "--parsable", "-H", "--wrap", "true", SBATCH_JOB_NAME="named", SBATCH_TIMELIMIT="7").strip()
    assert local("squeue", "-h", "-j", job, SQUEUE_FORMAT="%j %l") == "named 7:00\n"
    assert local("sacct", "-nPX", "-j", job, SACCT_FORMAT="jobname,state") == "named|PENDING\n"
    assert local("squeue", "-h", "-j", job, "-o", "%i", SLURM_CLUSTERS="laptop") == f"{job}\n"
    local("scancel", job)


def test_variables_narrow_what_is_cancelled(local: SlurmCommands) -> None:
    kept, ended = (local("sbatch", "--parsable", "-H", "-J", name, "--wrap", "true").strip() for name in ("a1", "b1"))
    local("scancel", "--me", SCANCEL_NAME="b1")
    assert local("squeue", "-h", "-j", f"{kept},{ended}", "-o", "%i").split() == [kept]
    local("scancel", "-n", "a1", SCANCEL_NAME="b1")
    assert local("squeue", "-h", "-j", f"{kept},{ended}", "-o", "%i") == ""


def test_srun_inside_a_job_is_the_nodes_own(local: SlurmCommands, tmp_path: Path) -> None:
    links = local.link(tmp_path / "names")
    job = local("sbatch", "-W", "--parsable", "-n", "2", "-o", "out", "--wrap",
                f"PATH={links}:$PATH; srun sh -c 'echo $SLURM_PROCID'").strip()  # fmt: skip
    assert sorted((local.place / "out").read_text().split()) == ["0", "1"], job
    assert "PATH has none" in local.run("srun", "true", SLURM_JOB_ID="1").stderr


def test_srun_cancels_its_job_when_it_is_ended(local: SlurmCommands) -> None:
    started = subprocess.Popen(
        [BIN / "crestline-srun", "-J", "ended", "sh", "-c", "echo begun; sleep 600"],
        env=local.environment, cwd=local.place, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    assert started.stdout.readline() == "begun\n"
    started.terminate()
    assert started.wait(60) == 128 + signal.SIGTERM
    assert local("squeue", "-h", "-n", "ended", "-o", "%T") == ""


def test_hold_and_release(local: SlurmCommands) -> None:
    waits = local("sbatch", "--parsable", "-b", "now+1hour", "-J", "waits", "--wrap", "true").strip()
    first = local("sbatch", "--parsable", "-H", "--wrap", "true").strip()
    local("scontrol", "hold", waits)
    assert local("squeue", "-h", "-j", waits, "-o", "%r").strip() == "JobHeldUser"
    local("scontrol", "release", f"{waits},{first}")
    assert local("squeue", "-h", "-j", waits, "-o", "%r").strip() != "JobHeldUser"
    local("scancel", waits)
    assert "Invalid job id specified for job 987654" in local.refused("scontrol", "release", "987654")
    assert "Only jobs that wait can be held" in local.refused("scontrol", "hold", waits)
    assert "too few arguments" in local.refused("scontrol", "hold")


def test_a_dependency_and_an_array(local: SlurmCommands) -> None:
    first = local("sbatch", "--parsable", "-H", "-J", "chain", "--wrap", "true").strip()
    array = local(
        "sbatch", "--parsable", "-J", "chain", "-a", "1-4%2", "-d", f"afterok:{first}", "--wrap", "true"
    ).strip()
    local("scancel", f"{array}_[1,3]")
    left = set(local("squeue", "-h", "-r", "-j", array, "-o", "%i", "-t", "PD").split())
    assert left in ({f"{array}_2", f"{array}_4"}, {f"{array}_[2,4%2]"}, {f"{array}_[2,4]"})
    local("scancel", "-n", "chain", "-t", "PENDING", "--me")
    assert local("squeue", "-h", "-n", "chain", "-o", "%i") == ""
    assert local("scancel", "-n", "chain", "-u", "somebody") == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sbatch", "--test-only", "--wrap", "true"], "--test-only cannot be served"),
        (["sbatch", "--uid=0", "--wrap", "true"], "--uid cannot be served: jobs run as the signed-in user"),
        (["squeue", "--licenses=a"], "--licenses cannot be served"),
        (["scancel", "--qos=a"], "--qos cannot be served"),
        (["sacct", "--qos=a"], "--qos cannot be served"),
        (["sbatch", "--wrap", "true", "script"], "Script arguments not permitted with --wrap"),
        (["sacct", "-S", "yesterday-ish"], "Invalid time specification: yesterday-ish"),
        (["squeue", "-o", "%$i %@"], ""),
        (["scancel", "--batch", "1"], "the API sends none"),
        (["salloc", "-n", "1"], "hands out no allocation"),
        (["srun", "--pty", "bash"], "--pty cannot be served: the API carries no terminal"),
        (["srun"], "No command given to execute"),
        (["scontrol", "suspend", "1"], "The API cannot suspend jobs"),
        (["scontrol", "update", "jobid=1", "timelimit=5"], "cancel it and submit it again with the other options"),
        (["scontrol", "reconfigure"], "Ask the operators of the system"),
        (["scontrol", "show", "licenses"], "'show licenses' cannot be served"),
        (["squeue", "--json=v0.0.37"], "Unknown data_parser 'v0.0.37'"),
        (["sacctmgr", "add", "user", "me"], "Ask the operators of the system"),
        (["sacctmgr", "show", "qos"], "'show qos' cannot be served"),
        (["sprio", "--weights"], "--weights cannot be served"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", " ".join(value))[:30] if isinstance(value, list) else "",
)
def test_what_cannot_be_served_is_refused(local: SlurmCommands, words: list[str], said: str) -> None:
    if said:
        assert said in local.refused(words[0], *words[1:])
    else:
        assert local(words[0], *words[1:]).startswith("%$i %@")


def test_sacct_adds_up_repeated_options(local: SlurmCommands) -> None:
    first, second, third = (local("sbatch", "--parsable", "-H", "--wrap", "true").strip() for _ in range(3))
    assert local("sacct", "-n", "-P", "-o", "jobid", "-j", first, "-j", second).split() == [first, second]
    shown = local("sacct", "-n", "-P", "-o", "jobid", f"--jobs={first},{third}", "-j", second).split()
    assert set(shown) == {first, second, third}
    local("scancel", first, second, third)


def test_a_script_in_another_encoding_is_named(local: SlurmCommands) -> None:
    (local.place / "latin.sh").write_bytes(b"#!/bin/sh\n# gr\xfc\xdf\ntrue\n")
    assert "is not UTF-8" in local.refused("sbatch", "latin.sh")
    (local.place / "marked.sh").write_text("\ufeff#!/bin/sh\ntrue\n")
    assert local("sbatch", "--parsable", "-H", "marked.sh").strip()


def test_all_clusters(local: SlurmCommands, gateway: RunningGateway) -> None:
    job = local("sbatch", "--parsable", "-H", "--wrap", "true", "-M", "all").strip().split(";")[0]
    queue = ["squeue", "-h", "-j", job, "-o", "%i"]
    accounting = ["sacct", "-X", "-P", "--format=JobIdRaw", "-j", job, "--noheader"]
    assert local(*queue, "-M", "all").split() == [job]
    assert local(*accounting, "--clusters", "all").split() == [job]
    assert local(*accounting, "--clusters", "laptop,").split() == [job]
    assert local("sinfo", "-M", "all").startswith("CLUSTER: local\n")

    local.add_site("second", gateway.url, gateway.token_url, gateway.client, gateway.system)
    assert local(*queue, "-M", "all").split() == [job, job]
    assert local(*accounting, "-L").split() == [job, job]
    shown = local("squeue", "-j", job, "-o", "%i", CRESTLINE_SITE="second").splitlines()
    assert shown == ["JOBID", job]
    shown = local("squeue", "-j", job, "-o", "%i", "-M", "laptop,second").splitlines()
    assert shown == ["CLUSTER: local", "JOBID", job, "", "CLUSTER: local", "JOBID", job]
    assert "may have the same id" in local.refused("scancel", "-M", "all", job)
    assert local("squeue", "-h", "-j", job, "-o", "%T", "-M", "all", CRESTLINE_SITE="second").split() == ["PENDING"]
    local("scancel", "-M", "all", job, CRESTLINE_SITE="second")


def test_a_cluster_that_is_gone_is_named_among_others(local: SlurmCommands, gateway: RunningGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    local.add_site("gone", url, f"{url}/oauth2/token", ("a", "b"), "there")
    done = local.run("sinfo", "-h", "-o", "%P", "-M", "gone,laptop")
    assert done.returncode == 1
    assert "sinfo: error: cluster gone: " in done.stderr
    assert done.stdout.strip() == "normal*"


@pytest.mark.parametrize("said", ["ReqNodeNotAvail, UnavailableNodes:n[1-3]", "Job held by\nalice\ton Mon", ""])
def test_a_reason_is_one_word(said: str) -> None:
    """Programs read the columns by the blanks between them."""
    job = Job(job_id="12", state=JobState.PENDING, raw_state="PENDING", reason=said)
    (plain,) = short_format("squeue", "%r", SHORT)
    (shown,) = short_format("squeue", "%R", SHORT)
    (long,) = long_format("squeue", "Reason:60", LONG)
    for text in (plain.cell(job), shown.cell(job).strip("()"), long.cell(job), FIELDS["reason"].text(job)):
        assert text.strip() == ("_".join(said.split()) or "None")
        assert len(text.split()) == 1
