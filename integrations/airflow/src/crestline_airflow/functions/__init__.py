"""Python functions that run as jobs: packed into one file here, run on the system by `runner`, their outcome read here.

Nothing but a Python interpreter is needed there, and no network on the nodes: the call and its outcome are files.
"""

from crestline_airflow.functions.outcomes import RemoteFunctionError, value_of
from crestline_airflow.functions.packing import Call, pack

__all__ = ["Call", "RemoteFunctionError", "pack", "value_of"]
