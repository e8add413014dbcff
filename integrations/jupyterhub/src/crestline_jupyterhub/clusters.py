"""Dask and IPyParallel clusters that start with a session, on all nodes of its job.

The shell lines run before the session. They start the scheduler or controller on the first node, and the workers or
engines as tasks of the job by `srun` (with MPI by `mpiexec` if `srun` does not support it). Other users of the nodes
cannot use the cluster: Dask uses TLS with a certificate for this session only, and IPyParallel encrypts by CurveZMQ and
signs. All their files are in the session's folder, which is closed to other users.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from crestline.model import InvalidRequestError


@dataclass(frozen=True, kw_only=True)
class Dask:
    """The fields of `clusters = {"dask": {...}}`: a distributed Dask cluster for the session.

    Example: `{"dask": {"workers_per_node": 4, "interface": "hsn0"}}`.
    """

    workers_per_node: int = 1
    threads_per_worker: int = 0
    """Threads of a worker; 0: the node's CPUs, divided among its workers."""
    interface: str = ""
    """Network interface of the nodes (`hsn0`); empty: that of the default route."""

    def lines(self, wrapper: str) -> list[str]:
        """Return the shell lines that start the cluster."""
        interface = f" --interface {shlex.quote(self.interface)}" if self.interface else ""
        workers = max(self.workers_per_node, 1)
        threads = str(self.threads_per_worker or f"$(( ($CPUS + {workers - 1}) / {workers} ))")
        return [
            "openssl req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=crestline"
            ' -keyout "$CLUSTERS/dask.key" -out "$CLUSTERS/dask.crt" 2>"$CLUSTERS/openssl.log"',
            'export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$CLUSTERS/dask.crt"',
            *(
                line
                for role in ("SCHEDULER", "WORKER", "CLIENT")
                for line in (
                    f'export DASK_DISTRIBUTED__COMM__TLS__{role}__KEY="$CLUSTERS/dask.key"',
                    f'export DASK_DISTRIBUTED__COMM__TLS__{role}__CERT="$CLUSTERS/dask.crt"',
                )
            ),
            "export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True",
            'export DASK_SCHEDULER_FILE="$CLUSTERS/dask.json"',
            'export DASK_DISTRIBUTED__DASHBOARD__LINK="{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"',
            'rm -f "$DASK_SCHEDULER_FILE"',
            f"{wrapper}dask scheduler --protocol tls --port 0{interface} --dashboard-address 127.0.0.1:0"
            ' --scheduler-file "$DASK_SCHEDULER_FILE" >"$CLUSTERS/dask-scheduler.log" 2>&1 &',
            f"on_every_node {wrapper}dask worker --protocol tls{interface} --nworkers {workers}"
            f" --nthreads {threads} --no-dashboard --local-directory"
            ' "${TMPDIR:-/tmp}" --scheduler-file "$DASK_SCHEDULER_FILE" >"$CLUSTERS/dask-workers.log" 2>&1 &',
        ]


@dataclass(frozen=True, kw_only=True)
class IPyParallel:
    """The fields of `clusters = {"ipyparallel": {...}}`: an IPyParallel cluster for the session.

    Example: `{"ipyparallel": {"engines": 8, "mpi": True}}`.
    """

    engines: int = 0
    """Number of engines; 0: one for each task of the job, or for each CPU if it has one task."""
    mpi: bool = False
    """Whether the engines are the ranks of one MPI program. They can use mpi4py if it is installed."""
    launcher: str = ""
    """Command that starts these ranks (`srun --mpi=pmix`, `mpiexec`), followed by `-n NUMBER`; empty: Slurm's srun,
    otherwise mpiexec."""

    def lines(self, wrapper: str) -> list[str]:
        """Return the shell lines that start the cluster."""
        engine = f'{wrapper}ipengine --file="$CLUSTERS/ipyparallel/security/ipcontroller-engine.json" --timeout=120'
        engine += " $MPI" if self.mpi else ""
        start = "as_ranks" if self.mpi else "as_tasks"
        return [
            f"ENGINES={self.engines or '$TASKS'}",
            f"MPI_LAUNCHER={shlex.quote(self.launcher)}",
            f"MPI=$({wrapper}python3 -c 'import mpi4py' && echo --mpi)" if self.mpi else "MPI=",
            "export IPP_ENABLE_CURVE=1",
            'export IPP_PROFILE_DIR="$CLUSTERS/ipyparallel"',
            'rm -rf "$IPP_PROFILE_DIR"',
            f'{wrapper}ipcontroller --profile-dir="$IPP_PROFILE_DIR" --ip="*" --location="$(hostname)" --nodb'
            ' >"$CLUSTERS/ipcontroller.log" 2>&1 &',
            f'{{ until [ -s "$IPP_PROFILE_DIR/security/ipcontroller-engine.json" ]; do sleep 0.2; done; '
            f'{start} "$ENGINES" {engine}; }} >"$CLUSTERS/ipengines.log" 2>&1 &',
        ]


