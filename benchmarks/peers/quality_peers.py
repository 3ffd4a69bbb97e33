"""The peers that benchmarks/peers/quality.py compares with (requirements-peers.txt); dask-swarm needs none of them."""

from __future__ import annotations

import importlib.util
import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.peers.quality_functions import Record
from swarm.space import Integer, Real, Space

PARTICLES = 6

Peer = Callable[[Space, Record, int, int], None]  # space, loss function, seed, evaluations


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """A configuration out of Optuna's own distributions."""
    params: dict[str, Any] = {}
    for name, domain in space.domains.items():
        if isinstance(domain, Integer):
            params[name] = trial.suggest_int(name, domain.low, domain.high)
        elif isinstance(domain, Real):
            params[name] = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
    return params


def run_optuna(sampler: str, space: Space, record: Record, seed: int, evaluations: int) -> None:
    """Optuna with a sampler's defaults."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed))
    study.optimize(lambda trial: record(suggest(trial, space)), n_trials=evaluations)


def run_pyswarms(options: Mapping[str, float], space: Space, record: Record, seed: int, evaluations: int) -> None:
    """PySwarms' global-best swarm in the unit cube."""
    from pyswarms.single import GlobalBestPSO

    d = space.dimensions
    np.random.seed(seed)
    swarm = GlobalBestPSO(PARTICLES, d, dict(options), bounds=(np.zeros(d), np.ones(d)))
    swarm.optimize(
        lambda x: np.array([record(space.decode(u)) for u in x]), math.ceil(evaluations / PARTICLES), verbose=False
    )


def run_deap_ea(space: Space, record: Record, seed: int, evaluations: int) -> None:
    """DEAP's eaSimple in the unit cube: population 12, blend crossover 0.5, Gaussian mutation 0.2, tournament 3."""
    from deap import algorithms, base, tools

    random.seed(seed)
    box = base.Toolbox()
    individual = _deap_individual()
    box.register("individual", lambda: individual(random.random() for _ in range(space.dimensions)))
    box.register("evaluate", lambda u: (record(space.decode(u)),))
    box.register("mate", tools.cxBlend, alpha=0.5)
    box.register("mutate", tools.mutGaussian, mu=0.0, sigma=0.2, indpb=0.5)
    box.register("select", tools.selTournament, tournsize=3)
    population = tools.initRepeat(list, box.individual, 12)
    algorithms.eaSimple(population, box, cxpb=0.5, mutpb=0.2, ngen=evaluations, verbose=False)


def run_deap_cma(space: Space, record: Record, seed: int, evaluations: int) -> None:
    """DEAP's CMA-ES in the unit cube, from a random point with a step of 0.3."""
    from deap import algorithms, base, cma

    np.random.seed(seed)
    strategy = cma.Strategy(np.random.random(space.dimensions), 0.3)
    box = base.Toolbox()
    box.register("generate", strategy.generate, _deap_individual())
    box.register("update", strategy.update)
    box.register("evaluate", lambda u: (record(space.decode(u)),))
    algorithms.eaGenerateUpdate(box, ngen=evaluations, verbose=False)


def _deap_individual() -> Any:
    from deap import base, creator

    if not hasattr(creator, "Individual"):
        creator.create("Fitness", base.Fitness, weights=(-1.0,))
        creator.create("Individual", list, fitness=creator.Fitness)
    return creator.Individual


PEERS: dict[str, tuple[Sequence[str], Peer]] = {
    "Optuna TPE": (("optuna",), partial(run_optuna, "TPESampler")),
    "Optuna CMA-ES": (("optuna", "cmaes"), partial(run_optuna, "CmaEsSampler")),
    "PySwarms": (("pyswarms",), partial(run_pyswarms, {"w": 0.9, "c1": 0.5, "c2": 0.3})),  # its tutorial's constants
    "PySwarms w=0.73": (("pyswarms",), partial(run_pyswarms, {"w": 0.7298, "c1": 1.49618, "c2": 1.49618})),
    "DEAP eaSimple": (("deap",), run_deap_ea),
    "DEAP CMA-ES": (("deap",), run_deap_cma),
}


def installed() -> dict[str, Peer]:
    """The peers whose packages are there."""
    return {name: peer for name, (packages, peer) in PEERS.items() if all(map(importlib.util.find_spec, packages))}
