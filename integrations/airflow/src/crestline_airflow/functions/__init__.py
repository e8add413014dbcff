"""Python functions as jobs: packed into one file here, run on the system by `runner`, and their result read here.

The system needs only a Python interpreter, and its nodes no network: the call and its result are files.
"""

from crestline_airflow.functions.outcomes import RemoteFunctionError, value_of
from crestline_airflow.functions.packing import Call, pack

__all__ = ["Call", "RemoteFunctionError", "pack", "value_of"]
