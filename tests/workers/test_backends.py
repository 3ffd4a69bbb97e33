"""The built-in networks on each backend of Keras, and training functions with PyTorch and JAX."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cloudpickle
import pytest

from swarm.errors import InvalidProblem
from swarm.job.problem import Problem
from swarm.trial import Evaluation, Result, Status
from swarm.workers import backend
from swarm.workers.context import Context
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import fork_safety
from swarm.workers.models import digits_cnn, nhop

EXAMPLES = Path(__file__).parents[2] / "examples"
OTHERS = ("jax", "torch")
GOOD = {"filters": 4, "size": 3, "pool": 2, "units": 16, "learning_rate": 1e-2, "dropout": 0.1, "weight_decay": 1e-4}


def trained(problem: object, params: dict[str, object], **options: object) -> Result:
    return evaluate(cloudpickle.dumps(problem), Evaluation.of("p", params, **options))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_built_in_network_learns_on_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv(backend.VARIABLE, "torch")
    problem = digits_cnn.problem(train=500, epochs=3)
    monkeypatch.delenv(backend.VARIABLE)  # workers follow the problem
    first = trained(problem, GOOD)
    assert first.status is Status.OK, first.error
    assert first.fitness is not None and first.fitness > 0.5
    assert [point["epoch"] for point in first.curve] == [1, 2, 3]
    again = trained(problem, GOOD)
    assert (again.fitness, again.curve) == (first.fitness, first.curve)


@pytest.mark.slow
def test_a_slice_goes_on_from_another_on_another_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.setenv(backend.VARIABLE, "jax")
    data = cloudpickle.dumps(digits_cnn.problem(train=500))
    half = Evaluation.of("p", GOOD, slice=True, budget=1.0)
    at_once = replace(Evaluation.of("p", GOOD, slice=True, budget=2.0), seed=half.seed)
    whole = evaluate(data, at_once, checkpoints=str(tmp_path / "a"))
    assert evaluate(data, half, checkpoints=str(tmp_path / "b")).status is Status.OK
    child = Evaluation.of("p", GOOD, slice=True, budget=2.0, parent=half.key)
    rest = evaluate(data, child, checkpoints=str(tmp_path / "b"))
    assert rest.status is Status.OK, rest.error
    assert rest.fitness == whole.fitness
    other = Evaluation.of("p", GOOD | {"dropout": 0.4, "weight_decay": 0.1}, slice=True, budget=2.0, parent=half.key)
    assert evaluate(data, other, checkpoints=str(tmp_path / "b")).curve != rest.curve


@pytest.mark.deep
def test_the_staged_search_trains_on_another_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv(backend.VARIABLE, "torch")
    problem = nhop.problem(examples=400, epochs=3)
    result = trained(problem, {"layers": 1, "nodes": 8, "activation": "tanh", "learning_rate": 1e-2})
    assert result.status is Status.OK, result.error
    assert result.metrics["epochs"] == 3


def test_what_one_backend_has_found_never_answers_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for name in ("", *backend.BACKENDS):
        monkeypatch.setenv(backend.VARIABLE, name)
        found[name] = Problem.of("digits-cnn").fingerprint
    assert found[""] == found["tensorflow"]
    assert len(set(found.values())) == 3


def test_a_backend_that_trains_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, "numpy")
    with pytest.raises(InvalidProblem, match="KERAS_BACKEND=numpy trains no network: take one of tensorflow, jax"):
        digits_cnn.problem()


@pytest.mark.slow
def test_a_process_with_another_backend_refuses_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    here = keras.backend.backend()
    monkeypatch.setenv(backend.VARIABLE, next(name for name in backend.BACKENDS if name != here))
    problem = digits_cnn.problem(train=100)
    with pytest.raises(InvalidProblem, match=rf"has imported it on {here}: set KERAS_BACKEND="):
        problem(GOOD, Context(params=GOOD))


# --- PyTorch and JAX themselves


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    text = (EXAMPLES / f"digits_{name}.py").read_text(encoding="utf-8")
    assert f"python examples/digits_{name}.py" in text
    (tmp_path / "mine.py").write_text(text.replace("particles=4, generations=3", "particles=2, generations=1"))
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"^0\.\d+ \{'units': \d+, 'rate': ", done.stdout, re.MULTILINE)
    assert "'trained': 4, 'archive': 0, 'in_flight': 0, 'failed': 0" in done.stdout
    assert "cannot be forked" not in done.stderr


class KnowsWhatWasImported:
    def __call__(self, params, ctx):  # type: ignore[no-untyped-def]
        import importlib
        import sys

        known = params["module"] in sys.modules
        importlib.import_module(params["module"])
        return {"fitness": 1.0, "known": known}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_it_is_imported_once_for_all_trainings(name: str) -> None:
    pytest.importorskip(name)
    problem = KnowsWhatWasImported()
    assert [trained(problem, {"module": name}, repeat=i).metrics["known"] for i in range(2)] == [0.0, 1.0]


class OpensADevice:
    """Holds a file open while it is prepared, which this machine's driver might have opened."""

    def __init__(self, device: str) -> None:
        self.device = device

    def prepare(self) -> None:
        from swarm.workers.isolation import fork_safety

        fork_safety.DEVICES = (self.device,)
        self.file = Path(self.device).open()  # noqa: SIM115

    def __call__(self, params, ctx):  # type: ignore[no-untyped-def]
        return 1.0


def test_a_server_in_which_a_driver_was_initialised_is_not_forked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "nvidia0").touch()
    with caplog.at_level(logging.WARNING, "swarm.workers"):
        results = [trained(OpensADevice(str(tmp_path / "nvidia0")), {"x": x}) for x in range(2)]
    assert [result.status for result in results] == [Status.OK] * 2
    (record,) = caplog.records
    assert f"left the driver of a GPU in use ({tmp_path}/nvidia0)" in record.getMessage()


def test_a_process_that_holds_nothing_can_be_forked() -> None:
    code = "from swarm.workers.isolation.fork_safety import obstacle; print(obstacle())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "None\n"
    assert fork_safety.DEVICES[0] == "/dev/nvidia"


@pytest.mark.deep
def test_a_callback_reports_each_epoch() -> None:
    def train(params, ctx):  # type: ignore[no-untyped-def]
        import keras
        import numpy as np

        from swarm.keras import Report

        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        x = np.arange(8.0)[:, None] / 8
        return -model.fit(x, x, epochs=3, callbacks=[Report(ctx)], verbose=0).history["loss"][-1]

    result = trained(train, {})
    assert [point["epoch"] for point in result.curve] == [1, 2, 3]
    assert result.curve[-1]["loss"] == pytest.approx(-(result.fitness or 0.0))
