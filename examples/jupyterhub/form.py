"""What users choose before a session starts; loaded by the configuration files beside this one.

Partitions, reservations and node features are those that the system has at the moment.
"""

c = get_config()  # noqa: F821

HOURS = 12
NODES = 4
TASKS = 256

c.FirecRESTSpawner.profile_list = {
    "jupyterlab": {
        "display_name": "JupyterLab",
        "profile_options": {
            "node_type": {
                "display_name": "Node type",
                "choices": "features",
                "spawner_override": {"req_constraint": "{value}"},
            },
            "nodes": {
                "display_name": "Nodes",
                "number": {"minimum": 1, "maximum": NODES},
                "spawner_override": {"req_nnodes": "{value}"},
            },
            "tasks": {
                "display_name": "Tasks",
                "description": "MPI ranks, and engines of an IPyParallel cluster.",
                "number": {"minimum": 1, "maximum": TASKS},
                "spawner_override": {"req_ntasks": "{value}"},
            },
            "hours": {
                "display_name": "Duration (hours)",
                "number": {"minimum": 1, "maximum": HOURS},
                "spawner_override": {"req_runtime": "{value}:00:00"},
            },
            "queue": {
                "display_name": "Queue",
                "choices": "partitions",
                "spawner_override": {"req_partition": "{value}"},
            },
            "reservation": {
                "display_name": "Advanced reservation",
                "choices": "reservations",
                "optional": True,
                "spawner_override": {"req_reservation": "{value}"},
            },
            "ipyparallel": {
                "display_name": "Start an IPyParallel cluster?",
                "description": "One engine for each task of the job.",
                "choices": {
                    "no": {"display_name": "No"},
                    "yes": {"display_name": "Yes", "spawner_override": {"clusters": {"ipyparallel": {}}}},
                    "mpi": {
                        "display_name": "Yes, with MPI",
                        "spawner_override": {"clusters": {"ipyparallel": {"mpi": True}}},
                    },
                },
            },
            "dask": {
                "display_name": "Start a distributed Dask cluster?",
                "description": "One worker on each node.",
                "choices": {
                    "no": {"display_name": "No"},
                    "yes": {"display_name": "Yes", "spawner_override": {"clusters": {"dask": {}}}},
                },
            },
        },
    },
}
