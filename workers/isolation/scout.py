"""Which frameworks a problem needs, found out while it is loaded in a server that was forked from the base."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Sequence

FRAMEWORKS = ("tensorflow", "keras")
LEARNABLE = (*FRAMEWORKS, "jax", "torch", "torchvision", "lightning", "sklearn", "pandas", "scipy", "fsspec")
"""Modules that are imported once for all trainings once one has imported them: slow, and safe to fork with."""

_SETTINGS = ("CUDA_", "KERAS_", "OMP_", "OPENBLAS_", "TF_", "XLA_")


def settings() -> dict[str, str]:
    """What the frameworks read from the environment, and imported otherwise would be others."""
    return {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}


class NeededError(BaseException):
    """A framework is imported that the base should have: this server is of no use; no user's code may catch this."""


class Scout(importlib.abc.MetaPathFinder):
    """Watches, as a context, which frameworks are imported.

    Args:
        tried: Names of the modules that the base has imported, or could not; None where there is no base.

    Attributes:
        needed: Frameworks that the base should import before another server is forked.
    """

    def __init__(self, tried: Sequence[str] | None) -> None:
        self.needed: list[str] = []
        self._ask = () if tried is None else tuple(name for name in FRAMEWORKS if name not in tried)
        self._inherited = tried is not None and any(name in sys.modules for name in FRAMEWORKS)
        self._settings = settings()

    def __enter__(self) -> Scout:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)

    @property
    def unfit(self) -> bool:
        """Whether the problem sets something of a framework that was imported before."""
        return self._inherited and settings() != self._settings

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Nothing, which leaves it to others.

        Raises:
            NeededError: It is to be imported by the base.
        """
        if fullname in self._ask and settings() == self._settings:
            self.needed.append(fullname)
            raise NeededError(fullname)
        return None
