from __future__ import annotations

import numpy as np
import pytest

from swarm.trial import Evaluation
from workers.context import CURVE_LIMIT, Context, Curve


def test_a_context_shows_the_evaluation():
    evaluation = Evaluation.of("p", {"x": 1}, budget=3, fold=2, repeat=1, purpose="test")
    ctx = Context.of(evaluation)
    assert (ctx.params, ctx.budget, ctx.fold, ctx.repeat, ctx.purpose) == ({"x": 1}, 3, 2, 1, "test")
    assert ctx.seed == evaluation.seed


def test_a_context_with_its_defaults_takes_reports_and_forgets_them():
    Context().report(loss=1.0)


def test_a_report_keeps_finite_numbers_alone():
    reports = []
    ctx = Context.of(Evaluation.of("p", {}), reports.append)
    ctx.report(loss=float("nan"), accuracy=np.float32(0.5), epoch=1, note="text", array=np.array(2.0))
    assert reports == [{"accuracy": 0.5, "epoch": 1.0, "array": 2.0}]
    assert all(type(value) is float for value in reports[0].values())


@pytest.mark.parametrize("reports", [0, 1, 2, CURVE_LIMIT - 1, CURVE_LIMIT, CURVE_LIMIT + 1, 12345])
def test_a_curve_is_bounded_and_keeps_its_ends_and_its_order(reports):
    curve = Curve()
    for step in range(reports):
        curve.append({"step": step})
    steps = [point["step"] for point in curve.points()]
    assert len(steps) <= CURVE_LIMIT
    assert steps == sorted(set(steps))
    assert steps[:1] == list(range(reports))[:1]
    assert steps[-1:] == list(range(reports))[-1:]
    assert reports >= CURVE_LIMIT or len(steps) == reports
