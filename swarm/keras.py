"""For a training function that calls ``fit`` of Keras: a callback that reports each epoch.

It imports Keras, so import it inside the function, as Keras itself.
"""

from __future__ import annotations

from typing import Any, Protocol

import keras


class Reporting(Protocol):
    """What a training function is called with, as far as this needs it."""

    def report(self, /, **metrics: float) -> None:
        """Add a point to the learning curve."""
        ...


class Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds each epoch's numbers to the learning curve, on any backend of Keras.

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
        self._ctx.report(epoch=epoch + 1, **{name: float(value) for name, value in (logs or {}).items()})
