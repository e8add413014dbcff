"""`/status`: systems and their nodes, partitions, reservations, users; liveness."""

from __future__ import annotations

import time
from typing import Annotated

from litestar import Router, get
from litestar.params import QueryParameter

from crestline.gateway.health import INTERVAL, Health
from crestline.gateway.requests import CallerDependency, GatewayRequest, SystemDependency
from crestline.gateway.routes.queries import normalize_query
from crestline.gateway.systems import SystemRuntime
from crestline.model import UnsupportedError
from crestline.wire.extensions import AllocationsAnswer, Readiness, SlurmAnswer
from crestline.wire.status import (
    DataOperation,
    Liveness,
    NodesAnswer,
    PartitionsAnswer,
    Probing,
    ReservationsAnswer,
    SchedulerInfo,
    SshPool,
    System,
    SystemsAnswer,
    UserInfo,
)


@get("/systems")
async def get_systems(request: GatewayRequest) -> SystemsAnswer:
    """Return all systems with their health."""
    health = request.runtime.health
    await health.refresh()
    return SystemsAnswer(systems=[_describe(system, health) for system in request.runtime.systems])


@get("/{system_name:str}/nodes")
async def get_nodes(system: SystemDependency, caller: CallerDependency) -> NodesAnswer:
    """Return the compute nodes."""
    return NodesAnswer(nodes=await system.scheduler.nodes(caller.username))


@get("/{system_name:str}/reservations")
async def get_reservations(system: SystemDependency, caller: CallerDependency) -> ReservationsAnswer:
    """Return the advance reservations."""
    return ReservationsAnswer(reservations=await system.scheduler.reservations(caller.username))


@get("/{system_name:str}/partitions")
async def get_partitions(
    system: SystemDependency,
    caller: CallerDependency,
    show_hidden: Annotated[bool, QueryParameter(name="show_hidden")] = False,
) -> PartitionsAnswer:
    """Return the partitions."""
    return PartitionsAnswer(partitions=await system.scheduler.partitions(caller.username, show_hidden))


@get("/{system_name:str}/userinfo")
async def get_userinfo(system: SystemDependency, caller: CallerDependency) -> UserInfo:
    """Return the caller's ids, groups and accounts."""
    info = await system.host.user_info(caller.username)
    info.accounts = await system.scheduler.accounts(caller.username)
    return info


@get("/{system_name:str}/allocations")
async def get_allocations(system: SystemDependency, caller: CallerDependency) -> AllocationsAnswer:
    """Return budget and usage of the caller's accounts."""
    try:
        return AllocationsAnswer(allocations=await system.scheduler.allocations(caller.username))
    except UnsupportedError as error:  # common, and not a failure of the gateway
        return AllocationsAnswer(reason=error.message)


@get("/{system_name:str}/slurm")
async def get_slurm(
    request: GatewayRequest,
    system: SystemDependency,
    caller: CallerDependency,
    program: Annotated[str, QueryParameter(name="program", max_length=16, description="`squeue`, `sinfo`, ...")],
    argument: Annotated[
        list[str] | None, QueryParameter(name="argument", max_items=256, description="Its words, one by one")
    ] = None,
    variable: Annotated[
        list[str] | None, QueryParameter(name="variable", max_items=32, description="`NAME=value` of its environment")
    ] = None,
    me: Annotated[str, QueryParameter(name="me", max_length=256, description="A name for the caller")] = "",
) -> SlurmAnswer:
    """Crestline: return the output of a read-only Slurm command for the caller."""
    await request.runtime.authorization.check(caller, "jobs:read", system.name)  # the commands show jobs, too
    try:
        done = await system.scheduler.ask_slurm(caller.username, program, argument or [], variable or [], me)
    except UnsupportedError:  # common, and not a failure of the gateway
        return SlurmAnswer()
    return SlurmAnswer(
        exit_code=done.exit_status,
        output=done.stdout.decode(errors="replace"),
        errors=done.stderr.decode(errors="replace"),
    )


@get("/liveness", public=True)
async def get_liveness(request: GatewayRequest) -> Liveness:
    """Report that the gateway runs. Public."""
    runtime = request.runtime
    return Liveness(healthcheck_runs=dict(runtime.health.checked), last_update=int(time.time() - runtime.started))


@get("/readiness", public=True)
async def get_readiness(request: GatewayRequest) -> Readiness:
    """Report whether the gateway accepts requests, otherwise 503. Public."""
    await request.runtime.readiness.check()
    return Readiness()


def _describe(system: SystemRuntime, health: Health) -> System:
    return System(
        name=system.name,
        ssh=SshPool(host="localhost", port=22),
        scheduler=SchedulerInfo(type=system.scheduler.kind, version=system.scheduler.version),
        services_health=health.services.get(system.name),
        probing=Probing(interval_check=INTERVAL),
        last_health_check=health.checked.get(system.name),
        file_systems=system.file_systems,
        data_operation=DataOperation(
            max_ops_file_size=system.config.max_ops_file_size, data_transfer=system.transfers.describe()
        ),
    )


router = Router(
    "/status",
    middleware=[normalize_query],
    route_handlers=[
        get_systems,
        get_nodes,
        get_reservations,
        get_partitions,
        get_userinfo,
        get_allocations,
        get_slurm,
        get_liveness,
        get_readiness,
    ],
    opt={"area": "status"},
    tags=["status"],
)
