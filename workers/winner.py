"""The winner of a search, taken up again: trained if nothing of it was kept, trained further, scored, and saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarm.errors import InvalidProblem, SwarmError
from swarm.trial import Evaluation, Params, Status
from swarm.workers.checkpoints.checkpoint import Checkpoint, CheckpointStore
from swarm.workers.command import CommandProblem, unpack
from swarm.workers.context import Context
from swarm.workers.ensemble import Ensemble, divided
from swarm.workers.keras.layers import dropout_layer
from swarm.workers.keras.problem import KerasProblem
from swarm.workers.problem import Problem, attempt, load, prepare

if TYPE_CHECKING:
    import keras

KERAS_FILES = (".keras", ".h5")
PROGRESS = ("epoch", "generation")  # what a checkpoint says of how far it is
SAVED = "checkpoint"  # name of a saved checkpoint, without its ending
TRAINED, FURTHER, TESTED = "trained", "further", "tested"  # metrics: the fitness of each step that was taken


class StepFailed(SwarmError):
    """A step of taking up the winner has failed; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Winner:
    """A problem whose training takes up what another problem has trained.

    Attributes:
        problem: The other problem, pickled.
        evaluation: What was trained.
        checkpoints: URL of a checkpoint store for this purpose. If there is no checkpoint of the evaluation in it, the
            evaluation is trained first.
        more: Train it so much further, in the units of the budget; None leaves it as it is.
        test: Score it on the unseen test set.
        file: Where to save it: a file of Keras (``.keras``, ``.h5``), or a folder for what its training saves; None
            saves nothing.
    """

    problem: bytes
    evaluation: Evaluation
    checkpoints: str
    more: float | None = None
    test: bool = False
    file: str | None = None

    @property
    def preload(self) -> tuple[str, ...]:
        """What the other problem has imported before it trains."""
        return tuple(getattr(load(self.problem), "preload", ()))

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Takes the steps.

        Returns:
            The fitness by step that was taken: ``trained``, ``further``, ``tested``; the last is the ``fitness``.

        Raises:
            StepFailed: A training failed.
            InvalidProblem: The problem saves nothing, cannot tell how far it is, or is no network of Keras.
        """
        problem, store = load(self.problem), CheckpointStore(self.checkpoints)
        if self.file is not None and Path(self.file).suffix in KERAS_FILES:
            _check_network(problem)  # now, and not when it has been trained
        prepare(problem)
        step = self.evaluation
        fitness: dict[str, float] = {}
        if not store.exists(step.key) and self.file is None and self.more is None:  # to be scored: that trains, too
            fitness[TESTED] = self._taken(problem, replace(step, purpose="test"), ctx)
            return {"fitness": fitness[TESTED], **fitness}
        if not store.exists(step.key):
            fitness[TRAINED] = self._taken(problem, step, ctx)
            if not store.exists(step.key):
                raise InvalidProblem("the training saves nothing: call ctx.save(arrays, epoch=…) before it returns")
        if self.more is not None:
            step = _continued(step, _reached(store.load(step.key), step) + self.more)
            fitness[FURTHER] = self._taken(problem, step, ctx)
        checkpoint = store.load(step.key)
        if self.test:
            tested = _continued(step, _reached(checkpoint, step), purpose="test")
            fitness[TESTED] = self._taken(problem, tested, ctx)
        if self.file is not None:
            save(problem, self.evaluation.params, checkpoint, Path(self.file))
        return {"fitness": next(reversed(fitness.values()), 0.0), **fitness}

    def _taken(self, problem: Problem, step: Evaluation, ctx: Context) -> float:
        def report(metrics: Mapping[str, float]) -> None:
            ctx.report(**metrics)

        result = attempt(problem, step, report, self.checkpoints)
        if result.status is not Status.OK or result.fitness is None:
            raise StepFailed((result.error or result.status).splitlines()[0])
        return result.fitness


def save(problem: Problem, params: Params, checkpoint: Checkpoint, path: Path) -> None:
    """Saves what was trained.

    Args:
        problem: What was trained.
        params: Its hyper-parameters.
        checkpoint: What its training has saved.
        path: A file of Keras, for a network of Keras; or a new folder: for the files that a command has left, or for
            ``checkpoint.npz``, which ``numpy.load`` reads.

    Raises:
        InvalidProblem: A file of Keras is wanted of another problem.
    """
    if path.suffix in KERAS_FILES:
        rebuilt(problem, params, checkpoint).save(path)
    elif isinstance(problem, CommandProblem):
        path.mkdir()
        unpack(checkpoint, path)
    else:
        CheckpointStore(str(path)).save(SAVED, checkpoint.arrays, checkpoint.meta)


def rebuilt(problem: Problem, params: Params, checkpoint: Checkpoint) -> keras.Model:
    """The trained network, uncompiled, made of layers that Keras itself can load; of an ensemble, the mean of all.

    Args:
        problem: A :class:`KerasProblem`, or an ensemble of one.
        params: Its hyper-parameters.
        checkpoint: What its training has saved.

    Raises:
        InvalidProblem: It is another problem.
    """
    _check_network(problem)
    if isinstance(problem, Ensemble):
        states = [state for state in divided(checkpoint, problem.members) if state is not None]
        return _mean([rebuilt(problem.network, params, state) for state in states])
    assert isinstance(problem, KerasProblem)
    import keras

    arrays = problem._arrays()
    network = problem.build(dict(params), arrays.shape, arrays.classes)
    network.set_weights([checkpoint.arrays[f"weight-{i}"] for i in range(len(network.weights))])
    if not any(isinstance(layer, dropout_layer()) for layer in network.layers):
        return network
    plain = keras.models.clone_model(network, clone_function=_plain)
    plain.set_weights(network.get_weights())
    return plain


def _check_network(problem: Problem) -> None:
    if not isinstance(problem, (KerasProblem, Ensemble)):
        name = getattr(problem, "__name__", type(problem).__name__)
        raise InvalidProblem(f"{name} is no KerasProblem, of which a file of Keras could be made: name a folder")


def _mean(networks: list[keras.Model]) -> keras.Model:
    """The network whose output is the mean of the outputs of others."""
    import keras

    inputs = keras.Input(networks[0].input_shape[1:])
    outputs = [network(inputs) for network in networks]
    return keras.Model(inputs, keras.layers.Average()(outputs) if len(outputs) > 1 else outputs[0])


def _plain(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer, or for one of ours Keras' own that does the same."""
    import keras

    if isinstance(layer, dropout_layer()):
        return keras.layers.Dropout(layer.rate, name=layer.name)
    return type(layer).from_config(layer.get_config())


def _reached(checkpoint: Checkpoint, step: Evaluation) -> float:
    """How far a training is, in the units of the budget."""
    metas: list[Mapping[str, Any]] = [checkpoint.meta, *dict(checkpoint.meta.get("members", {})).values()]
    reached = [float(meta[name]) for meta in metas for name in PROGRESS if name in meta]
    if reached:
        return max(reached)
    if step.budget is None:
        raise InvalidProblem("the checkpoint does not say how far it is: save it with ctx.save(arrays, epoch=…)")
    return step.budget


def _continued(step: Evaluation, budget: float, **changes: Any) -> Evaluation:
    """The evaluation that goes on from another one's checkpoint up to a budget, without stopping early."""
    return Evaluation.of(
        step.problem,
        step.params,
        budget=budget,
        fold=step.fold,
        parent=step.key,
        merit=step.merit,
        slice=True,
        **changes,
    )