KINDS = {"dask": Dask, "ipyparallel": IPyParallel}

_COMMON = """\
mkdir -p -m 700 "$CLUSTERS"
umask 077
CPUS=${SLURM_CPUS_ON_NODE:-$(nproc)}
TASKS=${SLURM_NTASKS:-1}
[ "$TASKS" -gt 1 ] || TASKS=$CPUS
on_every_node() {
  if command -v srun >/dev/null; then
    srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --cpus-per-task="$CPUS" "$@"
  else
    "$@"
  fi
}
as_tasks() {
  local count=$1 number
  shift
  if command -v srun >/dev/null; then
    srun --overlap --overcommit --ntasks="$count" "$@"
  else
    for ((number = 0; number < count; number++)); do "$@" & done
    wait
  fi
}
as_ranks() {
  local count=$1
  shift
  if [ -n "$MPI_LAUNCHER" ]; then
    $MPI_LAUNCHER -n "$count" "$@"
  elif [ -z "${CRESTLINE_JOB:-}" ] && command -v srun >/dev/null; then
    as_tasks "$count" "$@"
  else
    mpiexec -n "$count" "$@"  # the local scheduler's srun knows no MPI
  fi
}"""


def lines(clusters: Mapping[str, Mapping[str, Any]], folder: str, wrapper: list[str]) -> list[str]:
    """Return the shell lines that start the clusters.

    Args:
        clusters: the setting `clusters`: `dask`, `ipyparallel`, each with its fields.
        folder: the session's folder on the system.
        wrapper: prefix of each command.

    Raises:
        InvalidRequestError: unknown cluster or field.
    """
    if not clusters:
        return []
    chosen = [_cluster(kind, settings) for kind, settings in clusters.items()]
    front = "".join(f"{shlex.quote(word)} " for word in wrapper)
    found = [f"CLUSTERS={shlex.quote(folder + '/clusters')}", *_COMMON.splitlines()]
    for cluster in chosen:
        found += cluster.lines(front)
    return found


def closing_lines(clusters: Mapping[str, Any]) -> list[str]:
    """Return the shell lines that end the clusters with the session."""
    return ["kill $(jobs -p) 2>/dev/null || true"] if clusters else []


def _cluster(kind: str, settings: Mapping[str, Any]) -> Dask | IPyParallel:
    if kind not in KINDS:
        raise InvalidRequestError(f"Unknown cluster {kind!r}.", hint=f"Choose of: {', '.join(KINDS)}.")
    types = {each.name: each.type for each in fields(KINDS[kind])}
    for name, value in settings.items():
        if types.get(name) != type(value).__name__ or (isinstance(value, str) and not value.isprintable()):
            raise InvalidRequestError(
                f"clusters: {kind} cannot have {name}={value!r}.",
                hint="Its fields: " + ", ".join(f"{each} ({kind})" for each, kind in types.items()) + ".",
            )
        if type(value) is int and value < 0:
            raise InvalidRequestError(f"clusters: {name} is {value}.", hint="Give a number of at least 0.")
    return KINDS[kind](**settings)
