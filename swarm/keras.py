"""For a training function that calls ``fit`` of Keras: callbacks that report each epoch, and that save on the way.

They import Keras, so import them inside the function, as Keras itself.
"""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np

from swarm.callbacks import Keeping, Reporting
from swarm.errors import Ending


class Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds each epoch's numbers to the learning curve, on any backend of Keras, and ends ``fit`` with the budget.

    So a job may ``prune`` by what Keras measures, and Hyperband may train for few epochs at first: give ``fit`` as many
    epochs as the largest budget.

    Args:
        ctx: What the training function was called with.

    Example::

        def train(params, ctx):
            import keras
            from swarm.keras import Report

            model = ...
            history = model.fit(x, y, validation_split=0.2, epochs=5, callbacks=[Report(ctx)], verbose=0)
            return history.history["val_accuracy"][-1]
    """

    def __init__(self, ctx: Reporting) -> None:
        super().__init__()
        self._ctx = ctx

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report what Keras has measured in the epoch; the first one is number 1."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        if self._ctx.report(epoch=epoch + 1, **numbers):  # as far as the budget goes
            self.model.stop_training = True


class Save(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the model and its optimizer now and then, and lets ``fit`` go on from there after an interruption.

    When the worker is told to end, it saves after the epoch and raises :class:`swarm.Ending`: the training goes on
    elsewhere from there. Name it behind :class:`Report`. Where no checkpoints are kept, it does nothing; to have them
    kept, say ``train.resumable = True``, or ``checkpoints: true`` in the job.

    What is saved is the weights, the optimizer's state and the states of random layers. What other callbacks remember,
    such as the patience of ``EarlyStopping``, is lost, and so is the order of the examples, unless it depends on
    the seed and the epoch alone.

    Args:
        ctx: What the training function was called with.
        seconds: Save so often at most, while the worker stays.

    Example::

        def train(params, ctx):
            import keras
            from swarm.keras import Report, Save

            model = ...  # built, by an Input say, and compiled
            history = model.fit(x, y, validation_split=0.2, epochs=50, callbacks=[Report(ctx), Save(ctx)], verbose=0)
            return history.history["val_accuracy"][-1]


        train.resumable = True
    """

    def __init__(self, ctx: Keeping, seconds: float = 60.0) -> None:
        super().__init__()
        self._ctx = ctx
        self._seconds = seconds
        self._saved = time.monotonic()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Go on from what an interrupted attempt saved last.

        Raises:
            ValueError: The model is not built, or it is another than was saved.
        """
        saved = self._ctx.restore() if self._ctx.wants_checkpoint else None
        if saved is None:
            return
        variables = self._variables()
        here = {name: tuple(variable.shape) for name, variable in variables.items()}
        if here != {name: array.shape for name, array in saved.arrays.items()}:
            raise ValueError("the checkpoint is of another network than this one: build the same, before fit")
        for name, variable in variables.items():
            variable.assign(saved.arrays[name])
        self.model._initial_epoch = int(saved.meta["epoch"])  # as Keras' own BackupAndRestore has it

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save, if it is time to.

        Raises:
            Ending: The worker ends, and the training has epochs left.
        """
        if not self._ctx.wants_checkpoint:
            return
        ends = self._ctx.ending is not None
        if not ends and time.monotonic() - self._saved < self._seconds:
            return
        arrays = {name: np.array(variable) for name, variable in self._variables().items()}
        self._ctx.save(arrays, epoch=epoch + 1)
        self._saved = time.monotonic()
        if ends and not self.model.stop_training and epoch + 1 < self.params["epochs"]:
            raise Ending

    def _variables(self) -> dict[str, Any]:
        """By number, since Keras' names vary from time to time."""
        if not self.model.built:
            raise ValueError("Save needs a model that is built before fit: begin it with keras.Input(shape)")
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        groups = {"model": self.model.variables, "optimizer": self.model.optimizer.variables}
        return {f"{group}-{i}": variable for group, members in groups.items() for i, variable in enumerate(members)}
