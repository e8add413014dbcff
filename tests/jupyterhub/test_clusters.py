"""Dask and IPyParallel clusters that start with a session, used from a real kernel in it."""

from __future__ import annotations

import pytest

from crestline.model import InvalidRequestError
from crestline_jupyterhub.clusters import lines
from harness.hub import Hub
from harness.kernel import run_code

DASK = """
import os
from dask.distributed import Client
client = Client(scheduler_file=os.environ["DASK_SCHEDULER_FILE"], timeout="120s")
client.wait_for_workers(1, timeout="120s")
print(client.scheduler.address.split(":")[0], sum(client.gather(client.map(lambda n: n * n, range(10)))))
print(client.dashboard_link)
"""
IPYPARALLEL = """
import os
import ipyparallel as ipp
client = ipp.Client(profile_dir=os.environ["IPP_PROFILE_DIR"], timeout=120)
client.wait_for_engines(2, timeout=120)
print(sorted(client[:].map_sync(lambda n: n * n, range(4))))
print(sorted(client[:].apply_sync(lambda: __import__("os").environ.get("OMPI_COMM_WORLD_RANK", "no rank")))[:2])
"""


def test_dask_and_ipyparallel_answer_from_a_notebook(example_hub: Hub) -> None:
    assert example_hub.spawn("carla", {"tasks": 2, "dask": "yes", "ipyparallel": "mpi"}).status_code in (201, 202)
    try:
        example_hub.ready("carla")
        protocol, total = run_code(example_hub, "carla", DASK).splitlines()[0].split()
        assert (protocol, total) == ("tls", "285")
        assert run_code(example_hub, "carla", IPYPARALLEL).splitlines()[-2:] == ["[0, 1, 4, 9]", "['0', '1']"]
    finally:
        example_hub.stop_server("carla")


@pytest.mark.parametrize(
    ("clusters", "wrong"),
    [
        ({"spark": {}}, "Unknown cluster 'spark'"),
        ({"dask": {"workers": 3}}, "cannot have workers=3"),
        ({"dask": {"workers_per_node": "3; true"}}, "cannot have workers_per_node"),
        ({"dask": {"workers_per_node": True}}, "cannot have workers_per_node"),
        ({"dask": {"interface": "a\nb"}}, "cannot have interface"),
        ({"ipyparallel": {"engines": -1}}, "engines is -1"),
    ],
)
def test_what_no_cluster_has_is_refused(clusters: dict[str, dict[str, object]], wrong: str) -> None:
    with pytest.raises(InvalidRequestError, match=wrong):
        lines(clusters, "/home/alice", [])
