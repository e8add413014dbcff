"""A stand-in for an IRI facility. It serves the specified API, runs jobs as processes, and keeps files in a directory.

It imports nothing of Crestline's client or gateway. `Deviations` selects differences from the specification that known
facilities have.

    from crestline.testing.iri import TOKEN, Deviations, running

    with running(folder, Deviations(has_list=False)) as facility:  # no list of jobs, as at NERSC
        httpx.get(f"{facility.url}/api/v1/status/resources", headers={"Authorization": f"Bearer {TOKEN}"})
        assert facility.requests == ["getResources"]
"""

from __future__ import annotations

from crestline.testing.iri.facility import TOKEN, Deviations, Facility, running

__all__ = ["TOKEN", "Deviations", "Facility", "running"]
