"""A stand-in of an IRI facility: it serves the API's documents, runs jobs as processes, and keeps files in a directory.

It knows nothing of Crestline's client or gateway and imports nothing of them. `Deviations` says in what it differs from
the documents, as known facilities do.

    from crestline.testing.iri import TOKEN, Deviations, running

    with running(folder, Deviations(has_list=False)) as facility:  # no list of jobs, as at NERSC
        httpx.get(f"{facility.url}/api/v1/status/resources", headers={"Authorization": f"Bearer {TOKEN}"})
        assert facility.requests == ["getResources"]
"""

from __future__ import annotations

from crestline.testing.iri.facility import TOKEN, Deviations, Facility, running

__all__ = ["TOKEN", "Deviations", "Facility", "running"]
