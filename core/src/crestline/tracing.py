"""OpenTelemetry traces of requests and of the batch system's commands, for processes that have OpenTelemetry set up.

Nothing here imports OpenTelemetry unless `configure` finds in the environment that traces are wanted. Where the process
has no tracer provider, every function returns at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from crestline import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_WANTED = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACE = "opentelemetry.trace"

logger = logging.getLogger("crestline.tracing")


def configure() -> None:
    """Export the traces of this process if a variable of OpenTelemetry names a collector.

    The extra `crestline[otel]` has to be installed; without it the log says at level INFO that it is not. A provider
    that the program has set itself stays.
    """
    if not any(map(os.environ.get, _WANTED)) or tracer() is not None:
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        logger.info("No traces are exported: %s is not installed. Run: pip install 'crestline[otel]'", error.name)
        return
    resource = Resource.create({SERVICE_NAME: "crestline"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def tracer() -> Tracer | None:
    """Return the tracer of this process; None if it has no tracer provider."""
    trace = sys.modules.get(_TRACE)
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    made: Tracer = trace.get_tracer("crestline", __version__)
    return made


def server_span(method: str, headers: Mapping[bytes, bytes]) -> AbstractContextManager[Span | None]:
    """Return a span for a request that this process serves, below the one that its `traceparent` header names.

    Args:
        method: of the request; the caller gives the span its full name once the route is known.
        headers: of the request, in lower case.
    """
    active = tracer()
    if active is None:
        return nullcontext()
    from opentelemetry.trace import SpanKind

    given = {name: headers[key].decode("latin-1") for name, key in _PARENT.items() if key in headers}
    return active.start_as_current_span(method, context=_propagator().extract(given), kind=SpanKind.SERVER)


@contextmanager
def client_span(method: str, host: str, path: str, headers: Any) -> Iterator[Span | None]:
    """Trace a request that this process sends, and name the span in its `traceparent` header.

    Args:
        method: of the request.
        host: of the server.
        path: of the URL, without the query, which may hold a signature.
        headers: of the request; a mapping that is changed.
    """
    active = tracer()
    if active is None:
        yield None
        return
    from opentelemetry.trace import SpanKind

    attributes = {"http.request.method": method, "server.address": host, "url.path": path}
    with active.start_as_current_span(method, kind=SpanKind.CLIENT, attributes=attributes) as span:
        _propagator().inject(headers)
        yield span


def child_span(name: str, attributes: Mapping[str, str]) -> AbstractContextManager[Span | None]:
    """Return a span below the current one; without a current one, none is made: nothing asked for that work."""
    active = tracer()
    if active is None:
        return nullcontext()
    from opentelemetry.trace import get_current_span

    if not get_current_span().is_recording():
        return nullcontext()
    return active.start_as_current_span(name, attributes=dict(attributes))


_PARENT = {"traceparent": b"traceparent", "tracestate": b"tracestate"}


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
