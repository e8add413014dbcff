"""Deterministic simulation: the client's real code in one process, on virtual time, with an adversary in between.

A run is made of its seed alone. A virtual clock jumps to the next timer, a simulated FirecREST with its scheduler
answers behind the client's own transport, an adversary loses, delays, doubles and refuses requests and kills client
processes, and after each step the invariants are checked. A seed that breaks one is shrunk and told as a time line:

    python -m crestline.testing.simulation submission --seeds 0:1000

`docs/explanation/simulation.md` describes it.
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
