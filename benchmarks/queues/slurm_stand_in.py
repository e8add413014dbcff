"""Programs that answer as Slurm's do, from a table in a file: a queue of any length without a cluster."""

from __future__ import annotations

import time
from pathlib import Path

FIELDS = (
    "JobArrayID", "JobID", "State", "exit_code", "Reason", "Name", "UserName", "GroupName", "Account", "Partition",
    "Cluster", "NumCPUs", "NumNodes", "NodeList", "WorkDir", "PriorityLong", "SubmitTime", "StartTime", "EndTime",
    "TimeUsed", "TimeLimit",
)  # fmt: skip

RUNNING_SHARE = 10
"""One job in so many runs, the others wait."""

_SQUEUE = r"""#!/bin/sh
here=$(dirname "$0")
echo squeue >> "$here/commands"
sleep $(cat "$here/delay")
for word; do
  case $word in
    --Format=*) format=${word#--Format=};;
    --jobs=*) jobs=${word#--jobs=};;
    --user=*) user=${word#--user=};;
  esac
done
exec awk -F '\t' -v format="$format" -v jobs="$jobs" -v user="$user" -v now="$(date +%s)" '
  BEGIN {
    width = split(format, parts, ",")
    for (i = 1; i <= width; i++) {
      colon = index(parts[i], ":")
      names[i] = substr(parts[i], 1, colon - 1)
      marks[i] = substr(parts[i], colon + 1)
    }
    some = split(jobs, ids, ",")
    for (i = 1; i <= some; i++) wanted[ids[i]] = 1
  }
  NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
  (some && !($1 in wanted)) || (user != "" && $(column["UserName"]) != user) { next }
  {
    if ($(column["State"]) == "RUNNING") $(column["TimeUsed"]) = "0:" (now % 60)
    line = ""
    for (i = 1; i <= width; i++) line = line $(column[names[i]]) marks[i]
    print line
  }' "$here/queue"
"""

_OTHER = """#!/bin/sh
echo "${0##*/}" >> "$(dirname "$0")/commands"
[ "${0##*/}" != scontrol ] || printf 'SLURM_VERSION = 24.11.0\\nMinJobAge = 300 sec\\nPrivateData = none\\n'
"""

_SBATCH = r"""#!/bin/sh
here=$(dirname "$0")
echo sbatch >> "$here/commands"
exec 9>> "$here/lock"
flock 9
number=$(($(wc -l < "$here/queue") + 999999))
awk -F '\t' -v OFS='\t' -v id="$number" -v user="$(id -un)" '
  NR == 1 {
    value["JobArrayID"] = value["JobID"] = id; value["State"] = "RUNNING"; value["UserName"] = user
    value["exit_code"] = "0:0"; value["NumNodes"] = value["NumCPUs"] = 1; value["NodeList"] = "nid000001"
    for (i = 1; i <= NF; i++) $i = value[$i]
    print
  }' "$here/queue" > "$here/row"
cat "$here/row" >> "$here/queue"
echo "$number"
"""


class SlurmStandIn:
    """A directory of programs for the setting `directory` of a Slurm system."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        for name in ("squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "sbatch", "scancel"):
            program = directory / name
            program.write_text({"squeue": _SQUEUE, "sbatch": _SBATCH}.get(name, _OTHER))
            program.chmod(0o755)
        self.set_delay(0)
        self.reset_commands()

    def fill(self, jobs: int, users: list[str]) -> list[str]:
        """Queue so many jobs, shared out among the users; returns their ids."""
        now = int(time.time())
        ids = [str(1_000_000 + number) for number in range(jobs)]
        lines = ["\t".join(FIELDS)]
        for number, job_id in enumerate(ids):
            user = users[number % len(users)]
            runs = number % RUNNING_SHARE == 0
            row = {
                "JobArrayID": job_id, "JobID": job_id, "State": "RUNNING" if runs else "PENDING", "exit_code": "0:0",
                "Reason": "None" if runs else "Priority", "Name": f"relax-structure-{number}", "UserName": user,
                "GroupName": "users", "Account": f"project{number % 40}", "Partition": "normal", "Cluster": "alps",
                "NumCPUs": "72", "NumNodes": "1", "NodeList": f"nid{number % 9999:06}" if runs else "",
                "WorkDir": f"/capstor/scratch/{user}/campaign/{number}", "PriorityLong": str(10_000 + number % 500),
                "SubmitTime": str(now - 7200), "StartTime": str(now - 600) if runs else "N/A", "EndTime": "N/A",
                "TimeUsed": "10:00" if runs else "0:00", "TimeLimit": "1-00:00:00",
            }  # fmt: skip
            lines.append("\t".join(row[field] for field in FIELDS))
        (self.directory / "queue").write_text("\n".join(lines) + "\n")
        return ids

    def end(self) -> None:
        """Let all jobs complete."""
        rows = [line.split("\t") for line in (self.directory / "queue").read_text().splitlines()]
        state = FIELDS.index("State")
        lines = ["\t".join([*row[:state], "COMPLETED", *row[state + 1 :]]) for row in rows[1:]]
        (self.directory / "new").write_text("\n".join(["\t".join(rows[0]), *lines]) + "\n")
        (self.directory / "new").rename(self.directory / "queue")

    def set_delay(self, seconds: float) -> None:
        """Let squeue take so long before it answers."""
        (self.directory / "delay").write_text(f"{seconds:g}\n")

    def reset_commands(self) -> None:
        (self.directory / "commands").write_text("")

    def commands(self) -> list[str]:
        """The programs that ran since the last `reset_commands`, oldest first."""
        return (self.directory / "commands").read_text().split()
