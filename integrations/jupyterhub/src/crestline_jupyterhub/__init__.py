"""JupyterHub sessions on supercomputers through FirecREST v2.

`spawner` is the class that the hub creates for each server, `settings` its configuration, and `options` the choices of
users. `job` builds the batch job, with `template` (a site's own script), `software` (modules, environments, containers)
and `clusters` (Dask, IPyParallel), and `staging` the session's folder on the system. `connections` are the systems of a
hub, `tokens` the users' identities there, and `callback` receives a session's address. `cleanup` cancels jobs and
removes files, and `reaper` does so for jobs that have lost their server. `failures` and `progress` are shown to users,
and `session` runs inside the job.
"""

from crestline_jupyterhub.spawner import FirecRESTSpawner

__all__ = ["FirecRESTSpawner"]
