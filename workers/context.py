"""What a training sees of the evaluation that it answers, and how it reports on the way."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarm.plain import plain_data
from swarm.trial import Evaluation, Params, Purpose
from swarm.workers.checkpoints.artifacts import Artifacts
from swarm.workers.checkpoints.checkpoint import Checkpoint, Progress
from swarm.workers.replicas.data_parallel import Replicas
from swarm.workers.wording import text_of

if TYPE_CHECKING:
    from swarm.workers.checkpoints.pack import NamedArrays

Report = Callable[[Mapping[str, float]], None]
Left = Callable[[], float | None]  # seconds until its worker ends, or None

CURVE_LIMIT = 1000


def number(value: Any) -> float | None:
    """``value`` as a finite float (NumPy scalars and 0-d arrays too), or None where it is not one."""
    if isinstance(value, str | bytes):
        return None  # float("3") would take them
    try:
        converted = float(value)
    except Exception:  # TypeError, ValueError, OverflowError, and whatever a __float__ of the user's raises
        return None
    return converted if math.isfinite(converted) else None


def encodable(text: str) -> str:
    """The text with its lone surrogates escaped, as the name of a file has that is not UTF-8: they cannot be sent."""
    return text.encode("utf-8", "backslashreplace").decode()


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among ``values``, as floats, by names that can be sent; the others are left out."""
    converted = {encodable(text_of(name)): number(value) for name, value in values.items()}
    return {name: value for name, value in converted.items() if value is not None}


def _ignore(metrics: Mapping[str, float]) -> None:
    pass


