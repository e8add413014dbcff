"""The process that runs beside each job of the `local` scheduler, and continues without a gateway.

`python -I -m crestline.gateway.schedulers.local.supervisor <job directory>` claims the job, runs its script once,
enforces its time limit and records what happened (`records`). `steps` is the `srun` of jobs. The package uses only the
standard library (and psutil to signal a process tree), because it starts once per job and must start fast.
"""
