"""The process that runs beside each job of the `local` scheduler, and continues without a gateway.

`python -I -m crestline.gateway.schedulers.local.supervisor <job directory>` claims the job, runs its script once, keeps
its time limit and records what happened (`records`). `steps` is the `srun` that jobs find. Standard library alone
(psutil where a tree of processes has to be signalled), nothing of ours besides: it starts once per job and must start
fast.
"""
