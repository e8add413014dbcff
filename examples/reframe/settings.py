"""The site configuration of the talk: two partitions of a cluster that are reached through FirecREST.

The gateway is the one of the `FIRECREST_*` variables, or of the sites file: `crestline serve` on this machine will do.
"""

import crestline_reframe  # noqa: F401 - registers the scheduler

site_configuration = {
    "systems": [
        {
            "name": "mycluster",
            "descr": "My HPC Cluster",
            "hostnames": [".*"],
            "modules_system": "nomod",
            "resourcesdir": ".",
            "partitions": [
                {
                    "name": "normal",
                    "descr": "Serial and threaded programs",
                    "scheduler": "firecrest-scheduler",  # <-- registered scheduler
                    "launcher": "local",
                    "environs": ["builtin"],
                    "max_jobs": 100,
                },
                {
                    "name": "mpi",
                    "descr": "Programs that are started by mpirun",
                    "scheduler": "firecrest-scheduler",  # <-- registered scheduler
                    "launcher": "mpirun",
                    "time_limit": "10m",
                    "environs": ["openmpi"],
                    "max_jobs": 100,
                },
            ],
        }
    ],
    "environments": [
        {"name": "builtin", "cc": "gcc"},
        {"name": "openmpi", "cc": "mpicc", "features": ["mpi"]},
    ],
    "general": [{"resolve_module_conflicts": False}],
}
