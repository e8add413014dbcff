"""A stand-in of an IRI facility: it serves the API's documents, runs jobs as processes, and keeps files in a directory.

It needs nothing but Python, so that it can move into `crestline.testing` as it is. `Deviations` says in what it differs
from the documents, as known facilities do.
"""

from iri_facility.facility import TOKEN, Deviations, Facility, serve

__all__ = ["TOKEN", "Deviations", "Facility", "serve"]
