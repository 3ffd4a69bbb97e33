"""Finds the hyper-parameters of deep neural networks with a swarm of trainings, one per GPU, on Dask.

Public names are imported when first used, so that ``import swarm`` costs milliseconds and no TensorFlow.
"""

from __future__ import annotations

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
    "SurrogatePSO": "swarm.optimizers.surrogate_pso",
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
    "Stop": "swarm.job",
    "Prune": "swarm.job",
    "Then": "swarm.job",
    "Context": "swarm.workers.context",
    "run": "swarm.runner",
    "Run": "swarm.runs",
    "Best": "swarm.search.state",
    "Client": "swarm.client",
    "AsyncClient": "swarm.client",
    "JobHandle": "swarm.client",
    "AsyncJobHandle": "swarm.client",
    "JobState": "swarm.client",
    "Trial": "swarm.trial",
    "Evaluation": "swarm.trial",
    "Result": "swarm.trial",
    "Status": "swarm.trial",
    "SwarmError": "swarm.errors",
    "Infeasible": "swarm.errors",
    "Ending": "swarm.errors",
    "StopSearch": "swarm.errors",
    "EndedTrial": "swarm.steering.ended_trial",
}
__all__ = [
    "BOHB",
    "GA",
    "PBT",
    "PSO",
    "TPE",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncPSO",
    "Best",
    "Choice",
    "Client",
    "Context",
    "Demes",
    "EndedTrial",
    "Ending",
    "Evaluation",
    "Grid",
    "Hyperband",
    "Infeasible",
    "Integer",
    "Job",
    "JobHandle",
    "JobState",
    "MuPlusLambda",
    "Prune",
    "Random",
    "Real",
    "Rescored",
    "Result",
    "Run",
    "Space",
    "Staged",
    "Status",
    "Stop",
    "StopSearch",
    "SurrogatePSO",
    "SwarmError",
    "Then",
    "Trial",
    "__version__",
    "run",
]

if TYPE_CHECKING:
    from swarm.client import AsyncClient, AsyncJobHandle, Client, JobHandle, JobState
    from swarm.errors import Ending, Infeasible, StopSearch, SwarmError
    from swarm.job.job import Job
    from swarm.job.rules import Prune, Stop, Then
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
    from swarm.optimizers.surrogate_pso import SurrogatePSO
    from swarm.optimizers.tpe import TPE
    from swarm.runner import run
    from swarm.runs.run import Run
    from swarm.search.state import Best
    from swarm.space.space import Choice, Integer, Real, Space
    from swarm.steering.ended_trial import EndedTrial
    from swarm.trial import Evaluation, Result, Status, Trial
    from swarm.workers.context import Context

if not TYPE_CHECKING:  # to a type checker, a module with a __getattr__ has every name, misspelt ones too

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'swarm' has no attribute {name!r}")
        try:
            value = getattr(import_module(_HOME[name]), name)
        except (ImportError, AttributeError) as error:
            from swarm.manners.shadowing import explain

            explain(error)
            raise
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
