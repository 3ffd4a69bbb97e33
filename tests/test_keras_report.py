"""The callback of Keras ends a training when its budget is used up."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from swarm import Context


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")  # an import here costs all files 5 s
@pytest.mark.parametrize(("budget", "stops"), [(3.0, True), (4.0, False), (None, False)])
def test_it_stops_where_the_budget_ends(budget: float | None, stops: bool) -> None:
    from swarm.keras import Report

    callback = Report(Context(budget=budget))
    callback.set_model(SimpleNamespace(stop_training=False))
    callback.on_epoch_end(2, {"val_accuracy": 0.5})
    assert callback.model.stop_training is stops
