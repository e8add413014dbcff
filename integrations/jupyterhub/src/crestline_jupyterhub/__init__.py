"""JupyterHub sessions on supercomputers through FirecREST v2.

`spawner` is the class that the hub holds per server, `settings` what an admin configures, `options` what users may
choose, `staging` the folder that a session finds on the system, `job` the batch job made of all that, with `template`
(a site's own script), `software` (modules, environments, containers) and `clusters` (Dask, IPyParallel),
`connections` the systems that a hub talks to, `tokens` the users' own identities there, `callback` the way of the
job's news to its spawner, `ending` the cancelling of the job and `reaper` that of jobs which have lost their server,
`failures` and `progress` what the user reads, and `session` what runs inside the job.
"""

from crestline_jupyterhub.spawner import FirecRESTSpawner

__all__ = ["FirecRESTSpawner"]
