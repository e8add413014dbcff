"""The DOE's IRI Facility API, v1 and v2, as NERSC, ALCF, OLCF and others serve it."""

from crestline.client.backends.iri.backend import IriBackend

__all__ = ["IriBackend"]
