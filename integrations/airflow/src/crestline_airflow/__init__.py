"""Apache Airflow provider: tasks that run on supercomputers through FirecREST v2."""
