"""For a training function that calls ``fit`` of Keras: a callback that reports each epoch.

It imports Keras, so import it inside the function, as Keras itself.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras


class Reporting(Protocol):
    """What a training function is called with, as far as this needs it."""

    def report(self, /, **metrics: float) -> bool:
        """Add a point to the learning curve; whether the training has come as far as its budget."""
        ...


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
