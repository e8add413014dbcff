"""One ReFrame run over two sites: a partition on each, both of one system of the configuration.

Which systems they are, the sites file says: `laptop` and `centre`.
"""

import crestline_reframe  # noqa: F401 - registers the scheduler


def partition(name: str, site: str, **more: object) -> dict[str, object]:
    return {
        "name": name,
        "descr": f"Site {site}",
        "scheduler": "firecrest-scheduler",
        "sched_options": {"firecrest": {"site": site}},
        "launcher": "local",
        "environs": ["builtin"],
        "max_jobs": 20,
        **more,
    }


site_configuration = {
    "systems": [
        {
            "name": "federation",
            "descr": "Two sites behind one client",
            "hostnames": [".*"],
            "modules_system": "nomod",
            "resourcesdir": ".",
            "partitions": [partition("small", "laptop"), partition("large", "centre")],
        }
    ],
    "environments": [{"name": "builtin", "cc": "gcc"}],
    "general": [{"resolve_module_conflicts": False}],
}
