"""A network in Keras, trained on one fold of a data set and scored on its validation part.

Keras and TensorFlow are imported when it trains, so that a client can make and pickle such a problem without
them.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from swarm.errors import Ending, Infeasible, InvalidProblem
from swarm.trial import Params
from swarm.workers.backend import OnBackend, Preload, check
from swarm.workers.checkpoints.checkpoint import Checkpoint
from swarm.workers.context import Context
from swarm.workers.data import Arrays, load
from swarm.workers.keras.feed import Feed, in_order
from swarm.workers.keras.network import Network, kept, leave
from swarm.workers.keras.parallel import devices_of, on_all_gpus, settle, start_together, train_together
from swarm.workers.replicas.data_parallel import Replicas

if TYPE_CHECKING:
    import keras

    from swarm.workers.checkpoints.pack import NamedArrays

Build = Callable[[Params, tuple[int, ...], int], "keras.Model"]
Loss = Callable[[Any, Any], Any]

CHANGEABLE = ("learning_rate", "batch_size", "weight_decay", "dropout")
SCORES = ("accuracy", "loss", "perplexity")
SAVE_SECONDS = 60.0  # an interrupted training loses no more than this, and an epoch
_ENDS, _NOW = "worker ends", "now-"


@dataclass(frozen=True, kw_only=True)
class KerasProblem(OnBackend):
    """Finds the hyper-parameters of a classifier: Adam, cross-entropy, fitness = accuracy (or loss) on V.

    The protocol is that of parallel PSO for deep networks: of the training images, fold ``ctx.fold`` is the
    validation part V and the rest the training part T; the test images are left to :meth:`test`.

    Where checkpoints are kept, it saves the network that it scored together with the optimizer's state, at the end,
    every minute, and after the epoch in which its worker is told to end, when it leaves and goes on elsewhere. It goes
    on from its parent's up to the budget, which counts the parent's epochs. If the hyper-parameters are the
    same, it also takes the parent's seed: the outcome is that of one training without interruption. If they are not,
    the network must still have the same shape: its weights and the optimizer's state are the parent's, its
    hyper-parameters and its seed its own. So networks that go on from one parent meet the images in different orders,
    and population-based training has more to select from than small differences of hyper-parameters.

    A slice keeps its network, and another one that follows in the same process takes it over instead of building and
    tracing its own, with the same outcome to the last bit. It sets the learning rate, the weight decay, the batch size
    and the rates of :func:`swarm.workers.keras.layers.dropout`. Where a hyper-parameter that ``build`` has read, or the
    optimizer, is another, it builds its own.

    Replicas share the images of every batch, or if they are asynchronous, the batches of every epoch; and the images of
    V. Synchronous ones do what one training does, but for the noise of dropout and what batch normalisation takes from
    a batch, of which each sees its part. Where a slot has several GPUs, they share every batch in the same way.

    Attributes:
        build: Makes the uncompiled network from (params, image shape, number of classes). Of ``params`` it reads just
            what the network depends on, and random numbers come from layers of Keras, which keep a seed each.
        name: Name of the problem.
        data: Name of a data set of :mod:`swarm.workers.data`.
        epochs: Train so long at most, unless the evaluation has a budget.
        batch_size: Images per step, unless there is a hyper-parameter of that name.
        optimizer: Name of an optimizer of Keras, unless there is a hyper-parameter of that name.
        learning_rate: Of the optimizer, unless there is a hyper-parameter of that name.
        weight_decay: λ in w ← w - η λ w, beside each step of the optimizer at learning rate η (decoupled:
            Loshchilov and Hutter, ICLR 2019), for all weights; unless there is a hyper-parameter of that name.
        loss: What the training lowers: a name that Keras knows, or a function of (labels, outputs).
        patience: Stop after so many epochs without a better loss on V, and take the best weights; None trains
            all epochs and takes the last, as a slice always does.
        train: Use so many of the training images; None is all.
        splits: Number of folds.
        score: What the fitness is on V: ``accuracy``, or to be minimised the ``loss`` or the ``perplexity``, e to the
            loss.
        changeable: Hyper-parameters that may be others than the parent's. The rest shapes the network, or what the
            optimizer's state means.
        devices: TensorFlow's names of what shares every batch; None is all GPUs of the slot.
        space: The search space as plain data.
    """

    build: Build
    name: str
    data: str = "digits"
    epochs: int = 100
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    loss: str | Loss = "sparse_categorical_crossentropy"
    patience: int | None = 5
    train: int | None = None
    splits: int = 10
    score: Literal["accuracy", "loss", "perplexity"] = "accuracy"
    changeable: tuple[str, ...] = CHANGEABLE
    devices: tuple[str, ...] | None = None
    space: Mapping[str, Any] = field(default_factory=dict, hash=False)

    preload = Preload("sklearn.model_selection")
    resumable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score not in SCORES:
            raise InvalidProblem(f"score is one of {', '.join(SCORES)}, not {self.score!r}")

    @property
    def direction(self) -> str:
        """Whether the fitness is to be maximised, or a loss to be minimised."""
        return "maximize" if self.score == "accuracy" else "minimize"

    def prepare(self) -> None:
        """Loads the data, so that the trainings that are forked from this process share it."""
        self._arrays()

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains on T.

        Returns:
            ``fitness``, ``val_accuracy`` (0 … 1), ``val_loss``, ``epochs`` trained (those before the checkpoint
            included), number of ``parameters``; of asynchronous replicas also their mean ``staleness`` in steps.

        Raises:
            Infeasible: The network cannot be built for this image size, or the parent's has another shape.
            CheckpointCorrupt: The parent's checkpoint is damaged.
        """
        with self._trained(params, ctx) as (_, scores):
            return scores

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way and scores on the test images.

        Returns:
            What the training returns, but ``fitness`` is the accuracy on the test images.

        Raises:
            Infeasible, CheckpointCorrupt: As for the training.
        """
        arrays = self._arrays()
        with self._trained(params, ctx) as (model, scores):
            batches = in_order(arrays.scaled(arrays.x_test), arrays.y_test, devices_of(model))
            loss, accuracy = _evaluate(model, batches)
        return {**scores, "fitness": accuracy, "test_loss": loss}

    @contextlib.contextmanager
    def _trained(self, params: Params, ctx: Context) -> Iterator[tuple[keras.Model, dict[str, float]]]:
        """The trained network and its scores. If all goes well, a slice leaves the network to the next one."""
        network, scores = self._fitted(params, ctx)
        yield network.model, scores
        if ctx.slice and ctx.replicas.alone:
            leave(network)

    def _train(self, params: Params, ctx: Context) -> tuple[keras.Model, dict[str, float]]:
        """The trained network, for the caller to have, and its scores."""
        network, scores = self._fitted(params, ctx)
        return network.model, scores

    def _fitted(self, params: Params, ctx: Context) -> tuple[Network, dict[str, float]]:
        check(self)
        checkpoint = ctx.restore()
        said = json.dumps(dict(params), sort_keys=True, default=str)
        seed = ctx.seed
        if checkpoint is not None and checkpoint.meta.get("params", said) == said:  # earlier versions did not say
            seed = int(checkpoint.meta["seed"])
        with on_all_gpus(self.devices):
            if ctx.slice and ctx.replicas.alone:
                network = kept(self, params, seed, initial=checkpoint is None)
            else:
                network = Network(self, params, seed)
        batch_size = int(params.get("batch_size", self.batch_size))
        model, feed = network.model, self._feed(network, ctx.fold, batch_size, ctx.replicas)
        if devices_of(model) > 1:
            model.steps_per_execution = 1  # more fail in TensorFlow
        if not ctx.replicas.alone:
            train_together(model.optimizer, ctx.replicas)
        training = _Training(model, ctx, (seed, said), None if ctx.slice else self.patience, feed)
        if checkpoint is not None:
            training.restore(checkpoint)
        training.fit(self.epochs if ctx.budget is None else max(1, math.floor(ctx.budget)))
        loss, accuracy = training.scores or training.evaluate()
        staleness = {} if ctx.replicas.sync else {"staleness": ctx.replicas.staleness}
        return network, {
            "fitness": self._fitness(loss, accuracy),
            "val_accuracy": accuracy,
            "val_loss": loss,
            "epochs": training.epoch,
            "parameters": model.count_params(),
            **staleness,
        }

    def _feed(self, network: Network, fold: int, batch_size: int, replicas: Replicas) -> Feed:
        """What the network was trained on before, if that was the same."""
        if network.feed is None or (network.feed.fold, network.feed.batch_size) != (fold, batch_size):
            devices = devices_of(network.model)
            network.feed = Feed(self._arrays(), fold, self.splits, batch_size, replicas, devices)
        return network.feed

    def _fitness(self, loss: float, accuracy: float) -> float:
        if self.score == "accuracy":
            return accuracy
        return loss if self.score == "loss" else math.exp(loss)

    def _compiled(self, params: Params, seed: int) -> keras.Model:
        check(self)
        return Network(self, params, seed).model

    def _arrays(self) -> Arrays:
        return load(self.data, self.train)


@dataclass(frozen=True, slots=True)
class _State:
    """Where a training stands after an epoch."""

    epoch: int
    arrays: NamedArrays


class _Training:
    """A training of epochs that depend on nothing but the state before them, the seed and their number.

    That is what lets it be interrupted. With patience, the state that counts, and is saved in the end, is that of the
    best epoch so far. Midway it saves that together with where it stands, and so stops just where it would have
    stopped. Another training that continues from there repeats the epochs after the best, and finds them no better.

    Args:
        model: Compiled.
        ctx: Takes the learning curve and the checkpoints.
        begun: The seed of the order of the images and of the dropout; and the hyper-parameters, for the checkpoint.
        patience: Epochs to go on without a better loss, or None.
        feed: What it trains on.

    Attributes:
        epoch: Number of epochs so far.
        scores: Loss and accuracy on V, if it has just been validated.
    """

    def __init__(
        self, model: keras.Model, ctx: Context, begun: tuple[int, str], patience: int | None, feed: Feed
    ) -> None:
        self.epoch = 0
        self.scores: tuple[float, float] | None = None
        self._model = model
        self._ctx = ctx
        self._seed, self._said = begun
        self._patience = patience
        self._best: _State | None = None
        self._lowest = math.inf
        self._saved = time.monotonic()
        self._epochs = 0
        self._noise = [state for state in model.variables if not any(state is weight for weight in model.weights)]
        self._feed = feed

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes the state of a checkpoint, but keeps the learning rate, which may be another now.

        Raises:
            Infeasible: The network has another shape.
        """
        learning_rate = np.array(self._model.optimizer.learning_rate)
        arrays, meta = checkpoint.arrays, checkpoint.meta
        self._assign({name: array for name, array in arrays.items() if not name.startswith(_NOW)})
        self._model.optimizer.learning_rate = learning_rate
        self.epoch = int(meta["epoch"])
        if self._patience is not None and meta["val_loss"] is not None:
            self._lowest, self._best = meta["val_loss"], self._state()
        if "now" in meta:  # it was interrupted further on
            self._assign({name.removeprefix(_NOW): arrays[name] for name in arrays if name.startswith(_NOW)})
            self._model.optimizer.learning_rate = learning_rate
            self.epoch = int(meta["now"])

    def fit(self, epochs: int) -> None:
        """Trains up to so many epochs in all, and leaves the model in the state that counts; that is saved.

        Raises:
            Ending: Its worker ends; where it stands is saved.
        """
        import keras

        self._epochs = epochs
        start_together(self._model, self._ctx.replicas)
        self._model.fit(
            self._feed.train,
            validation_data=self._feed.valid,
            shuffle=False,  # they come in our order
            initial_epoch=self.epoch,
            epochs=epochs,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_epoch_begin=self._begin,
                    on_test_begin=lambda _: settle(self._model, self._ctx.replicas),
                    on_epoch_end=self._end,
                )
            ],
            verbose=0,
        )
        if self._best is not None:
            self._assign(self._best.arrays)
            self.scores = None
        self._save()

    def evaluate(self) -> tuple[float, float]:
        """Loss and accuracy on V, of the state that counts."""
        loss, accuracy = _evaluate(self._model, self._feed.valid)
        scores = self._of_all({"loss": loss, "accuracy": accuracy})
        return scores["loss"], scores["accuracy"]

    def _of_all(self, scores: Mapping[str, float]) -> Mapping[str, float]:
        """What replicas have scored, each on its part of V, together: the same for all, so all decide alike."""
        if self._ctx.replicas.size == 1:
            return scores
        values = self._feed.share * np.array(list(scores.values()), np.float64)
        return dict(zip(scores, self._ctx.replicas.mean(values).tolist(), strict=True))

    def _begin(self, epoch: int, _: Any = None) -> None:
        rng = np.random.default_rng((self._seed, epoch))
        self._feed.shuffle(rng)
        if self._ctx.replicas.rank:
            rng = np.random.default_rng((self._seed, epoch, self._ctx.replicas.rank))
        for state in self._noise:
            state.assign(rng.integers(2**31, size=state.shape))

    def _end(self, epoch: int, logs: Mapping[str, float]) -> None:
        ends = self._ctx.wants_checkpoint and self._ctx.ending is not None
        logs = dict(self._of_all({**logs, _ENDS: float(ends)}))
        ends = logs.pop(_ENDS) > 0  # of one replica, so of all
        self.epoch, self.scores = epoch + 1, (logs["val_loss"], logs["val_accuracy"])
        self._ctx.report(epoch=self.epoch, **logs)
        if self._patience is not None:
            self._watch(logs["val_loss"], self._patience)
        if ends and self.epoch < self._epochs and not self._model.stop_training:
            self._save(midway=True)
            raise Ending
        if self._ctx.wants_checkpoint and time.monotonic() - self._saved > SAVE_SECONDS:
            self._save(midway=True)

    def _watch(self, loss: float, patience: int) -> None:
        if loss < self._lowest:
            self._lowest, self._best = loss, self._state()
        elif self.epoch - (self._best.epoch if self._best else 0) >= patience:
            self._model.stop_training = True

    def _save(self, *, midway: bool = False) -> None:
        """Saves the state that counts; midway also where the training stands, if it has come further."""
        if not self._ctx.wants_checkpoint:
            return
        state = self._best or self._state()
        lowest = self._lowest if self._best else None
        arrays, further = dict(state.arrays), {}
        if midway and state.epoch < self.epoch:
            now = self._state()
            arrays |= {f"{_NOW}{name}": array for name, array in now.arrays.items()}
            further = {"now": now.epoch}
        self._ctx.save(arrays, epoch=state.epoch, seed=self._seed, params=self._said, val_loss=lowest, **further)
        self._saved = time.monotonic()

    def _state(self) -> _State:
        return _State(self.epoch, {name: np.array(variable) for name, variable in self._variables().items()})

    def _variables(self) -> dict[str, keras.Variable]:
        """The weights, and the optimizer's state if it is wanted, by number: Keras' names vary from time to time."""
        groups = {"weight": self._model.weights}
        if self._ctx.wants_checkpoint:
            groups["optimizer"] = self._model.optimizer.variables
        return {f"{group}-{i}": variable for group, members in groups.items() for i, variable in enumerate(members)}

    def _assign(self, arrays: NamedArrays) -> None:
        variables = self._variables()
        here = {name: tuple(variable.shape) for name, variable in variables.items()}
        there = {name: array.shape for name, array in arrays.items()}
        if here != there:
            name = next(name for name in here | there if here.get(name) != there.get(name))
            raise Infeasible(
                f"the checkpoint is of another network: {name} is {there.get(name, 'absent')} there and "
                f"{here.get(name, 'absent')} here; search only what keeps the network's shape"
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])


def _evaluate(model: keras.Model, batches: Any) -> tuple[float, float]:
    """Loss and accuracy."""
    loss, accuracy = model.evaluate(batches, verbose=0)
    return loss, accuracy
