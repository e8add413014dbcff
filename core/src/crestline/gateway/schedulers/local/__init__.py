"""The built-in batch system: supervised processes on this machine, in Slurm's words.

`scheduler` is the class. `request` says what a job asks for, `queue` what runs where and when, `dependencies` what must
happen before; `store` remembers, `launch` hands a job over to its own `supervisor`, `listing` shows it. Nothing is
imported here, because each supervisor is a process of its own.
"""
