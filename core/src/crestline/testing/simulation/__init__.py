"""Deterministic simulation: the client's real code in one process, on virtual time, with injected faults.

A run is determined by its seed. The virtual clock jumps to the next timer. A simulated FirecREST with a scheduler
answers behind the client's transport. An adversary loses, delays, duplicates and refuses requests and kills client
processes. The invariants are checked after each step. A seed that violates one is shrunk and printed as a time line:

    python -m crestline.testing.simulation submission --seeds 0:1000

See `docs/explanation/simulation.md`.
"""

from __future__ import annotations

from crestline.testing.simulation.adversary import Adversary
from crestline.testing.simulation.cluster import SimulatedCluster
from crestline.testing.simulation.event_loop import EndlessWaitError, TimeLimitError, VirtualEventLoop
from crestline.testing.simulation.network import Network
from crestline.testing.simulation.process import Process
from crestline.testing.simulation.runner import Outcome, run, shrink
from crestline.testing.simulation.scenario import Scenario
from crestline.testing.simulation.world import ViolationError, World

__all__ = [
    "Adversary",
    "EndlessWaitError",
    "Network",
    "Outcome",
    "Process",
    "Scenario",
    "SimulatedCluster",
    "TimeLimitError",
    "ViolationError",
    "VirtualEventLoop",
    "World",
    "run",
    "shrink",
]
