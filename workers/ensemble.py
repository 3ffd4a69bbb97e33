"""Ensembles: several networks of one configuration, judged by the mean of their predictions.

Source: Recombination of Artificial Neural Networks, section 6.3: individuals that are ensembles of networks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from swarm.errors import InvalidProblem
from swarm.trial import Params
from swarm.workers.checkpoints.checkpoint import Checkpoint
from swarm.workers.context import Context
from swarm.workers.data import Labels, fold_split
from swarm.workers.keras.feed import EVALUATION_BATCH
from swarm.workers.keras.problem import SAVE_SECONDS, KerasProblem
from swarm.workers.models import PROBLEMS

if TYPE_CHECKING:
    from swarm.workers.checkpoints.pack import NamedArrays

States = list[Checkpoint | None]  # of the members; None of those that have not been begun


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Finds the hyper-parameters of an ensemble, whose members are trained one after the other, each at its own seed.

    The fitness is what the network's would be, of the mean of the members' outputs (for a classifier: of their
    probabilities). The members share one checkpoint, so that population-based training hands ensembles on; with
    ``weight_parents: 2`` and more a child takes its members from several parents (:func:`recombined`). An ensemble of
    one is the network itself. A training takes as long as those of its members together, and a pruned one
    is judged by the member that was trained last.

    Attributes:
        network: What each member is, and its data.
        members: Number of networks.
        name: Name of the problem.

    Raises:
        InvalidProblem: An option is out of its range.
    """

    network: KerasProblem
    members: int = 3
    name: str = "ensemble"

    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.network, KerasProblem):
            raise InvalidProblem(f"an ensemble is one of a KerasProblem, not of a {type(self.network).__name__}")
        if self.members < 1:
            raise InvalidProblem(f"an ensemble has 1 or more members, not {self.members}")

    @property
    def keras_backend(self) -> str:
        """What the network computes with."""
        return self.network.keras_backend

    @property
    def preload(self) -> tuple[str, ...]:
        """What a worker imports before it trains."""
        return self.network.preload

    @property
    def space(self) -> Mapping[str, Any]:
        """The search space of the network, as plain data."""
        return self.network.space

    @property
    def changeable(self) -> tuple[str, ...]:
        """Hyper-parameters that may be others than the parent's."""
        return self.network.changeable

    @property
    def direction(self) -> str:
        """Whether the fitness is to be maximised, or a loss to be minimised."""
        return self.network.direction

    def prepare(self) -> None:
        """Loads the data, so that the trainings that are forked from this process share it."""
        self.network.prepare()

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains the members on T.

        Returns:
            ``fitness``, ``val_accuracy`` (0 … 1) and ``val_loss`` of the ensemble, ``member_accuracy`` (the mean of its
            members' own), ``epochs`` trained of each, number of ``parameters`` of all.

        Raises:
            Infeasible: The network cannot be built for this image size, or the parent's has another shape.
            CheckpointCorrupt: The parent's checkpoint is damaged.
        """
        arrays = self.network._arrays()
        _, valid = fold_split(arrays.y_train, ctx.fold, self.network.splits)
        loss, accuracy, scores = self._train(params, ctx, arrays.scaled(arrays.x_train[valid]), arrays.y_train[valid])
        return {"fitness": self.network._fitness(loss, accuracy), "val_accuracy": accuracy, "val_loss": loss, **scores}

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way and scores on the test images.

        Returns:
            ``fitness``, the accuracy of the ensemble on the test images, ``test_loss``, and of the members what the
            training returns.

        Raises:
            Infeasible, CheckpointCorrupt: As for the training.
        """
        arrays = self.network._arrays()
        loss, accuracy, scores = self._train(params, ctx, arrays.scaled(arrays.x_test), arrays.y_test)
        return {"fitness": accuracy, "test_loss": loss, **scores}

    def _train(
        self, params: Params, ctx: Context, x: npt.NDArray[np.float32], y: Labels
    ) -> tuple[float, float, dict[str, float]]:
        """Trains the members; loss and accuracy of the mean of their outputs for ``x``, and scores of the members."""
        logging.getLogger("tensorflow").addFilter(_not_about_tracing)
        training = _Training(ctx, self.members)
        outputs, scores = [], []
        for member in range(self.members):
            with self.network._trained(params, training.context(member)) as (model, score):
                outputs.append(model.predict(x, batch_size=EVALUATION_BATCH, verbose=0))
            scores.append(score)
        training.save()
        mean = np.mean(outputs, axis=0)
        loss, accuracy = float(model.compute_loss(y=y, y_pred=mean)), float((mean.argmax(axis=-1) == y).mean())
        return (
            loss,
            accuracy,
            {
                "member_accuracy": float(np.mean([score["val_accuracy"] for score in scores])),
                "epochs": max(score["epochs"] for score in scores),
                "parameters": sum(score["parameters"] for score in scores),
            },
        )


def problem(*, of: str, members: int = 3, **options: Any) -> Ensemble:
    """An ensemble of a built-in network.

    Args:
        of: Name of the network, such as ``digits-cnn``.
        members: Number of networks.
        **options: Those of the network.

    Raises:
        InvalidProblem: There is no such network, or an option is out of its range.
    """
    if of not in PROBLEMS:
        raise InvalidProblem(f"there is no built-in problem {of!r}; there are {', '.join(PROBLEMS)}")
    where, _, maker = PROBLEMS[of].partition(":")
    return Ensemble(network=getattr(import_module(where), maker)(**options), members=members)


class _Training:
    """The state of all members, which is saved as one checkpoint.

    Args:
        ctx: Of the ensemble.
        members: Number of networks.
    """

    def __init__(self, ctx: Context, members: int) -> None:
        self.states = recombined([divided(parent, members) for parent in ctx.restore_all()], members, ctx.seed)
        self._ctx = ctx
        self._saved = time.monotonic()

    def context(self, member: int) -> Context:
        """What a member sees of the evaluation: a seed, and what it continues from."""
        seen = {each.name: getattr(self._ctx, each.name) for each in fields(Context) if not each.name.startswith("_")}
        seen["seed"] = (self._ctx.seed + member) & 0x7FFFFFFF
        return _MemberContext(**seen, member=member, ensemble=self._ctx, training=self)

    def keep(self, member: int, state: Checkpoint) -> None:
        """Takes the state of a member; now and then all are saved, lest an interruption costs much."""
        self.states[member] = state
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Saves all members, as far as they have been begun."""
        begun = {member: state for member, state in enumerate(self.states) if state is not None}
        arrays = {f"{member}/{name}": array for member, state in begun.items() for name, array in state.arrays.items()}
        self._ctx.save(arrays, members={str(member): dict(state.meta) for member, state in begun.items()})
        self._saved = time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class _MemberContext(Context):
    """The context of one member of an ensemble."""

    member: int
    ensemble: Context
    training: _Training = field(repr=False, compare=False)

    @property
    def wants_checkpoint(self) -> bool:
        return self.ensemble.wants_checkpoint

    def report(self, value: float | None = None, /, *more: object, **metrics: float) -> bool:
        return self.ensemble.report(value, *more, **{"member": self.member, **metrics})

    def restore(self) -> Checkpoint | None:
        return self.training.states[self.member]

    def save(self, arrays: NamedArrays, **meta: Any) -> None:
        self.training.keep(self.member, Checkpoint(arrays, meta))


def recombined(parents: Sequence[States], members: int, seed: int) -> States:
    """The members of a child: from each parent in turn a random one, of another origin than those before if there is.

    Networks that descend from the same one of the first generation share its seed; without that rule an ensemble would
    soon be one of copies. A single parent gives all its members, none leaves all to be begun.

    Args:
        parents: The members of each parent.
        members: Number of networks of the child.
        seed: Decides who gives which.
    """
    if len(parents) < 2:
        return parents[0] if parents else [None] * members
    rng = np.random.default_rng(seed)
    left = [[parent[i] for i in rng.permutation(members)] for parent in parents]
    child: States = []
    for member in range(members):
        candidates = left[member % len(left)]
        origins = {_origin(state) for state in child}
        chosen = next((i for i, state in enumerate(candidates) if _origin(state) not in origins), 0)
        child.append(candidates.pop(chosen))
    return child


def _origin(state: Checkpoint | None) -> Any:
    return None if state is None else state.meta["seed"]


def divided(checkpoint: Checkpoint, members: int) -> States:
    """The states of the members, None of those that have not been begun."""
    arrays: list[dict[str, npt.NDArray[Any]]] = [{} for _ in range(members)]
    for name, array in checkpoint.arrays.items():
        member, _, own = name.partition("/")
        arrays[int(member)][own] = array
    metas = checkpoint.meta["members"]
    return [Checkpoint(arrays[i], metas[str(i)]) if str(i) in metas else None for i in range(members)]


def _not_about_tracing(record: logging.LogRecord) -> bool:
    """Whether a message of TensorFlow's is not its surprise that each network is traced again."""
    return "triggered tf.function retracing" not in record.getMessage()
