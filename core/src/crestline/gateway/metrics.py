"""The gateway's metrics for Prometheus, which `docs/how-to/operation.md` lists.

A gateway is one process, so these are module variables, as prometheus-client intends.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

REQUESTS = Histogram(
    "crestline_http_request_duration_seconds",
    "Requests by route, from the first byte until the answer begins",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
COMMANDS = Histogram(
    "crestline_scheduler_command_duration_seconds",
    "Commands of the batch system, by program and outcome (`ok`, `failed`, `unavailable`)",
    ["system", "command", "outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
SNAPSHOT_AGE = Histogram(
    "crestline_snapshot_age_seconds",
    "How old the view of the batch system was that an answer came from",
    buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10),
    registry=REGISTRY,
)
SUBMISSIONS = Counter(
    "crestline_submissions_total",
    "Submissions by outcome: `submitted`, `repeated` (the key already had a job), `refused`, `unknown` (no answer)",
    ["system", "outcome"],
    registry=REGISTRY,
)
TRANSFERS = Counter(
    "crestline_transfers_total",
    "Transfers that have ended, by kind and state",
    ["system", "kind", "state"],
    registry=REGISTRY,
)
SSH_CONNECTIONS = Gauge("crestline_ssh_connections", "Open SSH connections", ["system"], registry=REGISTRY)
SSH_LOGINS = Counter(
    "crestline_ssh_logins_total", "SSH logins by outcome (`ok`, `failed`)", ["system", "outcome"], registry=REGISTRY
)
RATE_LIMITED = Counter(
    "crestline_rate_limited_total",
    "Requests of users that were refused for their rate, by limit (`requests`, `changes`)",
    ["limit"],
    registry=REGISTRY,
)
STORE_ERRORS = Counter(
    "crestline_store_errors_total", "Times that the gateway's database did not answer", registry=REGISTRY
)
HEALTHY = Gauge(
    "crestline_service_healthy",
    "1 where the last probe of a system's service went well",
    ["system", "service"],
    registry=REGISTRY,
)
