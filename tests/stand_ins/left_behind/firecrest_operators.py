"""The talk's module: every name that is imported from it has to be one of ours."""

from crestline_airflow.operators import *  # noqa: F403
from crestline_airflow.operators import __all__  # noqa: F401
