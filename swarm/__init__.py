"""Finds the hyper-parameters of deep neural networks with a swarm of trainings, one per GPU, on Dask.

Public names are imported when first used, so that ``import swarm`` costs milliseconds and no TensorFlow.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from swarm import old_names
from swarm.version import __version__

old_names.install()

_HOME = {
    "Integer": "swarm.space",
    "Real": "swarm.space",
    "Choice": "swarm.space",
    "Space": "swarm.space",
    "PSO": "swarm.optimizers.pso",
    "AsyncPSO": "swarm.optimizers.async_pso",
    "GA": "swarm.optimizers.genetic",
    "PBT": "swarm.optimizers.pbt",
    "Demes": "swarm.optimizers.demes",
    "Random": "swarm.optimizers.random",
    "Grid": "swarm.optimizers.grid",
    "Staged": "swarm.optimizers.staged",
    "MuPlusLambda": "swarm.optimizers.mu_plus_lambda",
    "Rescored": "swarm.optimizers.rescored",
    "TPE": "swarm.optimizers.tpe",
    "Hyperband": "swarm.optimizers.hyperband",
    "BOHB": "swarm.optimizers.bohb",
    "Job": "swarm.job",
    "Client": "swarm.client",
    "run": "swarm.runner",
    "Trial": "swarm.trial",
    "Evaluation": "swarm.trial",
    "Result": "swarm.trial",
    "Status": "swarm.trial",
    "SwarmError": "swarm.errors",
    "Infeasible": "swarm.errors",
}
__all__ = [
    "BOHB",
    "GA",
    "PBT",
    "PSO",
    "TPE",
    "AsyncPSO",
    "Choice",
    "Client",
    "Demes",
    "Evaluation",
    "Grid",
    "Hyperband",
    "Infeasible",
    "Integer",
    "Job",
    "MuPlusLambda",
    "Random",
    "Real",
    "Rescored",
    "Result",
    "Space",
    "Staged",
    "Status",
    "SwarmError",
    "Trial",
    "__version__",
    "run",
]

if TYPE_CHECKING:
    from swarm.client import Client
    from swarm.errors import Infeasible, SwarmError
    from swarm.job.job import Job
    from swarm.optimizers.async_pso import AsyncPSO
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
    from swarm.optimizers.tpe import TPE
    from swarm.runner import run
    from swarm.space.space import Choice, Integer, Real, Space
    from swarm.trial import Evaluation, Result, Status, Trial


if "SWARM_START_REPORT" in os.environ:  # a worker process, perhaps, that imports the user's script: see that module
    from swarm.main_guard import listen

    listen()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'swarm' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
