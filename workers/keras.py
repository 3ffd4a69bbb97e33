"""A network in Keras, trained on one fold of a data set and scored on its validation part.

Keras and TensorFlow are imported when it trains, so that a client can make and pickle such a problem without
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from swarm.trial import Params
from workers.context import Context
from workers.data import Arrays, fold_split, load

if TYPE_CHECKING:
    import keras

Build = Callable[[Params, tuple[int, ...], int], "keras.Model"]

EVALUATION_BATCH = 1000
STEPS_PER_EXECUTION = 10  # at 1, whole epochs take twice as long now and then


@dataclass(frozen=True, kw_only=True)
class KerasProblem:
    """Finds the hyper-parameters of an image classifier: Adam, cross-entropy, fitness = accuracy on V.

    The protocol is that of parallel PSO for deep networks: of the training images, fold ``ctx.fold`` is the
    validation part V and the rest the training part T; the test images are left to :meth:`test`.

    Attributes:
        build: Makes the uncompiled network from (params, image shape, number of classes).
        name: Name of the problem.
        data: Name of a data set of :mod:`workers.data`.
        epochs: Train so long at most, unless the evaluation has a budget.
        batch_size: Images per step, unless there is a hyper-parameter of that name.
        learning_rate: Of Adam, unless there is a hyper-parameter of that name.
        patience: Stop after so many epochs without a better loss on V, and take the best weights; None trains
            all epochs and takes the last.
        train: Use so many of the training images; None is all.
        splits: Number of folds.
        space: The search space as plain data.
    """

    build: Build
    name: str
    data: str = "digits"
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    patience: int | None = 5
    train: int | None = None
    splits: int = 10
    space: Mapping[str, Any] = field(default_factory=dict, hash=False)

    preload: ClassVar[tuple[str, ...]] = ("tensorflow", "keras", "sklearn.model_selection")

    def prepare(self) -> None:
        """Loads the data, so that the trainings that are forked from this process share it."""
        self._arrays()

    def __call__(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains on T.

        Returns:
            ``fitness`` (accuracy on V, 0 … 1), ``val_loss``, ``epochs`` trained, number of ``parameters``.

        Raises:
            Infeasible: The network cannot be built for this image size.
        """
        return self._train(params, ctx)[1]

    def test(self, params: Params, ctx: Context) -> dict[str, float]:
        """Trains in the same way and scores on the test images.

        Returns:
            What the training returns, but ``fitness`` is the accuracy on the test images and ``val_accuracy``
            that on V.

        Raises:
            Infeasible: The network cannot be built for this image size.
        """
        model, scores = self._train(params, ctx)
        arrays = self._arrays()
        loss, accuracy = _evaluate(model, arrays.scaled(arrays.x_test), arrays.y_test)
        return {**scores, "val_accuracy": scores["fitness"], "fitness": accuracy, "test_loss": loss}

    def _train(self, params: Params, ctx: Context) -> tuple[keras.Model, dict[str, float]]:
        import keras

        keras.utils.set_random_seed(ctx.seed)
        arrays = self._arrays()
        model = self.build(params, arrays.shape, arrays.classes)
        model.compile(
            optimizer=keras.optimizers.Adam(float(params.get("learning_rate", self.learning_rate))),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=STEPS_PER_EXECUTION,
            jit_compile=False,  # halves the speed of convolutions on a CPU
        )
        train, valid = fold_split(arrays.y_train, ctx.fold, self.splits)
        x_valid, y_valid = arrays.scaled(arrays.x_train[valid]), arrays.y_train[valid]
        history = model.fit(
            arrays.scaled(arrays.x_train[train]),
            arrays.y_train[train],
            validation_data=(x_valid, y_valid),
            batch_size=int(params.get("batch_size", self.batch_size)),
            validation_batch_size=EVALUATION_BATCH,
            epochs=self.epochs if ctx.budget is None else max(1, math.floor(ctx.budget)),
            callbacks=self._callbacks(ctx),
            verbose=0,
        )
        loss, accuracy = _evaluate(model, x_valid, y_valid)
        epochs, parameters = len(history.epoch), model.count_params()
        return model, {"fitness": accuracy, "val_loss": loss, "epochs": epochs, "parameters": parameters}

    def _callbacks(self, ctx: Context) -> list[keras.callbacks.Callback]:
        import keras

        report = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: ctx.report(epoch=epoch + 1, **(logs or {}))
        )
        if self.patience is None:
            return [report]
        return [
            report,
            keras.callbacks.EarlyStopping("val_loss", patience=self.patience, restore_best_weights=True),
        ]

    def _arrays(self) -> Arrays:
        return load(self.data, self.train)


def _evaluate(model: keras.Model, x: Any, y: Any) -> tuple[float, float]:
    """Loss and accuracy."""
    loss, accuracy = model.evaluate(x, y, batch_size=EVALUATION_BATCH, verbose=0)
    return loss, accuracy
