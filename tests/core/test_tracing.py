"""Traces: one from the client through the gateway to the batch system's command, and none where none is wanted."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Tracer

import crestline
from crestline import tracing
from crestline.gateway.schedulers.instrumented import InstrumentedCommands
from harness.gateway import RunningGateway
from harness.scripted_commands import ScriptedCommands, succeeded
from harness.sites import BRISK, gateway_site


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What this process traces; its gateways and its clients alike."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer: Tracer = provider.get_tracer("crestline")
    monkeypatch.setattr(tracing, "tracer", lambda: tracer)
    yield exporter
    provider.shutdown()


def by_kind(spans: InMemorySpanExporter) -> dict[SpanKind, list[ReadableSpan]]:
    found: dict[SpanKind, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.kind, []).append(span)
    return found


def test_a_request_is_one_trace_on_both_sides(gateway: RunningGateway, spans: InMemorySpanExporter) -> None:
    with crestline.connect_blocking(gateway_site(gateway), policy=BRISK) as system:
        spans.clear()
        system.jobs()
    sides = by_kind(spans)
    servers = {span.parent.span_id: span for span in sides[SpanKind.SERVER] if span.parent is not None}
    [sent] = [span for span in sides[SpanKind.CLIENT] if str(span.attributes["url.path"]).endswith("/jobs")]
    served = servers[sent.context.span_id]
    assert served.context.trace_id == sent.context.trace_id
    assert served.name == "GET /compute/{system_name}/jobs"
    assert served.attributes["http.response.status_code"] == sent.attributes["http.response.status_code"] == 200
    assert "?" not in str(sent.attributes), "queries of signed URLs are secrets"


def test_commands_belong_to_the_request_that_needs_them(spans: InMemorySpanExporter) -> None:
    commands = InstrumentedCommands("cluster", ScriptedCommands(lambda _: succeeded()))

    async def serve() -> None:
        with tracing.server_span("GET", {}):
            await commands.run("alice", ["env", "A=b", "squeue"], timeout=1)
        await commands.run("alice", ["sinfo"], timeout=1)  # for no request

    anyio.run(serve)
    command, request = spans.get_finished_spans()
    assert (command.name, command.attributes) == ("squeue", {"crestline.system": "cluster"})
    assert command.parent is not None
    assert command.parent.span_id == request.context.span_id


def test_without_a_provider_nothing_is_imported_or_sent() -> None:
    code = (
        "import sys, httpx\nfrom crestline import tracing\ntracing.configure()\nheaders = {}\n"
        "with tracing.client_span('GET', 'h', '/', headers) as span: assert span is None\n"
        "with tracing.server_span('GET', {b'traceparent': b'x'}) as span: assert span is None\n"
        "with tracing.child_span('squeue', {}) as span: assert span is None\n"
        "assert not headers\nassert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "import opentelemetry.trace\nassert tracing.tracer() is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""})


def test_the_command_exports_to_the_collector_of_the_environment(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{collector.server_port}"
        code = (
            "from crestline import tracing\ntracing.configure()\nwith tracing.client_span('PUT', 'h', '/p', {}): pass\n"
        )
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_SERVICE_NAME": "mine", "HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        collector.shutdown()
    sent = b"".join(bodies)
    assert b"PUT" in sent
    assert b"mine" in sent
