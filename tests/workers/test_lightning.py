"""The callbacks of ``swarm.lightning``: what is logged is reported, and ``fit`` goes on elsewhere to the same end."""

from __future__ import annotations

import cloudpickle
import pytest

from swarm.trial import Evaluation, Status
from swarm.workers.isolation import process
from swarm.workers.node import ending

pytest.importorskip("lightning", reason="lightning is not installed; it is optional")

EPOCHS, TOLD = 6, 3


def fits(params, ctx):
    """A function of the user's: dropout, a momentum and a schedule, so that all of the state counts."""
    import time

    import lightning
    import torch

    from swarm.lightning import Report, Save

    class Curve(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(
                torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)
            )

        def training_step(self, batch, number):
            while ctx.wants_checkpoint and fresh and self.current_epoch == TOLD and ctx.ending is None:
                time.sleep(0.01)
            torch.manual_seed(ctx.seed + 100 * self.current_epoch + number)  # of the epoch, not of what was before
            x, y = batch
            loss = torch.nn.functional.mse_loss(self.net(x), y)
            self.log("loss", loss)
            return loss

        def validation_step(self, batch, number):
            x, y = batch
            self.log("val_loss", torch.nn.functional.mse_loss(self.net(x), y))

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=params["rate"], momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)]

    torch.manual_seed(ctx.seed)
    x = torch.linspace(-1, 1, 64).reshape(-1, 1)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x**2), batch_size=16)
    save = Save(ctx)
    fresh = save.path is None
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=EPOCHS, accelerator="cpu", callbacks=[save, Report(ctx)], **quiet)
    trainer.fit(Curve(), data, data, ckpt_path=save.path)
    return -trainer.callback_metrics["val_loss"].item()


SHARED = cloudpickle.dumps(fits)


def evaluation(budget=None):
    return Evaluation.of("lightning", {"rate": 0.05}, budget=budget)


@pytest.mark.slow
def test_fit_goes_on_from_where_the_worker_was_told_to_end_to_the_same_end(tmp_path, monkeypatch):
    curve, attempts = [], []
    whole = process.run(SHARED, evaluation(), curve.append)
    assert whole.status is Status.OK, whole.error
    assert [point["epoch"] for point in curve] == list(range(1, EPOCHS + 1))
    assert {"epoch", "loss", "val_loss"} <= curve[0].keys()

    def report(metrics):
        attempts.append(metrics["epoch"])
        if metrics["epoch"] == TOLD and not ending.own.begun:
            ending.own.begin(60.0)

    with monkeypatch.context() as patch:
        patch.setattr(ending.own, "_deadline", None)  # and again when this ends
        first = process.run(SHARED, evaluation(), report, str(tmp_path))
    assert (first.status, first.drained, first.blamed) == (Status.LOST, True, False), first.error
    assert TOLD <= len(attempts) <= TOLD + 1, "it is told after this epoch or amid the next"
    rest = process.run(SHARED, evaluation(), report, str(tmp_path))
    assert attempts == list(range(1, EPOCHS + 1)), "no epoch was trained twice"
    assert (rest.status, rest.fitness) == (Status.OK, whole.fitness), rest.error


@pytest.mark.slow
def test_fit_ends_with_the_budget_of_the_method():
    curve = []
    found = process.run(SHARED, evaluation(budget=2), curve.append)
    assert found.status is Status.OK, found.error
    assert [point["epoch"] for point in curve] == [1, 2]
