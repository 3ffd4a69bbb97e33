"""What a training's process tells its frameworks before it trains: threads, its part of a GPU, and to be deterministic.

They have perhaps been imported by the server that it was forked from, with that one's settings, or are imported later:
what they read from the environment is set, and what they must be told is said now, or right behind their import.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import sys
import types
from collections.abc import Callable, Sequence

from swarm.trial import Evaluation
from swarm.workers.node.gpu import GPUS_PER_TRAINING, OURS
from swarm.workers.node.slots import THREADS

_DETERMINISTIC = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_CUDNN_DETERMINISTIC": "1",
}
_XLA = "--xla_gpu_deterministic_ops=true"
_NUMPY_SEEDS = 2**32


def prepare(evaluation: Evaluation) -> None:
    """Do that for a training, in its process."""
    tell: dict[str, list[Callable[[], None]]] = {"torch": []}
    if (threads := _threads()) > 1:
        _have_threads(threads)
        tell["torch"].append(lambda: sys.modules["torch"].set_num_threads(threads))
    if (share := float(os.environ.get(GPUS_PER_TRAINING, "1"))) < 1:
        tell["torch"].append(lambda: _limit_torch(OURS * share))
    if evaluation.deterministic:
        _set_deterministic()
        random.seed(evaluation.seed)
        tell["numpy"] = [lambda: sys.modules["numpy"].random.seed(evaluation.seed % _NUMPY_SEEDS)]
        tell["torch"].append(lambda: _deterministic_torch(evaluation.seed))
        tell["tensorflow"] = [lambda: _deterministic_tensorflow(evaluation.seed)]
    _Afterwards.replace({name: told for name, told in tell.items() if told})


class _Afterwards(importlib.abc.MetaPathFinder):
    """Calls functions as soon as a module has been imported; at once if it has been.

    Args:
        told: Functions by name of the module.
    """

    def __init__(self, told: dict[str, list[Callable[[], None]]]) -> None:
        self._told = told

    @classmethod
    def replace(cls, told: dict[str, list[Callable[[], None]]]) -> None:
        """What an earlier training of this process wanted is no more."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, cls)]
        for name in list(told):
            if name in sys.modules:
                for tell in told.pop(name):
                    tell()
        if told:
            sys.meta_path.insert(0, cls(told))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Where others find it, with a loader that calls the functions behind it."""
        told = self._told.pop(fullname, None)
        spec = None if told is None else importlib.util.find_spec(fullname)
        loader = None if spec is None else spec.loader
        if told is None or spec is None or loader is None:
            return None
        load = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            load(module)
            for tell in told:
                tell()

        with contextlib.suppress(AttributeError):  # a loader of somebody's own, which takes nothing
            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _threads() -> int:
    said = os.environ.get(THREADS[2], "").split(",")[0]
    return int(said) if said.isdigit() else 1


def _have_threads(threads: int) -> None:
    """Libraries that the server has loaded with one thread have so many from now on."""
    with contextlib.suppress(Exception):  # a library that cannot be told keeps its one
        import threadpoolctl

        threadpoolctl.threadpool_limits(limits=threads)


def _limit_torch(fraction: float) -> None:
    """PyTorch takes no more of a shared GPU than its part; CUDA is not initialised for that, but told when it is."""
    cuda = sys.modules["torch"].cuda
    with contextlib.suppress(AttributeError):
        cuda._lazy_call(lambda: cuda.set_per_process_memory_fraction(fraction))


def _set_deterministic() -> None:
    os.environ.update(_DETERMINISTIC)
    flags = os.environ.get("XLA_FLAGS", "")
    if _XLA not in flags.split():
        os.environ["XLA_FLAGS"] = f"{flags} {_XLA}".strip()  # which XLA reads when it is first used


def _deterministic_torch(seed: int) -> None:
    torch = sys.modules["torch"]
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(seed)


def _deterministic_tensorflow(seed: int) -> None:
    tensorflow = sys.modules["tensorflow"]
    tensorflow.config.experimental.enable_op_determinism()
    tensorflow.random.set_seed(seed)
