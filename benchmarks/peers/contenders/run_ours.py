"""dask-swarm as its README calls it: an embedded cluster, the store in SQLite. The same call goes on with a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from training import Task

from swarm import PSO, AsyncPSO, Integer, Job, Random, Real, SurrogatePSO, run


def main() -> None:
    task = replace(Task.called(), resume=False)  # the same job goes on; there is nothing else to say
    kind = Integer if task.whole else Real
    method, kept, _ = task.variant.partition(", thread")  # one process of a slot runs all its trainings
    generations = task.evaluations // task.population - 1
    methods: dict[str, Any] = {
        "AsyncPSO": AsyncPSO(particles=task.population, generations=generations),
        "PSO": PSO(particles=task.population, generations=generations),
        "Random": Random(trials=task.evaluations),
        "SurrogatePSO": SurrogatePSO(trials=task.evaluations),
    }

    def train(params: Any, ctx: Any) -> float:
        return task.train(params)

    job = Job(
        name="run",
        problem=train,
        space={name: kind(low, high) for name, (low, high) in task.space.items()},
        optimizer=methods[method],
        direction="minimize",
        seed=task.seed,
        isolation="process" if task.median and not kept else "thread",  # thread: as is advised for what takes no time
    )
    best = run(job, slots=task.slots, store=f"{task.folder}/swarm.db", progress=False).best
    assert best is not None
    task.answer(best.params, best.fitness)


if __name__ == "__main__":
    main()
