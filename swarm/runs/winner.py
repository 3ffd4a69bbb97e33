"""The winner of a run: its trained network, as it was kept or else trained again, to save, to score and to train on.

User code runs in a child process, as in every training.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle

from swarm.errors import InvalidInput, InvalidJob, InvalidProblem, SwarmError
from swarm.store.events import Asked
from swarm.store.sql import Store
from swarm.trial import Evaluation, Params, Status
from swarm.workers import winner
from swarm.workers.checkpoints.checkpoint import Checkpoint, CheckpointCorrupt, CheckpointMissing, CheckpointStore
from swarm.workers.isolation import process

if TYPE_CHECKING:
    from swarm.runs.found import Found

Report = Callable[[Mapping[str, float]], None]


@dataclass(frozen=True)
class Finished:
    """What has been done with a winner.

    Attributes:
        trained: Fitness of the training that was repeated; None if the winner had been kept.
        further: Fitness after it was trained further, if it was.
        tested: Its score on the unseen test set, if it was asked for.
    """

    trained: float | None = None
    further: float | None = None
    tested: float | None = None


@dataclass(frozen=True)
class Winner:
    """The best trial of a run and where its trained network is.

    Attributes:
        run: The run.
        evaluation: What was trained. Where folds or repeats make it several trainings, the best of them.
        fitness: Of that training.
        kept: What its training has saved; None if that is not there, and it must be trained again.
        missing: Why that is not there.
    """

    run: Found
    evaluation: Evaluation
    fitness: float
    kept: Checkpoint | None
    missing: str

    @classmethod
    def of(cls, run: Found, checkpoints: str | None = None) -> Winner:
        """The winner of a run.

        Args:
            run: A run with a best trial, ended or not.
            checkpoints: URL or folder of its checkpoints; left out, as the job says, or beside the store.

        Raises:
            InvalidJob: No training has succeeded yet.
        """
        if run.best is None:
            raise InvalidJob(f"run {run.job.name!r} has no best yet: no training has succeeded")
        line = _line(run, run.best.trial.id)
        place, key, fitness = _best_training(run, line[0])
        # What continued its parent's checkpoint took over its seed as well.
        origin = line[-1] if run.job.checkpoints else line[0]
        seed = run.job.evaluations(origin.trial)[place].seed
        again = replace(run.job.evaluations(line[0].trial)[place], key=key, seed=seed, time_limit=None)
        return cls(run, again, fitness, *_kept(checkpoints or _url(run), key))

    @property
    def params(self) -> Params:
        """Its hyper-parameters."""
        return self.evaluation.params

    def finish(
        self,
        *,
        save: Path | None = None,
        test: bool = False,
        more: float | None = None,
        report: Report = lambda _: None,
    ) -> Finished:
        """Take up the winner: train it further, score it, save it, in this order.

        Args:
            save: A file of Keras (``winner.keras``) for a :class:`~swarm.workers.keras.KerasProblem`; for other
                problems a folder, for the files that their training saves. Files of the same names are replaced.
            test: Score it on the unseen test set.
            more: Train it so much further, in the units of the budget (epochs), without stopping early.
            report: Called with what trainings report.

        Raises:
            InvalidInput: Nothing is asked for, or what would be trained further would be lost.
            InvalidProblem: The problem has no test set, or the winner cannot be trained again.
            SwarmError: A training failed; the text says why.
        """
        if save is None and not test:
            raise InvalidInput("say what to do with the winner: save it, or test it; training more alone would be lost")
        if test and not self.run.job.code.testable:
            raise InvalidProblem(f"problem {self.run.job.code.name} has no test(params, ctx), so it has no test score")
        if self.kept is None and self.run.job.optimizer.inherits:
            raise InvalidProblem(
                f"{self.missing}, and no single training would give it again: train one by the schedule that was "
                f"found, swarm replay {self.run.job.name}"
            )
        with tempfile.TemporaryDirectory(prefix="swarm-") as folder:
            scratch = Path(folder)
            if self.kept is not None:
                CheckpointStore(str(scratch)).save(self.evaluation.key, self.kept.arrays, self.kept.meta)
            file = None if save is None else scratch / "saved" / save.name
            metrics = self._run(scratch, file, test, more, report)
            if save is not None and file is not None:
                _move(file, save)
        steps = (winner.TRAINED, winner.FURTHER, winner.TESTED)
        return Finished(*(metrics.get(step) for step in steps))

    def _run(
        self, scratch: Path, file: Path | None, test: bool, more: float | None, report: Report
    ) -> Mapping[str, float]:
        task = winner.Winner(
            problem=self.run.job.code.pickle,
            evaluation=self.evaluation,
            checkpoints=str(scratch),
            more=more,
            test=test,
            file=None if file is None else str(file),
        )
        if file is not None:
            file.parent.mkdir()
        result = process.run(cloudpickle.dumps(task), Evaluation.of("winner", self.params), report)
        if result.status is not Status.OK:
            raise SwarmError((result.error or result.status).splitlines()[0])
        return result.metrics


def _line(run: Found, trial: int) -> list[Asked]:
    """What the journal says of a trial, and of those that it continues, back to the first."""
    with closing(Store(run.url, create=False)) as store:
        events = [event for event in store.events(run.job.name) if isinstance(event, Asked)]
    asked = {event.trial.id: event for event in events if event.purpose == "fitness"}
    line = [asked[trial]]
    while (parent := line[-1].trial.parent) is not None:
        line.append(asked[parent])
    return line


def _best_training(run: Found, asked: Asked) -> tuple[int, str, float]:
    """Number, key and fitness of the best evaluation of a trial."""
    keys = [evaluation.key for evaluation in asked.evaluations]
    with closing(Store(run.url, create=False)) as store:
        results = [store.result(key) for key in keys]
    found = [
        (run.job.sign * result.fitness, place, result.fitness)
        for place, result in enumerate(results)
        if result is not None and result.fitness is not None
    ]
    assert run.best is not None
    _, place, fitness = min(found, default=(0.0, 0, run.best.fitness))  # what was pruned is in no archive
    return place, keys[place], fitness


def _url(run: Found) -> str | None:
    """Where the run keeps its checkpoints, by what is known here."""
    if isinstance(run.job.checkpoints, str):
        return run.job.checkpoints
    folder = Store.folder_of(run.url)
    return None if folder is None or not run.job.checkpoints else str(folder / "checkpoints")


def _kept(checkpoints: str | None, key: str) -> tuple[Checkpoint | None, str]:
    """The checkpoint of an evaluation, or None and why there is none."""
    if checkpoints is None:
        return None, "the run keeps no checkpoints"
    try:
        return CheckpointStore(checkpoints).load(key), ""
    except CheckpointMissing:
        return None, f"the checkpoint of the best is not in {checkpoints}"
    except (CheckpointCorrupt, OSError) as error:
        return None, str(error)


def _move(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.move(source, target)
    except OSError as error:
        raise InvalidInput(f"cannot write {target}: {error}") from None
