"""Slurm's commands over the API, for every tool that calls those: `crestline-sbatch`, `-squeue`, `-scancel`, `-sacct`
and `-sinfo`.

One file per command. `program` is what they share from the first word of a command line to the exit code, `clusters`
finds the system, `layout` prints tables in the notations of `--format` and `--Format`, `queue_fields`,
`accounting_fields` and `node_fields` say what stands in the columns. Words, widths and exit codes are those of Slurm's
own commands (squeue(1), sacct(1), sinfo(1), sbatch(1), scancel(1)), whose output tools parse.
"""
