"""submitit: a call as a job, a map as a job array, an error that comes back, and a job that is ended."""

from __future__ import annotations

import operator
import sys
import time

import submitit

executor = submitit.SlurmExecutor(folder="logs", python=sys.executable)
executor.update_parameters(time=5, array_parallelism=2, mem="100M", stderr_to_stdout=True)

one = executor.submit(operator.add, 1, 2)
many = executor.map_array(operator.mul, [1, 2, 3], [4, 5, 6])
wrong = executor.submit(operator.truediv, 1, 0)
endless = executor.submit(time.sleep, 600)
print("sum", one.result())
print("products", [job.result() for job in many])
print("error", type(wrong.exception()).__name__, "ZeroDivisionError" in str(wrong.exception()))
endless.cancel(check=False)
while not endless.done(force_check=True):
    time.sleep(1)
print("ended", endless.state.split()[0])
