"""Operators that upload files, submit jobs, download results, and manage scratch directories.

The names and first arguments of the upload, submit and download operators are those of the CUG 2024 talk.
"""

from crestline_airflow.operators.download import FirecRESTDownloadOperator
from crestline_airflow.operators.scratch import (
    FirecRESTMakeScratchOperator,
    FirecRESTRemoveScratchOperator,
    scratch_directory,
)
from crestline_airflow.operators.submit import FirecRESTSubmitOperator
from crestline_airflow.operators.upload import FirecRESTUploadOperator

__all__ = [
    "FirecRESTDownloadOperator",
    "FirecRESTMakeScratchOperator",
    "FirecRESTRemoveScratchOperator",
    "FirecRESTSubmitOperator",
    "FirecRESTUploadOperator",
    "scratch_directory",
]
