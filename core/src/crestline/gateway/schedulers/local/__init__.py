"""The built-in scheduler: supervised processes on this machine, described in Slurm's terms.

`scheduler` is the class. `request` parses a job's resources, `queue` decides what runs where and when, and
`dependencies` what must happen before. `store` persists jobs, `launch` starts a job's `supervisor`, and `listing`
describes jobs. Nothing is imported here, because each supervisor is its own process.
"""
