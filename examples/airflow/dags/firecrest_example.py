"""The DAG of the CUG 2024 talk: a new structure appears, and its properties are computed on the cluster.

The structure and the potential that describes its atoms are uploaded, a job computes the equation of state, and its
results come back. Everything that changes from run to run is a parameter of the DAG.
"""

import os
from pathlib import Path

from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import DAG

from crestline_airflow.operators import FirecRESTDownloadOperator, FirecRESTSubmitOperator, FirecRESTUploadOperator

example = Path(__file__).resolve().parents[1]
system = os.environ.get("FIRECREST_SYSTEM", "local")

# On this machine, and on the system below the user's default directory.
structure = "{{ params.inbox }}/{{ params.structure }}"
potential = "{{ params.potentials }}/{{ params.potential }}"
results = "{{ params.results }}/{{ run_id }}"
workdir = "firecrest_example/{{ run_id }}"

with DAG(
    dag_id="firecrest_example",
    tags=["firecrest-executor"],
    schedule=None,
    params={
        "inbox": str(example / "inbox"),
        "structure": "Cu.cif",
        "potentials": str(example / "inputs"),
        "potential": "Cu.morse.json",
        "results": str(example / "results"),
        "python": "python3",  # one on the system that has ASE
    },
) as dag:
    wait_for_file = FileSensor(task_id="wait-for-file", filepath=structure, poke_interval=10)

    upload_in = FirecRESTUploadOperator(
        task_id="upload-in", system=system, source_path=structure, target_path=f"{workdir}/"
    )

    upload_pp = FirecRESTUploadOperator(
        task_id="upload-pp", system=system, source_path=potential, target_path=f"{workdir}/"
    )

    submit_task = FirecRESTSubmitOperator(
        task_id="job-submit", system=system, script="equation_of_state.sbatch", working_dir=workdir
    )

    download_task = FirecRESTDownloadOperator(
        task_id="download-out",
        system=system,
        target_task_id="job-submit",
        remote_files=["slurm-{_jobid_}.out", "result.json"],
        local_path=f"{results}/",
    )

    log_results = BashOperator(
        task_id="log-results",
        bash_command='grep -hE "lattice constant|bulk modulus" "$RESULTS"/slurm-*.out',
        env={"RESULTS": results},
        append_env=True,
    )

    remove_struct = BashOperator(
        task_id="remove-struct", bash_command='rm -- "$STRUCTURE"', env={"STRUCTURE": structure}, append_env=True
    )

    wait_for_file >> [upload_in, upload_pp] >> submit_task >> download_task >> log_results
    upload_in >> remove_struct >> log_results
