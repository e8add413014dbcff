"""OpenTelemetry traces of requests and of batch system commands, for processes that configure OpenTelemetry.

OpenTelemetry is imported only if `configure` finds that the environment requests traces. Without a tracer provider,
every function returns immediately.
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
    """Export the traces of this process if an OpenTelemetry variable names a collector.

    Requires the extra `crestline[otel]`. Without it, a message at level INFO says so. An existing tracer provider of
    the program is kept.
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
    """Return the tracer of this process, or None if it has no tracer provider."""
    trace = sys.modules.get(_TRACE)
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    made: Tracer = trace.get_tracer("crestline", __version__)
    return made


def server_span(method: str, headers: Mapping[bytes, bytes]) -> AbstractContextManager[Span | None]:
    """Return a span for an incoming request, as a child of the span in its `traceparent` header.

    Args:
        method: the method of the request. The caller sets the full name of the span once the route is known.
        headers: the headers of the request, in lower case.
    """
    active = tracer()
    if active is None:
        return nullcontext()
    from opentelemetry.trace import SpanKind

    given = {name: headers[key].decode("latin-1") for name, key in _PARENT.items() if key in headers}
    return active.start_as_current_span(method, context=_propagator().extract(given), kind=SpanKind.SERVER)


@contextmanager
def client_span(method: str, host: str, path: str, headers: Any) -> Iterator[Span | None]:
    """Trace an outgoing request, and add its span to the `traceparent` header.

    Args:
        method: the method of the request.
        host: the host of the server.
        path: the path of the URL, without the query, which may contain a signature.
        headers: the headers of the request, a mapping that is modified.
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
    """Return a child of the current span. Work without a current span belongs to no request and is not traced."""
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
