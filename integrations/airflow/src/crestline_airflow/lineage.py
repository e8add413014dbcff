"""What OpenLineage is told of a job: the files it reads and writes, where it ran, and what it took."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crestline.model import Job
from crestline_airflow.rendered import single, texts
from crestline_airflow.resources import RESOURCES

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from crestline_airflow.operators.submit import FirecRESTSubmitOperator


def facets(task: FirecRESTSubmitOperator, job: Job | None) -> OperatorLineage:
    """Facets of a run.

    Datasets are named by `firecrest://<gateway>/<system>` and the path. The run facet `hpc_job` has the job's id,
    state, exit code and node-hours (None before it has ended), and the resources that the task asks for.

    Args:
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

    site = task.hook.site()
    system = single(task.system, "system") or site.system or ""
    gateway = urlsplit(site.url).netloc.rpartition("@")[2]
    namespace = f"firecrest://{gateway}/{system}"
    below = job.workdir if job is not None else single(task.working_dir, "working_dir") or ""
    written = [*texts(task.outputs), *((job.stdout, job.stderr) if job is not None else ())]

    def datasets(paths: Any) -> list[Any]:
        absolute = (posixpath.join(below, path) for path in paths if path)
        return [Dataset(namespace=namespace, name=path) for path in dict.fromkeys(absolute)]

    facet = HpcJobRunFacet(
        gateway=site.url,
        system=system,
        jobId=job.job_id if job is not None else task._job_id,
        state=str(job.state) if job is not None else None,
        exitCode=job.exit_code if job is not None else None,
        nodeHours=job.node_hours if job is not None else None,
        resources={
            name: value
            for name in RESOURCES
            if name != "environment" and (value := getattr(task, name)) not in (None, "", [], (), False)
        },
    )
    return OperatorLineage(
        inputs=datasets(texts(task.inputs)), outputs=datasets(written), run_facets={"hpc_job": facet}
    )
