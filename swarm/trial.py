"""What crosses the wire: trials, evaluations and results, as frozen dataclasses on the standard library alone.

A :class:`Trial` is what an optimizer asks for. The search splits it into one :class:`Evaluation` per fold and
repeat, the unit of work that one GPU slot runs, and a worker answers each with a :class:`Result`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fractions import Fraction
from typing import Any, Literal

from swarm.plain import canonical, plain, plain_data

Value = bool | int | float | str | list[Any] | tuple[Any, ...] | dict[Any, Any] | None
Params = Mapping[str, Any]  # a Value each
Purpose = Literal["fitness", "test"]
Isolation = Literal["process", "thread"]
Direction = Literal["maximize", "minimize"]


class Status(StrEnum):
    """How an evaluation ended.

    ``OK`` and ``FAILED`` are final, and so is ``PRUNED``: a rule found the training hopeless and ended it, and its
    fitness is the last that it reported. ``CRASHED`` (the training's process died) and ``LOST`` (its worker went away)
    are for the search to decide: it runs the evaluation again, or turns it into ``FAILED``. ``CANCELLED`` was
    asked for.

    Example:
        ::

            >>> from swarm import Status
            >>> Status("failed") is Status.FAILED
            True
            >>> f"the trial is {Status.OK}"
            'the trial is ok'
    """

    OK = "ok"
    PRUNED = "pruned"
    FAILED = "failed"
    CRASHED = "crashed"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration to try, as an optimizer asks for it.

    Attributes:
        id: Number of the trial within its search, unique.
        params: Hyper-parameters by name, decoded.
        generation: Generation that it belongs to (0 is the initial population).
        member: Index of the particle or individual within its population.
        fold: Cross-validation fold, or None for every fold that the job uses.
        budget: Train up to this budget (epochs unless the problem says otherwise); None is the problem's own.
        parent: Trial whose checkpoint the training starts from, or None.
        donors: Further trials whose checkpoints it starts from, if what it trains is made of several networks.
        note: What the method has to remember of its choice, as plain data; None where there is nothing. It is no part
            of what the trial is.

    Example:
        ::

            >>> from swarm import Random, Real, Space
            >>> trial = Random(trials=3).start(Space({"rate": Real(0, 1, digits=2)}), seed=7).ask()
            >>> trial.id, trial.params, trial.budget
            (0, {'rate': 0.63}, None)
    """

    id: int
    params: Params
    generation: int = 0
    member: int = 0
    fold: int | None = None
    budget: float | None = None
    parent: int | None = None
    donors: tuple[int, ...] = ()
    note: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "donors", tuple(self.donors))  # a journal has lists


def rank_of(budget: float | None, loss: float, trial: int) -> tuple[float, float, int]:
    """What sorts trials from the best to the worst: largest budget first, then lowest loss, then lowest id.

    The one definition of "better", for searches, tables, pages and exports alike. Losses at different budgets do not
    compare: half-trained, a network that will be good may look bad, and one that was trained on a little may have been
    lucky.

    Args:
        budget: What the trial was trained up to; None if its method sets no budgets.
        loss: What is minimised: its fitness, times -1 if a larger one is better.
        trial: Its id.
    """
    return -(budget or 0.0), loss, trial


_MOST_GPUS = 10_000  # of a slot, and slots of a GPU


def resource(gpus_per_training: float = 1) -> str:
    """Name of the Dask resource of which a slot offers one: ``GPU``, or ``GPU-2``, ``GPU-0.5`` for the other classes.

    Args:
        gpus_per_training: GPUs of a slot; below 1, one over the number of slots that share a GPU.

    Raises:
        ValueError: It is neither a whole number nor one over a whole number.
    """
    if 1 <= gpus_per_training <= _MOST_GPUS and gpus_per_training == round(gpus_per_training):
        return "GPU" if gpus_per_training == 1 else f"GPU-{gpus_per_training:.0f}"
    if 1 / _MOST_GPUS <= gpus_per_training < 1:
        share = 1 / max(2, round(1 / gpus_per_training))
        if abs(gpus_per_training - share) < share / 50:  # 0.33 is a third
            return f"GPU-{share:.3g}"
    raise ValueError(f"GPUs per training can be 1, 2, 3, … or 1/2, 1/3, … (0.5, 0.33, …), not {gpus_per_training:g}")


