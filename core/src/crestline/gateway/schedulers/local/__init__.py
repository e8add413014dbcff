"""The built-in scheduler: supervised processes on this machine, described in Slurm's terms.

`scheduler` has the class. `request` parses a job's resources, `queue` decides which job runs when and where, and
`dependencies` checks its dependencies. `store` persists jobs, `launch` starts a job's `supervisor`, and `listing`
describes jobs. This module imports nothing, because each supervisor is a process of its own.
"""
