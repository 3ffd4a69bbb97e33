"""LEAP on Dask, as in its examples of distributed evaluation: asynchronous steady state, or generations.

It keeps nothing on disk: a run that was cut short begins again.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import toolz
from distributed import Client, LocalCluster
from leap_ec import Representation, ops
from leap_ec.distrib import DistributedIndividual, asynchronous, synchronous
from leap_ec.int_rep.initializers import create_int_vector
from leap_ec.int_rep.ops import mutate_randint
from leap_ec.problem import ScalarProblem
from leap_ec.real_rep.initializers import create_real_vector
from leap_ec.real_rep.ops import mutate_gaussian
from training import Task


class Training(ScalarProblem):
    def __init__(self, task: Task) -> None:
        super().__init__(maximize=False)
        self.task = task

    def evaluate(self, phenome: Any, *args: Any, **kwargs: Any) -> float:
        return self.task.train(dict(zip(self.task.space, phenome.tolist(), strict=True)))


def search(task: Task, client: Client) -> Any:
    """The final population."""
    bounds = list(task.space.values())
    mutate: Any = mutate_gaussian(std=0.1, bounds=bounds, expected_num_mutations="isotropic")
    if task.whole:
        mutate = mutate_randint(bounds=bounds, expected_num_mutations=1)
    representation = Representation(
        initialize=(create_int_vector if task.whole else create_real_vector)(bounds),
        individual_cls=DistributedIndividual,
    )
    breed = [ops.tournament_selection, ops.clone, ops.UniformCrossover(), mutate]
    if task.variant == "asynchronous":
        return asynchronous.steady_state(
            client,
            max_births=task.evaluations - 2 * task.slots,  # it does not count the initial population
            init_pop_size=2 * task.slots,  # no worker waits for the next one to be bred
            pop_size=2 * task.slots,
            representation=representation,
            problem=Training(task),
            offspring_pipeline=[*breed, ops.pool(size=1)],
        )
    parents = representation.create_population(task.population, problem=Training(task))
    parents = synchronous.eval_population(parents, client=client)
    for _ in range(task.evaluations // task.population - 1):
        parents = toolz.pipe(
            parents,
            *breed,
            synchronous.eval_pool(client=client, size=task.population),
            ops.elitist_survival(parents=parents),
        )
    return parents


def main() -> None:
    task = Task.called()
    random.seed(task.seed)
    np.random.seed(task.seed)
    with (
        LocalCluster(n_workers=task.slots, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        best = min(search(task, client), key=lambda individual: individual.fitness)
        task.answer(dict(zip(task.space, best.genome.tolist(), strict=True)), best.fitness)


if __name__ == "__main__":
    main()
