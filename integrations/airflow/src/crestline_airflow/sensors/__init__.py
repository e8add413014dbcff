"""Sensors: tasks that wait for a file on a system, or for a job that another program has submitted."""

from crestline_airflow.sensors.file import FirecRESTFileSensor
from crestline_airflow.sensors.job import FirecRESTJobSensor

__all__ = ["FirecRESTFileSensor", "FirecRESTJobSensor"]
