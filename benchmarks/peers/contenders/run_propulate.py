"""Propulate with its default propagator, one MPI rank per slot: mpirun -n SLOTS python run_propulate.py TASK

A run in a folder with a checkpoint goes on from it.
"""

from __future__ import annotations

import random

from mpi4py import MPI
from propulate import Propulator
from propulate.utils import get_default_propagator
from training import Task


def main() -> None:
    task = Task.called()
    rng = random.Random(1000 * task.seed + MPI.COMM_WORLD.rank)
    limits = {name: (low, high) for name, (low, high) in task.space.items()}
    propulator = Propulator(
        loss_fn=task.train,
        propagator=get_default_propagator(pop_size=2 * task.slots, limits=limits, rng=rng),
        rng=rng,
        generations=task.evaluations // task.slots,  # of each rank
        checkpoint_path=task.folder,
    )
    propulator.propulate()
    if MPI.COMM_WORLD.rank == 0:
        best = min(propulator.population, key=lambda individual: individual.loss)
        task.answer({name: best[name] for name in task.space}, best.loss)


if __name__ == "__main__":
    main()