def stays() -> float | None:
    """What tells a training whose worker does not end."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a training is told, and how it reports and saves: the second argument of ``train(params, ctx)``.

    The worker makes one for every training. Made with its defaults, ``Context()``, it serves to try a training function
    by hand: reports go nowhere, and nothing is saved.

    Attributes:
        params: Hyper-parameters by name, the same that the training function is called with; :attr:`nested` has those
            with a dot in their names as dictionaries in each other.
        budget: Train up to this budget, counted from the start of the training and not from its last checkpoint, in
            epochs unless the problem counts something else; None where the method sets no budgets: take your own.
        seed: Seed for every source of randomness of the training, from 0 to 2**31 - 1. The same evaluation always has
            the same seed.
        fold: Cross-validation fold to validate on, 0 … 9; 0 where the job uses no folds.
        repeat: Number of the repetition, from 0; another repetition has another seed.
        purpose: ``fitness``, or ``test`` where the best is scored on the unseen test set.
        parent: Key of the evaluation whose training this one continues, or None.
        slice: Whether another training may continue this one with other hyper-parameters: train up to the budget
            without early stopping, and save what you end with.
        replicas: The slots that train this network together, of which this process is one; it is alone unless the job
            says otherwise.

    Example:
        A training function is tried by hand with a context of defaults; in a search it gets its own::

            >>> from typing import Any
            >>> from swarm import Context
            >>> def train(params: dict[str, Any], ctx: Context) -> float:
            ...     loss = 1.0
            ...     for epoch in range(int(ctx.budget or 10)):
            ...         loss *= 1 - params["rate"]
            ...         ctx.report(epoch=epoch, loss=loss)
            ...     return -loss
            >>> train({"rate": 0.5}, Context(budget=3, seed=7))
            -0.125
    """

    params: Params = field(default_factory=dict)
    budget: float | None = None
    seed: int = 0
    fold: int = 0
    repeat: int = 0
    purpose: Purpose = "fitness"
    parent: str | None = None
    slice: bool = False
    replicas: Replicas = field(default_factory=Replicas, repr=False, compare=False)
    _send: Report = field(default=_ignore, repr=False, compare=False)
    _progress: Progress | None = field(default=None, repr=False, compare=False)
    _left: Left = field(default=stays, repr=False, compare=False)
    _artifacts: Artifacts | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        send: Report = _ignore,
        progress: Progress | None = None,
        replicas: Replicas | None = None,
        left: Left = stays,
        artifacts: Artifacts | None = None,
    ) -> Context:
        """That of ``evaluation``; reports go to ``send``, checkpoints to ``progress``, files to ``artifacts``.

        ``left()`` gives the seconds until its worker ends, if that was told to.
        """
        return cls(
            params=plain_data(dict(evaluation.params)),
            budget=evaluation.budget,
            seed=evaluation.seed,
            fold=evaluation.fold,
            repeat=evaluation.repeat,
            purpose=evaluation.purpose,
            parent=evaluation.parent,
            slice=evaluation.slice,
            replicas=replicas or Replicas(),
            _send=send,
            _progress=progress,
            _left=left,
            _artifacts=artifacts,
        )

    @property
    def nested(self) -> dict[str, Any]:
        """The hyper-parameters as a nested dictionary: ``model.units`` as ``nested["model"]["units"]``."""
        found: dict[str, Any] = {}
        for name, value in self.params.items():
            *groups, last = name.split(".")
            inner = found
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[last] = plain_data(value)
        return found

    def report(self, value: float | None = None, /, *more: object, **metrics: float) -> bool:
        """Adds a point to the learning curve, e.g. ``ctx.report(epoch=3, val_accuracy=0.97)``.

        The dashboard and the report draw it, and a job's ``prune`` judges by it. Call it once per epoch, not once per
        batch. A value that is no finite number is left out.

        Args:
            value: The fitness so far, ``ctx.report(0.97, step=3)``; it is drawn as ``fitness``, and ``prune`` judges by
                it where its own metric is not reported.
            more: Nothing; who passes more is told how to name it.
            metrics: Numbers by name. ``step`` or ``epoch`` is how far the training has come.

        Returns:
            Whether that is as far as :attr:`budget` says: a method such as Hyperband wants it to end there.

        Raises:
            TypeError: There are several values without names.
        """
        if more:
            step = more[0]
            raise TypeError(
                f"ctx.report takes one value, the fitness so far, and all else by name: ctx.report({value!r}, "
                f"step={step!r}), or ctx.report({step!r}, step={value!r}) if the step came first"
            )
        named = metrics if value is None else {"fitness": value, **metrics}
        self._send(numbers(named))
        reached = named.get("step", named.get("epoch"))
        return self.budget is not None and isinstance(reached, int | float) and reached >= self.budget

    @property
    def ending(self) -> float | None:
        """Seconds until this training is ended because its worker ends; None as long as that was not told to.

        A worker is told before its machine is taken away: by Slurm at the end of a job's time, by Kubernetes, by
        Docker, or by its lifetime. Ask it between two steps or epochs; it costs some microseconds. Who has no more time
        than that saves and raises :class:`swarm.Ending`, and the training goes on elsewhere from there; who is about to
        end anyway ends. What still runs at 0 is ended, and begins again elsewhere from what it saved last.
        """
        return self._left()

    @property
    def wants_checkpoint(self) -> bool:
        """Whether there is a place to save to; where there is none, :meth:`save` does nothing."""
        return self._progress is not None

    def restore(self) -> Checkpoint | None:
        """What to continue from; None means to start from scratch.

        It is what an interrupted attempt at this very evaluation saved last, else the checkpoint of the parent.
        Ask once, before training. A parent's checkpoint that is no longer there is None, too, unless this is a slice.

        Returns:
            A checkpoint with what was saved as ``arrays``, NumPy arrays by name, and ``meta``, all else by name.

        Raises:
            CheckpointCorrupt: The parent's checkpoint is damaged; let it pass, and the evaluation fails with it.
            CheckpointMissing: It is not there, and this is a slice; let it pass, too.
            OSError: The storage cannot be read.
        """
        return None if self._progress is None else self._progress.restore()

    def restore_all(self) -> list[Checkpoint]:
        """What to continue from if the training is made of several networks; an empty list is to start from scratch.

        It is what an interrupted attempt saved last, alone, else the checkpoints of the parent and the donors, of which
        the training chooses. Ask once, before training, and do not ask :meth:`restore`.

        Raises:
            CheckpointCorrupt, CheckpointMissing, OSError: As :meth:`restore`.
        """
        return [] if self._progress is None else self._progress.restore_all()

    def save(self, arrays: NamedArrays, **meta: Any) -> None:
        """Saves the state of the training, e.g. ``ctx.save({"weights": w, "momentum": m}, epoch=3)``.

        Each save replaces the one before; the last becomes this evaluation's checkpoint when the training has
        returned. Saving on the way is of use where repeating the training so far would cost more.

        Args:
            arrays: NumPy arrays by name, of numbers or texts.
            meta: Anything else, JSON-ready.

        Raises:
            ValueError: An array of objects, or a number in ``meta`` that is not finite.
            TypeError: ``meta`` is not JSON-ready.
            OSError: The storage does not take it.
        """
        if self._progress is not None:
            self._progress.save(arrays, meta)

    def artifact(self, path: str | os.PathLike[str], name: str | None = None) -> bool:
        """Keeps a copy of a file with the trial, e.g. ``ctx.artifact("confusion.png")``: a picture, a table, a model.

        The page of the trial shows pictures and short texts, and lets anything be downloaded; ``run.artifacts(trial)``
        has their paths. It is no part of what the training is: who is answered by the archive sees the files of the
        training that gave the answer. Nothing that is wrong with a file fails the training: it says in its output what
        was not kept, and why.

        Args:
            path: The file. It may be changed or deleted afterwards.
            name: What it is called there, a name without folders; left out, its own. Another file of that name is
                replaced.

        Returns:
            Whether it is kept. It is not if it is no file, if the training has left too much already (the setting
            ``swarm.max-artifacts``), and where no folder is known that all workers see.
        """
        return self._artifacts is not None and self._artifacts.keep(path, name)


class Curve:
    """The reports of one training, thinned out evenly so that there are never more than ``CURVE_LIMIT``."""

    def __init__(self) -> None:
        self._points: list[Mapping[str, float]] = []
        self._last: Mapping[str, float] | None = None
        self._reports = 0
        self._stride = 1

    def append(self, metrics: Mapping[str, float]) -> None:
        """Takes the next report; every second point is dropped when there are too many."""
        self._last = metrics
        if self._reports % self._stride == 0:
            self._points.append(metrics)
            if len(self._points) >= CURVE_LIMIT:
                self._points = self._points[::2]
                self._stride *= 2
        self._reports += 1

    def points(self) -> tuple[Mapping[str, float], ...]:
        """What is kept, in order; the first and the last report are always among it."""
        if self._last is None or self._points[-1] is self._last:
            return tuple(self._points)
        return (*self._points, self._last)
