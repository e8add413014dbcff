"""A stand-in for a plain FirecREST v2 server with its defects, in front of a scheduler that runs the jobs.

It imports neither Crestline's client nor its gateway, so it can test any client of FirecREST. Its answers were
recorded from, or measured on, a real FirecREST with a real Slurm. `shapes/` contains the recorded bodies.

    from crestline.testing.firecrest import running

    with running(version="2.6.0", cpus_per_node=1) as plain:
        auth = firecrest.ClientCredentialsAuth(plain.client_id, plain.client_secret, plain.token_url)
        client = firecrest.v2.Firecrest(plain.url, auth)
        plain.faults.stale_pending = 3  # a switch: each new job appears pending for 3 s after its start
        plain.faults.fail(408, "/jobs$", "POST", when="after")  # a rule: the job is accepted, the answer is an error
        plain.down(seconds=2)  # an outage, during which jobs continue
        plain.scheduler.requeue(job_id)  # an action of an administrator
        assert plain.count("GET", "/compute/lab/jobs") == 1  # requests that arrived

`python -m crestline.testing.firecrest` runs it as a process. It has neither PBS nor slurmrestd. It refuses the transfer
methods `streamer` and `wormhole` with 400, as a site with S3 does.
"""

from __future__ import annotations

from crestline.testing.firecrest.faults import Faults, Rule
from crestline.testing.firecrest.fixture import PlainFirecrest, running
from crestline.testing.firecrest.settings import VERSIONS, Settings, User

__all__ = ["VERSIONS", "Faults", "PlainFirecrest", "Rule", "Settings", "User", "running"]
