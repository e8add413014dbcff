"""Submit, look, cancel and look back: the same words on all three kinds of systems."""

from __future__ import annotations

import json

from harness.slurm_commands import SlurmCommands


def test_a_job_from_submission_to_its_end(anywhere: SlurmCommands) -> None:
    said = anywhere("sbatch", "-J", "held back", "-H", "--wrap", "true") if _is_gateway(anywhere) else ""
    assert said.startswith("Submitted batch job ") or not said
    if said:
        held = said.split()[-1]
        assert anywhere("squeue", "-h", "-j", held, "-o", "%i|%j|%T|%t|%R") == (
            f"{held}|held back|PENDING|PD|(JobHeldUser)\n"
        )
        anywhere("scancel", held)
    job = anywhere("sbatch", "--parsable", "-J", "naïve"[:2] + "ive", "--wrap", "sleep 600").strip()
    assert job.isdigit()
    states = {"PENDING", "CONFIGURING", "RUNNING"}
    assert anywhere("squeue", "-h", "-j", job, "-o", "%T").strip() in states
    listed = anywhere("squeue", "--me", "--noheader", "--format=%A %.12j").splitlines()
    assert f"{job} {'naive':>12}" in listed
    anywhere("scancel", job)
    code = anywhere.run("sbatch", "-W", "--parsable", "--wrap", "exit 7")
    assert code.returncode == 7
    failed = code.stdout.strip()
    row = anywhere("sacct", "-X", "-n", "-P", "-j", failed, "-o", "JobID,State,ExitCode,JobName")
    assert row == f"{failed}|FAILED|7:0|wrap\n"
    assert job not in anywhere("squeue", "-h", "--me", "-o", "%A", "-t", "R,PD").split()
    assert anywhere("sacct", "-X", "-n", "-P", "-j", job, "-o", "State").startswith("CANCELLED")


def test_one_command_by_srun(anywhere: SlurmCommands) -> None:
    done = anywhere.run("srun", "-t", "5", "sh", "-c", 'echo "it\'s $1"; echo wrong >&2; exit 3', "-", "me")
    assert (done.returncode, done.stdout) == (3, "it's me\n")
    assert "wrong\n" in done.stderr
    assert "with exit code 3" in done.stderr


def test_what_scontrol_shows(anywhere: SlurmCommands) -> None:
    job = anywhere("sbatch", "--parsable", "-W", "-J", "shown", "--wrap", "true").strip()
    shown = anywhere("scontrol", "-o", "show", "job", job)
    assert f"JobId={job} JobName=shown " in shown
    assert " JobState=COMPLETED " in shown
    (document,) = json.loads(anywhere("squeue", "-t", "all", "-j", job, "--json"))["jobs"]
    assert (document["job_id"], document["job_state"], document["name"]) == (int(job), ["COMPLETED"], "shown")
    assert anywhere("scontrol", "show", "partition").startswith("PartitionName=")
    assert anywhere("scontrol", "show", "node").startswith("NodeName=")
    assert "MinJobAge" in anywhere("scontrol", "show", "config")
    assert anywhere("scontrol", "ping").endswith(" is UP\n")


def test_a_script_with_arguments_from_a_file_and_from_stdin(anywhere: SlurmCommands) -> None:
    script = "#!/bin/bash\n#SBATCH --job-name=named\n#SBATCH --time=5\n[ \"$1-$2\" = 'a b-c' ] && exit 0\nexit 9\n"
    (anywhere.place / "job.sh").write_text(script)
    assert anywhere("sbatch", "-W", "job.sh", "a b", "c").startswith("Submitted batch job ")
    done = anywhere.run("sbatch", "--wait", "--parsable", stdin=script)
    assert done.returncode == 9
    job = done.stdout.strip()
    assert anywhere("sacct", "-nPX", "-j", job, "--format=jobname,timelimit") == "named|00:05:00\n"


def test_unknown_jobs_and_wrong_words(anywhere: SlurmCommands) -> None:
    assert "Invalid job id abc" in anywhere.refused("scancel", "abc")
    assert "No job identification provided" in anywhere.refused("scancel")
    assert "does not look like a batch script" in anywhere.refused("sbatch", stdin="echo hello\n")
    assert "Batch script is empty!" in anywhere.refused("sbatch")
    assert anywhere.refused("sbatch", "nowhere.sh") == "sbatch: error: Unable to open file nowhere.sh\n"
    assert "unrecognized option '--bogus'" in anywhere.refused("sbatch", "--bogus", code=255)
    assert "unrecognized option '--bogus'" in anywhere.refused("squeue", "--bogus")
    assert "Invalid job state specified: gone" in anywhere.refused("squeue", "-t", "gone")
    assert 'Invalid field requested: "colour"' in anywhere.refused("sacct", "-o", "colour")
    assert "cannot send signal USR1" in anywhere.refused("scancel", "-s", "USR1", "1")
    assert anywhere("sacct", "-n", "-j", "987654321") == ""


def test_unknown_id_in_the_queue(local: SlurmCommands) -> None:
    assert local.refused("squeue", "-j", "987654") == "slurm_load_jobs error: Invalid job id specified\n"
    assert local("scancel", "987654") == ""  # as with Slurm's own: it does not run
    assert "Kill job error on job id 987654: Invalid job id specified" in local.run("scancel", "-v", "987654").stderr


def test_nodes_and_partitions(anywhere: SlurmCommands) -> None:
    heads, *rows = anywhere("sinfo").splitlines()
    assert heads.split() == ["PARTITION", "AVAIL", "TIMELIMIT", "NODES", "STATE", "NODELIST"]
    assert rows
    assert all(row.split()[1] == "up" for row in rows)
    assert any(row.split()[0].endswith("*") for row in rows) == _is_gateway(anywhere)
    assert all((row.split()[2] != "n/a") == _is_gateway(anywhere) for row in rows)
    busy, nodes, cpus = anywhere("sinfo", "-aho", "%A %D %C").split()
    assert int(nodes) >= 1
    assert len(busy.split("/")) == 2
    assert int(cpus.split("/")[3]) >= 1


def _is_gateway(commands: SlurmCommands) -> bool:
    return commands.sites_file.exists()
