"""The gateway's systems in terms of the DOE's IRI Facility API: resources, jobs, tasks. The endpoints are in
`routes.iri`."""

from crestline.gateway.iri.facility import Facility
from crestline.gateway.iri.tasks import FileTasks

__all__ = ["Facility", "FileTasks"]
