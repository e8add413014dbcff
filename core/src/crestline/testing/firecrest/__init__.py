"""A stand-in of a plain FirecREST v2 server, its defects included, in front of a scheduler that really runs the jobs.

It knows nothing of Crestline's client or gateway and imports nothing of them, so it tests any program that speaks
FirecREST. What it answers was recorded from, or measured on, a real FirecREST with a real Slurm; `shapes/` has the
recorded bodies.

    from crestline.testing.firecrest import running

    with running(version="2.6.0", cpus_per_node=1) as plain:
        auth = firecrest.ClientCredentialsAuth(plain.client_id, plain.client_secret, plain.token_url)
        client = firecrest.v2.Firecrest(plain.url, auth)
        plain.faults.stale_pending = 3  # a switch: each new job looks pending for three more looks
        plain.faults.fail(408, "/jobs$", "POST", when="after")  # a rule: the job is taken, the answer is an error
        plain.down(seconds=2)  # an outage; jobs go on
        plain.scheduler.requeue(job_id)  # what an administrator does
        assert plain.count("GET", "/compute/lab/jobs") == 1  # what arrived

`python -m crestline.testing.firecrest` is the same as a process. PBS and slurmrestd are left out, and so are the
transfer methods `streamer` and `wormhole`, which are refused with 400 as on a site that is set up for S3.
"""

from __future__ import annotations

from crestline.testing.firecrest.faults import Faults, Rule
from crestline.testing.firecrest.fixture import PlainFirecrest, running
from crestline.testing.firecrest.settings import VERSIONS, Settings, User

__all__ = ["VERSIONS", "Faults", "PlainFirecrest", "Rule", "Settings", "User", "running"]
