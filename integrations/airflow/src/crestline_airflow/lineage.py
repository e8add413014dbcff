"""Facts of a job for OpenLineage: the files it reads and writes, where it ran, and what it took."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crestline.model import Job

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def facets(
    *,
    gateway_url: str,
    system: str,
    working_dir: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    resources: Mapping[str, Any],
    job_id: str | None,
    job: Job | None,
) -> OperatorLineage:
    """Build the facets of a run.

    Datasets are named by `firecrest://<gateway>/<system>` and the path. The run facet `hpc_job` has the job's id,
    state, exit code and node-hours (None before it has ended), and the resources that the task asks for.

    Args:
        gateway_url: with its scheme; a user's name in it does not become part of a dataset's name.
        system: the system's name.
        working_dir: relative paths are below it, unless the job says where it ran.
        inputs, outputs: paths on the system that the task names.
        resources: what the task asks for, by name; the environment and what is not set are left out.
        job_id: None where nothing is submitted yet.
        job: as it ended; None at the start.
    """
    import attrs
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset
    from openlineage.client.facet_v2 import RunFacet

    @attrs.define(kw_only=True)
    class HpcJobRunFacet(RunFacet):
        gateway: str
        system: str
        jobId: str | None  # noqa: N815 - OpenLineage's way of writing
        state: str | None
        exitCode: int | None  # noqa: N815
        nodeHours: float | None  # noqa: N815
        resources: dict[str, Any]

    gateway = urlsplit(gateway_url).netloc.rpartition("@")[2]
    namespace = f"firecrest://{gateway}/{system}"
    below = job.workdir if job is not None else working_dir
    written = [*outputs, *((job.stdout, job.stderr) if job is not None else ())]

    def datasets(paths: Any) -> list[Any]:
        absolute = (posixpath.join(below, path) for path in paths if path)
        return [Dataset(namespace=namespace, name=path) for path in dict.fromkeys(absolute)]

    facet = HpcJobRunFacet(
        gateway=gateway_url,
        system=system,
        jobId=job.job_id if job is not None else job_id,
        state=str(job.state) if job is not None else None,
        exitCode=job.exit_code if job is not None else None,
        nodeHours=job.node_hours if job is not None else None,
        resources={
            name: value
            for name, value in resources.items()
            if name != "environment" and value not in (None, "", [], (), False)
        },
    )
    return OperatorLineage(inputs=datasets(inputs), outputs=datasets(written), run_facets={"hpc_job": facet})
