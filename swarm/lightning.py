"""For a training function that calls ``fit`` of Lightning: callbacks that report each epoch, and that save on the way.

They import Lightning, so import them inside the function, as Lightning itself.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from swarm.callbacks import Keeping, Reporting
from swarm.errors import Ending

_FILE = "lightning"


class Report(Callback):  # type: ignore[misc]
    """Adds what a module has logged to the learning curve after each epoch, and ends ``fit`` with the budget.

    So a job may ``prune`` by what the module logs, and Hyperband may train for few epochs at first: give the trainer as
    many epochs as the largest budget.

    Args:
        ctx: What the training function was called with.

    Example::

        def train(params, ctx):
            import lightning
            from swarm.lightning import Report

            module, data = Module(params), Data()  # yours
            trainer = lightning.Trainer(max_epochs=5, callbacks=[Report(ctx)], logger=False, enable_checkpointing=False)
            trainer.fit(module, data)
            return trainer.callback_metrics["val_accuracy"].item()
    """

    def __init__(self, ctx: Reporting) -> None:
        self._ctx = ctx

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report what was logged in the epoch and its validation; the first one is number 1."""
        numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._ctx.report(epoch=trainer.current_epoch + 1, **numbers):  # as far as the budget goes
            trainer.should_stop = True


class Save(Checkpoint):  # type: ignore[misc]
    """Saves Lightning's own checkpoint now and then, and lets ``fit`` go on from there after an interruption.

    When the worker is told to end, it saves after the epoch and raises :class:`swarm.Ending`: the training goes on
    elsewhere from there. Where no checkpoints are kept, it does nothing; to have them kept, say
    ``train.resumable = True``, or ``checkpoints: true`` in the job.

    What is saved is all that Lightning keeps: the module, optimizers, schedulers, loops and callbacks.

    Args:
        ctx: What the training function was called with.
        seconds: Save so often at most, while the worker stays.

    Example::

        def train(params, ctx):
            import lightning
            from swarm.lightning import Report, Save

            module, data = Module(params), Data()  # yours
            save = Save(ctx)
            trainer = lightning.Trainer(max_epochs=50, callbacks=[Report(ctx), save], logger=False)
            trainer.fit(module, data, ckpt_path=save.path)
            return trainer.callback_metrics["val_accuracy"].item()


        train.resumable = True
    """

    def __init__(self, ctx: Keeping, seconds: float = 60.0) -> None:
        self._ctx = ctx
        self._seconds = seconds
        self._saved = time.monotonic()
        self._folder = tempfile.TemporaryDirectory(prefix="swarm-lightning-")
        saved = ctx.restore() if ctx.wants_checkpoint else None
        if saved is not None:
            self._file.write_bytes(saved.arrays[_FILE].tobytes())

    @property
    def _file(self) -> Path:
        return Path(self._folder.name, "last.ckpt")

    @property
    def path(self) -> str | None:
        """File of the checkpoint to go on from, for ``fit(…, ckpt_path=save.path)``; None to begin from scratch."""
        return str(self._file) if self._file.exists() else None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if it is time to; Lightning calls this when all other callbacks are done with the epoch.

        Raises:
            Ending: The worker ends, and the training has epochs left.
        """
        if not self._ctx.wants_checkpoint:
            return
        ends = self._ctx.ending is not None
        if not ends and time.monotonic() - self._saved < self._seconds:
            return
        trainer.save_checkpoint(self._file)
        epochs = trainer.current_epoch + 1
        self._ctx.save({_FILE: np.frombuffer(self._file.read_bytes(), np.uint8)}, epoch=epochs)
        self._saved = time.monotonic()
        last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs
        if ends and not trainer.should_stop and not last:
            raise Ending
