"""All settings of the spawner, with the names of batchspawner and firecrestspawner."""

from __future__ import annotations

import socket

from jupyterhub.user import User
from traitlets import Any, Bool, Dict, Enum, Float, HasTraits, Integer, List, Unicode, default

from crestline_jupyterhub.connections import Access
from crestline_jupyterhub.tokens import login_for


class _Text(Unicode):
    """A string, which can be written as a number; None is empty."""

    def validate(self, obj: HasTraits, value: object) -> str | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(int(value) if value == int(value) else value)
        return super().validate(obj, "" if value is None else value)


class SpawnerSettings(HasTraits):
    """Settings as traitlets. Those named `req_*` describe the job."""

    user: User
    """The hub's user. The base class of all spawners sets it."""

    # System

    system = Unicode(
        "",
        config=True,
        help="""`system@site` or `site` of the sites file. Empty: the `FIRECREST_*` variables, else the file's default:
        on the machine of a `crestline serve`, that gateway.""",
    )
    use_user_token = Bool(
        False,
        config=True,
        help="""Act at the gateway as the user, with the tokens of the login at the hub (`enable_auth_state`). Without
        it, all jobs are those of the one identity that `system` names.""",
    )
    service_site = Unicode(
        "",
        config=True,
        help="""With `use_user_token`: `site` of a service account that may see and cancel everybody's jobs. It polls
        for all servers at once, and cancels where a user's login has expired.""",
    )
    hub_name = Unicode(
        config=True,
        help="Names this hub in its jobs' names, so that two hubs on one system can be told apart; default: the host.",
    )

    @default("hub_name")
    def _hub_name(self) -> str:
        return socket.gethostname().split(".")[0]

    workdir = Unicode("", config=True, help="The session's working directory; empty: the user's directory.")
    session_dir = Unicode(
        "",
        config=True,
        help="""Where each session's own folder (program, secrets, log) is made, readable by the user alone.
        Empty: `.crestline/jupyterhub` in the user's directory.""",
    )

    # Connection between hub and server

    connect_mode = Enum(
        ["direct", "relay"],
        "direct",
        config=True,
        help="""`direct`: the hub's proxy connects to a port of the compute node. `relay`: the job dials out to a relay
        (docs/how-to/relay.md), and no port is opened.""",
    )
    relay_url = Unicode("", config=True, help="URL at which jobs reach the relay: `https://gateway.example.org/relay`.")
    relay_ingress = Unicode("", config=True, help="URL at which the hub's proxy reaches it: `http://127.0.0.1:9001`.")
    relay_key_file = Unicode("", config=True, help="File with the key that this hub signs sessions with.")
    relay_ca_file = Unicode("", config=True, help="On the compute nodes: PEM file of the relay's authority.")
    python = Unicode("python3", config=True, help="Runs the session's program inside the job; 3.9 or newer.")

    node_networks = List(
        Unicode(),
        config=True,
        help="""With `direct`: networks in which the compute nodes are, `["10.20.0.0/16"]`. A session that says another
        address is not believed, so that no user can point the hub's proxy at another machine. Empty: private networks,
        and the addresses to which the names of the job's nodes lead; never loopback, link-local, multicast or the hub's
        own addresses. Where hub and jobs share a machine: `["127.0.0.0/8"]`.""",
    )

    # Job

    req_partition = _Text("", config=True, help="Partition (queue).")
    req_queue = _Text("", config=True, help="The same under its PBS name.")
    req_account = _Text("", config=True, help="Account that is charged.")
    req_reservation = _Text("", config=True, help="Advance reservation.")
    req_reservation_custom = _Text("", config=True, help="As req_reservation, which it overrides.")
    req_qos = _Text("", config=True, help="Quality of service.")
    req_constraint = _Text("", config=True, help="Node features: the node type, where sites name it so.")
    req_runtime = _Text("", config=True, help="Time limit, `hh:mm:ss`.")
    req_nnodes = _Text("", config=True, help="Number of nodes.")
    req_ntasks = _Text("", config=True, help="Number of tasks.")
    req_nprocs = _Text(
        "",
        config=True,
        help="CPUs per task, as batchspawner means it. Empty: `cpu_limit`, else `cpu_guarantee`, where one is set.",
    )
    req_memory = _Text(
        "",
        config=True,
        help="Memory per node, with unit. Empty: `mem_limit`, else `mem_guarantee`, where one is set.",
    )
    req_ngpus = _Text("", config=True, help="GPUs.")
    req_gres = _Text("", config=True, help="Generic resources, as `--gres` takes them.")
    req_cluster = _Text("", config=True, help="Cluster of a multi-cluster Slurm.")
    req_host = _Text("", config=True, help="Name of the system, in place of the one that `system` names.")
    req_options = _Text("", config=True, help="Further scheduler options, separated by white space.")
    req_submitenv = Dict(config=True, help="Environment of the job, not of the server alone.")
    req_uenv = _Text("", config=True, help="User environment, as `--uenv` takes it.")
    req_uenv_view = _Text("", config=True, help="View of the user environment, as `--view` takes it.")
    req_srun = _Text("", config=True, help="Command in front of the session: `srun`.")
    req_prologue = _Text("", config=True, help="Shell lines before the server: module load, source venv/bin/activate.")
    req_epilogue = _Text("", config=True, help="Shell lines after it.")
    req_keepvars = _Text(
        "", config=True, help="For templates; empty: `ALL`. The server's environment travels in a private file."
    )
    req_keepvars_extra = _Text("", config=True, help="As req_keepvars.")
    req_homedir = _Text("", config=True, help="As workdir, which it stands for where that is empty.")
    req_username = _Text(config=True, help="The user's name, for templates.")

    @default("req_username")
    def _req_username(self) -> str:
        return str(self.user.name)

    batch_script = Unicode(
        "",
        config=True,
        help="""Template of the batch script, in Jinja2 or with `{field}`: the `req_*` values without their prefix,
        `cmd` (the session's command line) and `spawner_name`. Jinja2 templates are sandboxed and have the filter
        `quote`. Empty: made of the `req_*` values.""",
    )
    modify_job_hook = Any(
        None,
        allow_none=True,
        config=True,
        help="`hook(spawner, spec) -> crestline.model.JobSpec`, may be async: a last change before it is submitted.",
    )
    after_submit_hook = Any(
        None, allow_none=True, config=True, help="`hook(spawner, job)`, may be async: after the job was submitted."
    )
    server_args = List(Unicode(), config=True, help="Further arguments of the single-user server.")

    # Time limits

    cancel_patience = Float(
        30.0, config=True, help="Seconds that a stop waits for the gateway before it goes on alone."
    )
    keep_log = Bool(True, config=True, help="Whether a session's log stays on the system when it has ended.")
    warn_before_end = Integer(
        600, config=True, help="Seconds before the job's time limit at which JupyterLab tells the user of it."
    )
    start_timeout = Integer(
        3600, config=True, help="Seconds until a start is given up; the time in the scheduler's queue counts."
    )
    http_timeout = Integer(
        120, config=True, help="Seconds until a server whose job has called back must answer requests."
    )

    def access(self) -> Access:
        """Return the system as configured now, with the identities that can act on it. Later changes of settings
        have no effect."""
        login = login_for(self.user) if self.use_user_token else None
        return Access(target=self.system, host=self.req_host, login=login, service_site=self.service_site)
