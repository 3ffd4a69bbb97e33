"""What a training's process tells its frameworks: threads, its part of a GPU, and to be deterministic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from modules import put_away

from swarm.trial import Evaluation, Result, Status
from swarm.workers.evaluate import evaluate
from swarm.workers.isolation import process
from swarm.workers.node.gpu import GPUS_PER_TRAINING
from swarm.workers.node.slots import Slot, thread_env

FAKE_TORCH = '''
"""As much of PyTorch as is told something."""
import os, sys, types
told = {"threads": os.environ["OMP_NUM_THREADS"]}
set_num_threads = lambda n: told.__setitem__("threads", n)
use_deterministic_algorithms = lambda on: told.__setitem__("deterministic", on)
manual_seed = lambda seed: told.__setitem__("seed", seed)
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(benchmark=True, deterministic=False))
waiting = []
cuda = types.SimpleNamespace(
    _lazy_call=waiting.append,
    set_per_process_memory_fraction=lambda share: told.__setitem__("share", share),
)
def start_cuda():
    for call in waiting:
        call()
'''


@pytest.fixture(params=["imported by the training", "imported by the server"])
def torch(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A problem whose training tells what its PyTorch was told."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "torch.py").write_text(FAKE_TORCH)

    class Told:
        preload = ("torch",) if request.param == "imported by the server" else ()

        def __call__(self, params: Any, ctx: Any) -> dict[str, float]:
            import random

            import numpy
            import torch

            untold = dict(torch.told)
            ctx.save({"weights": numpy.zeros(1)}, epoch=1)
            torch.start_cuda()
            flags = os.environ.get("XLA_FLAGS", "")
            return {
                "fitness": random.random(),
                "told before CUDA": float("share" in untold),
                "share": torch.told.get("share", 1.0),
                "threads": float(torch.told["threads"]),
                "deterministic": float(torch.told.get("deterministic", False) and not torch.backends.cudnn.benchmark),
                "seeded": float(torch.told.get("seed") == ctx.seed),
                "xla": float("--xla_gpu_deterministic_ops=true" in flags),
                "cublas": float("CUBLAS_WORKSPACE_CONFIG" in os.environ),
            }

    with put_away("torch"):
        yield cloudpickle.dumps(Told())
        process.close()


def trained(problem: bytes, slot: Slot, checkpoints: str | None = None, **options: Any) -> Result:
    result = process.run(problem, Evaluation.of("p", {"x": 1}, **options), lambda _: None, checkpoints, slot=slot)
    assert result.status is Status.OK, result.error
    return result


def test_a_training_on_a_part_of_a_gpu_takes_no_more_than_it_has(torch: bytes) -> None:
    env = {GPUS_PER_TRAINING: "0.25", **thread_env(1)}  # without the slot's name, no GPU is looked at
    part = trained(torch, Slot("h:a/0", env)).metrics
    assert (part["share"], part["told before CUDA"]) == (pytest.approx(0.225), 0)
    whole = trained(torch, Slot("h:a", {**env, GPUS_PER_TRAINING: "1"})).metrics
    assert whole["share"] == 1


def test_a_training_has_the_threads_of_its_slot(torch: bytes) -> None:
    assert trained(torch, Slot("h:1", thread_env(1))).metrics["threads"] == 1
    assert trained(torch, Slot("h:3", thread_env(3))).metrics["threads"] == 3


def test_only_a_deterministic_training_is_told_to_be(torch: bytes) -> None:
    slot = Slot("h:1", thread_env(1))
    free, bound, again = (trained(torch, slot, deterministic=on) for on in (False, True, True))
    names = ("deterministic", "seeded", "xla", "cublas")
    assert [free.metrics[name] for name in names] == [0, 0, 0, 0]
    assert [bound.metrics[name] for name in names] == [1, 1, 1, 1]
    assert bound.fitness == again.fitness != free.fitness


def test_a_process_that_is_deterministic_for_good_trains_nothing_else(torch: bytes, tmp_path: Path) -> None:
    slot, slices = Slot("h:1", thread_env(1)), {"slice": True, "budget": 1.0, "checkpoints": str(tmp_path / "saved")}
    assert trained(torch, slot, deterministic=True, **slices).metrics["xla"] == 1
    assert trained(torch, slot, **slices).metrics["xla"] == 0
    assert trained(torch, slot, deterministic=True, **slices).metrics["xla"] == 1


def test_trainings_are_others_if_they_are_deterministic_and_the_same_whatever_memory_they_ask_for() -> None:
    plain = Evaluation.of("p", {"x": 1})
    assert Evaluation.of("p", {"x": 1}, deterministic=True).key != plain.key
    assert Evaluation.of("p", {"x": 1}, gpu_memory=1 << 30) == replace(plain, gpu_memory=1 << 30)


def with_threads(params: Any, ctx: Any) -> dict[str, float]:
    import numpy
    import threadpoolctl

    blas = [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]
    server = len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))
    return {"fitness": float(numpy.ones(3).sum()), "threads": min(blas), "of the server": server}


def test_threads_are_the_trainings_and_its_server_has_one() -> None:
    data = cloudpickle.dumps(with_threads)
    slot = Slot("h:2", thread_env(2))
    for _ in range(2):  # the second has NumPy from its server, which has loaded it with one thread
        metrics = trained(data, slot).metrics
        assert (metrics["threads"], metrics["of the server"]) == (2, 1)
    process.close()


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_real_frameworks_take_what_they_are_told(framework: str) -> None:
    if find_spec(framework) is None:  # not imported here: JAX has threads, and other tests fork
        pytest.skip(f"{framework} is not installed")

    def train(params: Any, ctx: Any) -> float:
        import random

        import numpy

        seeded = random.random() + numpy.random.rand()
        if framework == "torch":
            import torch

            assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 2
            return seeded + float(torch.rand(3).sum())
        if framework == "jax":
            import jax.numpy

            assert "deterministic_ops" in os.environ["XLA_FLAGS"]
            return seeded + float(jax.numpy.ones(3).sum())
        import tensorflow

        return seeded + float(tensorflow.reduce_sum(tensorflow.random.uniform([3])))

    slot, data = Slot("h:2", thread_env(2)), cloudpickle.dumps(train)
    evaluation = Evaluation.of("p", {"x": 1}, deterministic=True)
    results = [process.run(data, evaluation, lambda _: None, slot=slot) for _ in range(2)]
    process.close()
    assert [result.error for result in results] == [None, None]
    assert results[0].fitness == results[1].fitness


def test_without_slots_of_its_own_a_worker_trains_as_its_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    result = evaluate(
        cloudpickle.dumps(lambda params, ctx: float(os.environ["OMP_NUM_THREADS"])), Evaluation.of("p", {})
    )
    assert result.fitness == 2