PART = 2.0**-32  # of each number of a sum, which then is a float for up to 2^32 of the largest; exact


def mean(values: Sequence[float]) -> float:
    """The float that is nearest to the mean of these, one or more: the one mean over folds and repeats.

    A sum of floats would round on the way: the mean of 1.0, 1.1 and 1.2 would be 1.0999999999999999, that of others
    would depend on their order, and that of large ones would overflow.
    """
    return values[0] if len(values) == 1 else float(sum(map(Fraction, values)) / len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One metric of a fitness that is a list of them: it decides, unless two trainings are alike in it.

    Attributes:
        metric: Name of a metric that the training returns.
        direction: Whether a larger or a smaller one is better.
        tolerance: Trainings whose metrics round to the same multiple of it are alike; None of the last criterion.
    """

    metric: str
    direction: Direction
    tolerance: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tolerance", plain(self.tolerance))


Merit = Mapping[str, float] | Sequence[Criterion]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A trial on one fold and one repeat: the unit of work that one GPU slot runs.

    Build it with :meth:`of`, which derives the key and the seed. ``isolation``, ``time_limit``, ``slice`` and
    ``gpu_memory`` say how it is run, not what it is, and are no part of the key.

    Attributes:
        key: Hex digest that names the work: archive key and Dask task key.
        problem: Fingerprint of the problem.
        params: Hyper-parameters by name, decoded.
        seed: Seed of the training, below 2**31, derived from the key.
        budget: Train up to this budget; None is the problem's own.
        fold: Cross-validation fold, 0 … 9.
        repeat: Number of the repetition (another repeat, another seed).
        purpose: ``fitness`` trains and validates; ``test`` trains and scores on the unseen test set.
        parent: Key of the evaluation whose checkpoint the training starts from.
        donors: Keys of further evaluations whose checkpoints it starts from.
        isolation: ``process`` runs in a child process of the worker, which only slices of one problem share;
            ``thread`` in a process of the slot that stays, or where the worker has one slot in its own thread.
        time_limit: Wall-clock limit in seconds, or None.
        slice: Whether it is a slice of a training that is handed on from trial to trial. It trains all of its budget,
            and fails if the checkpoint of its parent is not there.
        merit: Weights of the metrics whose sum is the fitness, or criteria, the first of which decides; None takes
            what the training calls its fitness.
        replicas: Number of slots that train it together, each on its share of every batch.
        sync: Whether they take every step together, or each as it comes.
        deterministic: Whether its frameworks are told to give equal numbers each time, on a GPU, too; part of the key,
            since the numbers are others.
        gpu_memory: Bytes that each of its GPUs must have free, or None for what a slot has; no part of the key.

    Example:
        Equal work has an equal key, so that the archive can answer it; another fold is other work::

            >>> from swarm import Evaluation
            >>> one, same = (Evaluation.of("a problem's fingerprint", {"rate": 0.1}) for _ in range(2))
            >>> other = Evaluation.of("a problem's fingerprint", {"rate": 0.1}, fold=1)
            >>> one.key == same.key, one.key == other.key
            (True, False)
    """

    key: str
    problem: str
    params: Params
    seed: int
    budget: float | None = None
    fold: int = 0
    repeat: int = 0
    purpose: Purpose = "fitness"
    parent: str | None = None
    isolation: Isolation = "process"
    time_limit: float | None = None
    slice: bool = False
    merit: Merit | None = None
    donors: tuple[str, ...] = ()
    replicas: int = 1
    sync: bool = True
    deterministic: bool = False
    gpu_memory: int | None = None

    @classmethod
    def of(
        cls,
        problem: str,
        params: Params,
        *,
        budget: float | None = None,
        fold: int = 0,
        repeat: int = 0,
        purpose: Purpose = "fitness",
        parent: str | None = None,
        salt: str = "",
        isolation: Isolation = "process",
        time_limit: float | None = None,
        slice: bool = False,
        merit: Merit | None = None,
        donors: Sequence[str] = (),
        replicas: int = 1,
        sync: bool = True,
        deterministic: bool = False,
        gpu_memory: int | None = None,
        key: str | None = None,
    ) -> Evaluation:
        """The evaluation of ``params`` on the problem whose fingerprint is ``problem``.

        ``salt`` sets evaluations apart that would otherwise be one and the same (a job that uses no archive).
        The seed comes from the key, so that an answer from the archive is what training again would give. ``key`` is
        for an evaluation that has its key already, perhaps from an earlier version, which hashed otherwise.
        """
        params, merit = plain_data(dict(params)), plain_data(dict(merit)) if isinstance(merit, Mapping) else merit
        fold, repeat, replicas, time_limit = plain(fold), plain(repeat), plain(replicas), plain(time_limit)
        budget = None if budget is None else float(budget)  # 1 and 1.0 would be two keys
        if key is None:
            parts = [problem, canonical(params), budget, fold, repeat, purpose, parent, salt]
            key = _key(parts, merit, donors, replicas, sync, deterministic)
        return cls(
            key=key,
            problem=problem,
            params=params,
            seed=_seed(key),
            budget=budget,
            fold=fold,
            repeat=repeat,
            purpose=purpose,
            parent=parent,
            isolation=isolation,
            time_limit=time_limit,
            slice=slice,
            merit=merit,
            donors=tuple(donors),
            replicas=replicas,
            sync=sync,
            deterministic=deterministic,
            gpu_memory=gpu_memory,
        )


def _key(
    parts: list[Any], merit: Merit | None, donors: Sequence[str], replicas: int, sync: bool, deterministic: bool
) -> str:
    """What names an evaluation, from that which makes it what it is; what few have counts only where it is there."""
    if isinstance(merit, Mapping):
        parts.append(canonical(merit))
    elif merit is not None:
        parts.append([[each.metric, each.direction, each.tolerance] for each in merit])
    if donors:
        parts.append({"donors": list(donors)})
    if replicas > 1:  # other random numbers, and if they are asynchronous, another training
        parts.append({"replicas": replicas, "sync": sync})
    if deterministic:
        parts.append({"deterministic": True})
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def _seed(key: str) -> int:
    return int(key[:8], 16) & 0x7FFFFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an evaluation ended: ``status`` is OK or PRUNED if and only if there is a finite fitness.

    Attributes:
        key: Key of the evaluation.
        status: How it ended.
        fitness: What the training returned, in the problem's own direction; None unless OK or PRUNED.
        metrics: Other numbers that the training returned, finite.
        curve: What the training reported on the way, a mapping per report, in order.
        seconds: Wall-clock seconds of the training.
        start: When it started, seconds since the epoch on the worker's clock.
        end: When it ended.
        slot: Name of the worker slot that ran it.
        error: One line that says why there is no fitness, and below it the user's own lines of code that led there, if
            any did.
        blamed: The configuration itself is to blame for the failure, wherever and whenever it is trained: it is
            infeasible, its fitness is no finite number, or its process died by itself, twice. Of a result that is
            CRASHED: the training's process died by itself, and no machine took it down. Every other failure (a missing
            file, an exception, the job's time limit, workers that went away) is that of one job alone.
        drained: Of a result that is LOST: its worker was told to end, and has ended in order. However often that
            happens, the training runs again, from what it saved last.

    Raises:
        ValueError: Status and fitness contradict each other.

    Example:
        ::

            >>> from swarm import Result, Status
            >>> result = Result(key="0f", status=Status.OK, fitness=0.97, metrics={"loss": 0.1})
            >>> Result.from_dict(result.to_dict()) == result
            True
            >>> Result(key="0f", status=Status.OK, fitness=float("nan"))
            Traceback (most recent call last):
            ValueError: a result that is ok needs a finite fitness, not nan
    """

    key: str
    status: Status
    fitness: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()
    seconds: float = 0.0
    start: float = 0.0
    end: float = 0.0
    slot: str = ""
    error: str | None = None
    blamed: bool = False
    drained: bool = False

    def __post_init__(self) -> None:
        if self.status in (Status.OK, Status.PRUNED):
            if self.fitness is None or not math.isfinite(self.fitness):
                raise ValueError(f"a result that is {self.status} needs a finite fitness, not {self.fitness!r}")
        elif self.fitness is not None:
            raise ValueError(f"a result that is {self.status} has no fitness, got {self.fitness!r}")

    @property
    def answers_others(self) -> bool:
        """Whether it is the answer for whoever asks for this evaluation: it says something of the configuration.

        A failure does only if the configuration is to blame for it. A pruned training says more of those that it was
        compared with.
        """
        return self.status is Status.OK or (self.status is Status.FAILED and self.blamed)

    @property
    def reason(self) -> str | None:
        """First line of the error; None if there is no error."""
        return self.error.partition("\n")[0] if self.error else None

    @property
    def traceback(self) -> str | None:
        """Where the user's code failed, the lines below the reason; None if that is not known."""
        return traceback_of(self.error)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` reads it back."""
        data = {
            name: getattr(self, name) for name in _RESULT_FIELDS
        }  # asdict copies deeply, which takes ten times as long
        if not self.drained:  # an earlier version does not know it, and nearly none is
            del data["drained"]
        return {
            **data,
            "status": self.status.value,
            "metrics": dict(self.metrics),
            "curve": list(map(dict, self.curve)),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Result:
        """The result that :meth:`to_dict` wrote, or that of an earlier version, which had it blame no one expressly."""
        data = dict(data)
        data.pop("passing", None)  # what an earlier version knew: it took every failure but these for an answer
        data.setdefault("blamed", data["status"] == Status.FAILED and _blamed_before(data.get("error") or ""))
        return cls(**{**data, "status": Status(data["status"]), "curve": tuple(data.get("curve", ()))})


STARTS_OVER = "it starts over elsewhere"
"""Stands in the :attr:`Result.error` of a training that was drained and had saved nothing to go on from."""


def traceback_of(error: str | None) -> str | None:
    """The lines below the reason of a :attr:`Result.error`; None if there are none."""
    return (error or "").partition("\n")[2] or None


def place_in(folder_of_results: str, key: str) -> str:
    """Path of the file in which the result of the evaluation ``key`` is committed; two digits spread the files."""
    return f"{folder_of_results}/{key[:2]}/{key}.json"


def output_in(folder_of_results: str, key: str) -> str:
    """Path of the file that holds what the training of evaluation ``key`` has printed."""
    return f"{folder_of_results}/{key[:2]}/{key}.txt"


def artifacts_in(folder_of_results: str, key: str) -> str:
    """Path of the folder that holds the files which the training of evaluation ``key`` has left."""
    return f"{folder_of_results}/{key[:2]}/{key}.files"


def _blamed_before(error: str) -> bool:
    """Whether a failure that an earlier version has written is recognisably the configuration's own."""
    reason, _, _ = error.partition("\n")
    died = reason.startswith("training's process ") and reason.endswith(f"({_RUNS_OF_A_CRASH} times)")
    endless = reason.startswith("InvalidProblem:") and reason.endswith("which is no finite number")
    return died or endless or reason.startswith(("Infeasible:", "NeverReached:"))


_RUNS_OF_A_CRASH = 2
_RESULT_FIELDS = tuple(each.name for each in fields(Result))
