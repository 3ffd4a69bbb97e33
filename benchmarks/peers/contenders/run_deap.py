"""DEAP's simple genetic algorithm on a pool of processes, with the checkpoints of its documentation.

The loop is that of ``eaSimple``, written out as the page on checkpointing has it, with a checkpoint per generation.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
from pathlib import Path
from typing import Any

from deap import algorithms, base, creator, tools
from training import Task

creator.create("Loss", base.Fitness, weights=(-1.0,))
creator.create("Individual", list, fitness=creator.Loss)


def evaluate(task: Task, individual: list[float]) -> tuple[float]:
    return (task.train(dict(zip(task.space, individual, strict=True))),)


def toolbox_of(task: Task) -> Any:
    box = base.Toolbox()
    low, high = ([float(pair[i]) for pair in task.space.values()] for i in (0, 1))
    share = 1 / len(low)
    if task.whole:
        low, high = [int(each) for each in low], [int(each) for each in high]
        box.register("draw", lambda: map(random.randint, low, high))
        box.register("mate", tools.cxUniform, indpb=0.5)
        box.register("mutate", tools.mutUniformInt, low=low, up=high, indpb=share)
    else:
        box.register("draw", lambda: map(random.uniform, low, high))
        box.register("mate", tools.cxSimulatedBinaryBounded, eta=20.0, low=low, up=high)
        box.register("mutate", tools.mutPolynomialBounded, eta=20.0, low=low, up=high, indpb=share)
    box.register("individual", tools.initIterate, creator.Individual, box.draw)
    box.register("population", tools.initRepeat, list, box.individual)
    box.register("select", tools.selTournament, tournsize=3)
    box.register("evaluate", evaluate, task)
    return box


def main() -> None:
    task = Task.called()
    random.seed(task.seed)
    box = toolbox_of(task)
    checkpoint = Path(task.folder, "checkpoint.pkl")
    state: dict[str, Any] = {"population": box.population(task.population), "best": tools.HallOfFame(1), "evaluated": 0}
    if task.resume and checkpoint.is_file():
        state = pickle.loads(checkpoint.read_bytes())
        random.setstate(state["random"])
    with multiprocessing.Pool(task.slots) as pool:
        box.register("map", pool.map)
        while state["evaluated"] < task.evaluations:
            if state["evaluated"]:
                chosen = box.select(state["population"], task.population)
                state["population"] = algorithms.varAnd(chosen, box, cxpb=0.7, mutpb=0.3)
            new = [individual for individual in state["population"] if not individual.fitness.valid]
            for individual, fitness in zip(new, box.map(box.evaluate, new), strict=True):
                individual.fitness.values = fitness
            state["best"].update(state["population"])
            state["evaluated"] += len(new)
            checkpoint.write_bytes(pickle.dumps({**state, "random": random.getstate()}))
    best = state["best"][0]
    task.answer(dict(zip(task.space, best, strict=True)), best.fitness.values[0])


if __name__ == "__main__":
    main()
