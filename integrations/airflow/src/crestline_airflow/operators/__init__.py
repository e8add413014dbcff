"""Operators: upload, submit, download. Their names and first arguments are those of the CUG 2024 talk."""

from crestline_airflow.operators.download import FirecRESTDownloadOperator
from crestline_airflow.operators.submit import FirecRESTSubmitOperator
from crestline_airflow.operators.upload import FirecRESTUploadOperator

__all__ = ["FirecRESTDownloadOperator", "FirecRESTSubmitOperator", "FirecRESTUploadOperator"]
