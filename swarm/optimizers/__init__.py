"""Search methods, one file and one source each; :data:`OPTIMIZERS` lists them by their names in job files."""

from __future__ import annotations

from swarm.optimizers.base import Optimizer
from swarm.optimizers.pso import PSO
from swarm.optimizers.random import Random

OPTIMIZERS: dict[str, type[Optimizer]] = {"PSO": PSO, "Random": Random}

__all__ = ["OPTIMIZERS", "PSO", "Optimizer", "Random"]
