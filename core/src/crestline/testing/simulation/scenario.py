"""The base of all subjects: a facility with faults, and programs that are killed and restarted."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import crestline.client
from crestline.client.config import Site
from crestline.client.policy import Policy, PollPolicy
from crestline.client.system import System
from crestline.model import AuthenticationError, GatewayUnavailableError, RateLimitedError
from crestline.testing.simulation.answers import EPOCH, SYSTEM
from crestline.testing.simulation.cluster import SimulatedCluster
from crestline.testing.simulation.firecrest import SimulatedFirecrest
from crestline.testing.simulation.invariants import Bounds, RequestRate, TruthfulEnds
from crestline.testing.simulation.login import SimulatedLogin
from crestline.testing.simulation.network import OUTAGES, PARTIAL, Network
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.world import World

Program = Callable[[Process], Coroutine[Any, Any, None]]
PASSING = (GatewayUnavailableError, RateLimitedError, AuthenticationError)
"""Errors after which a program retries."""
SITE = Site(name="facility", url="https://facility.example", token="simulated", verify=False)  # noqa: S106
_POLICY = Policy(poll=PollPolicy(unseen_timeout=None))
"""No timeout for unseen jobs, since other processes may just have submitted them."""


class Scenario(abc.ABC):
    """A subject. `play` runs its programs, `check_end` checks the final state.

    Attributes:
        cluster, firecrest: the facility.
        calm_at: seconds after which no more faults occur.
        ends, bounds: invariants.

    Args:
        world: the simulation.
    """

    lives = 4
    """Maximum number of starts of a program. The last process is not killed."""
    most_requests = 400
    """Maximum number of requests of a process per minute."""
    skews: tuple[float, ...] = (-1200.0, -90.0, 90.0, 1200.0)
    """Possible clock errors of a process, in seconds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = random = world.adversary.random("scenario")
        self.cluster = SimulatedCluster(world)
        life = random.choice((90.0, 300.0, 3600.0))
        self.firecrest = SimulatedFirecrest(world, self.cluster, has_filters=random.random() < 0.5, token_life=life)
        self.probability = random.choice((0.03, 0.15, 0.4))
        self.calm_at = random.choices((20.0, 60.0, 240.0), (2, 2, 1))[0]
        self.ends = TruthfulEnds(world, self.cluster)
        self.bounds = Bounds(world)

    @abc.abstractmethod
    async def play(self) -> None:
        """Run the programs to completion."""

    def check_end(self) -> None:
        """Check the invariants of the final state."""

    async def run(self) -> None:
        """Run the scenario to its end."""
        self._plan_faults()
        await self.play()
        self.check_end()

    def _plan_faults(self) -> None:
        world, adversary = self.world, self.world.adversary
        for number in range(2):
            name = f"outage {number}"
            if fault := adversary.strikes(name, 0.3, "outage", "facility"):
                kind = fault.choice((*OUTAGES, *PARTIAL))
                begin = fault.choice((0.0, fault.uniform(0, self.calm_at)))
                length = fault.choice((3, 15, 15, 60, 60, 300)) * fault.uniform(0.5, 1.5)
                self.calm_at = max(self.calm_at, begin + length)
                world.plan_outage(begin, length, kind)
                world.note("facility", f"{name} is planned: {kind} from {begin:.1f} s for {length:.1f} s")
        if fault := adversary.strikes("key rotation", 0.2, "key rotation", "issuer"):
            world.loop.call_later(fault.uniform(0, self.calm_at), self.firecrest.revoke_all)
        world.loop.call_later(self.calm_at, self._calm)

    def _calm(self) -> None:
        self.world.adversary.is_calm = True
        self.world.note("facility", "is without faults from now on")

    async def program(
        self, name: str, main: Callable[[Process], Coroutine[Any, Any, None]], delay: float = 0.0
    ) -> None:
        """Run a program, and restart it after each kill until it finishes."""
        adversary = self.world.adversary
        await asyncio.sleep(delay)
        for life in range(1, self.lives + 1):
            kill = adversary.strikes(f"{name}.{life} killed", 0.3 if life < self.lives else 0.0, "kill", "process")
            kill_at = kill_in = None
            if kill and kill.random() < 0.5:
                kill_at = int(10 ** kill.uniform(0.5, 3.2))
            elif kill:
                kill_in = int(10 ** kill.uniform(0.0, 2.0))
            skew = adversary.strikes(f"{name}.{life} clock", 0.1, "clock skew", "process")
            epoch = EPOCH - 1000.0 + (skew.choice(self.skews) if skew else 0.0)
            process = Process(f"{name}.{life}", kill_at=kill_at, kill_in=kill_in, epoch=epoch)
            if await process.run(main(process)):
                self.world.check(
                    not process.unfinished, f"{process.name} left tasks running: {', '.join(process.unfinished)}."
                )
                return
            self.world.note(process.name, "is killed")
            await asyncio.sleep(adversary.random(f"{name}.{life} restart").uniform(0.1, 40))

    def network(self, process: Process) -> Network:
        """Return the transport of this process."""
        rate = RequestRate(self.world, process.name, self.most_requests)
        return Network(self.world, process, self.firecrest.answer, self.probability, rate.count)

    @contextlib.asynccontextmanager
    async def connect(
        self, process: Process, network: Network | None = None, policy: Policy | None = None
    ) -> AsyncIterator[System]:
        """Open the system, retrying until it succeeds."""
        random, login = self.world.adversary.random(f"{process.name} connects"), SimulatedLogin(self.firecrest)
        network = network or self.network(process)
        while True:
            system = crestline.client.connect(
                SITE, system=SYSTEM, authorizer=login, transport=network, policy=policy or _POLICY
            )
            try:
                await system.open()
                break
            except PASSING as error:
                self.world.note(process.name, f"cannot connect: {error.message}")
            await asyncio.sleep(random.uniform(1, 20))
        try:
            yield system
        finally:
            await system.close()
