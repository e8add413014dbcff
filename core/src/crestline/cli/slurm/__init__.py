"""Slurm's commands over the API, for tools that call them: `crestline-sbatch`, `-squeue`, `-scancel`, `-sacct`,
`-sinfo` and others.

Each command has a module. `program` parses command lines, reports errors and connects to a system, `clusters` resolves
`-M`, and `layout` prints tables in the notations of `--format` and `--Format`. `queue_fields`, `accounting_fields` and
`node_fields` define the columns. Names, widths and exit codes match Slurm's own commands (squeue(1), sacct(1),
sinfo(1), sbatch(1), scancel(1)), whose output tools parse.
"""
