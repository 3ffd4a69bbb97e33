"""Search methods, one file and one source each; :data:`OPTIMIZERS` lists them by their names in job files."""

from __future__ import annotations

from swarm.optimizers.async_pso import AsyncPSO
from swarm.optimizers.base import Optimizer
from swarm.optimizers.bohb import BOHB
from swarm.optimizers.demes import Demes
from swarm.optimizers.genetic import GA
from swarm.optimizers.grid import Grid
from swarm.optimizers.hyperband import Hyperband
from swarm.optimizers.mu_plus_lambda import MuPlusLambda
from swarm.optimizers.pbt import PBT
from swarm.optimizers.pso import PSO
from swarm.optimizers.random import Random
from swarm.optimizers.rescored import Rescored
from swarm.optimizers.staged import Staged
from swarm.optimizers.surrogate_pso import SurrogatePSO
from swarm.optimizers.tpe import TPE

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "SurrogatePSO": SurrogatePSO,
    "PSO": PSO,
    "AsyncPSO": AsyncPSO,
    "Random": Random,
    "Grid": Grid,
    "Staged": Staged,
    "TPE": TPE,
    "Hyperband": Hyperband,
    "BOHB": BOHB,
    "GA": GA,
    "PBT": PBT,
    "Demes": Demes,
    "MuPlusLambda": MuPlusLambda,
    "Rescored": Rescored,
}

__all__ = [
    "BOHB",
    "GA",
    "OPTIMIZERS",
    "PBT",
    "PSO",
    "TPE",
    "AsyncPSO",
    "Demes",
    "Grid",
    "Hyperband",
    "MuPlusLambda",
    "Optimizer",
    "Random",
    "Rescored",
    "Staged",
    "SurrogatePSO",
]
