"""Search methods, one file and one source each; :data:`OPTIMIZERS` lists them by their names in job files."""

from __future__ import annotations

from swarm.optimizers.async_pso import AsyncPSO
from swarm.optimizers.base import Optimizer
from swarm.optimizers.grid import Grid
from swarm.optimizers.pso import PSO
from swarm.optimizers.random import Random
from swarm.optimizers.staged import Staged

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "PSO": PSO,
    "AsyncPSO": AsyncPSO,
    "Random": Random,
    "Grid": Grid,
    "Staged": Staged,
}

__all__ = ["OPTIMIZERS", "PSO", "AsyncPSO", "Grid", "Optimizer", "Random", "Staged"]
