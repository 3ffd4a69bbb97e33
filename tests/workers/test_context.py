from __future__ import annotations

import numpy as np
import pytest

from swarm.trial import Evaluation
from swarm.workers.checkpoints.checkpoint import CheckpointCorrupt, CheckpointStore, Progress
from swarm.workers.context import CURVE_LIMIT, Context, Curve


def test_a_context_shows_the_evaluation():
    evaluation = Evaluation.of("p", {"x": 1}, budget=3, fold=2, repeat=1, purpose="test", parent="ab")
    ctx = Context.of(evaluation)
    assert (ctx.params, ctx.budget, ctx.fold, ctx.repeat, ctx.purpose) == ({"x": 1}, 3, 2, 1, "test")
    assert (ctx.seed, ctx.parent) == (evaluation.seed, "ab")


def test_a_context_with_its_defaults_takes_reports_and_forgets_them():
    Context().report(loss=1.0)


def test_a_context_with_its_defaults_keeps_no_checkpoints():
    ctx = Context()
    assert not ctx.wants_checkpoint
    ctx.save({"weights": np.zeros(2)}, epoch=1)
    assert ctx.restore() is None


def test_a_training_continues_from_its_own_save_before_that_of_its_parent(tmp_path):
    store = CheckpointStore(str(tmp_path))
    progress = Progress(store, "child", "parent")
    ctx = Context.of(Evaluation.of("p", {}), progress=progress)
    assert ctx.wants_checkpoint
    assert ctx.restore() is None, "the parent's has been deleted"
    store.save("parent", {"weights": np.zeros(2)}, {"epoch": 2})
    assert ctx.restore().meta == {"epoch": 2}
    for epoch in (3, 4):
        ctx.save({"weights": np.ones(2)}, epoch=epoch)
        assert ctx.restore().meta == {"epoch": epoch}
    assert not store.exists("child"), "it has not succeeded yet"
    metrics = progress.commit()
    assert store.load("child").meta == {"epoch": 4}
    assert metrics["checkpoint_bytes"] == (tmp_path / "child.npz").stat().st_size
    assert 0 < metrics["checkpoint_seconds"] < 10


def test_a_damaged_save_of_its_own_is_passed_over_and_one_of_its_parent_is_not(tmp_path, caplog):
    store = CheckpointStore(str(tmp_path))
    progress = Progress(store, "child", "parent")
    store.save("parent", {}, {"epoch": 2})
    (tmp_path / "child.partial").write_bytes(b"damaged")
    assert progress.restore().meta == {"epoch": 2}
    assert "passed over: checkpoint" in caplog.text
    (tmp_path / "parent.npz").write_bytes(b"damaged")
    with pytest.raises(CheckpointCorrupt, match="parent"):
        progress.restore()


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
