"""What a compiled network needs to know of its problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from swarm.trial import Params
from swarm.workers.data import Arrays

if TYPE_CHECKING:
    import keras


class Recipe(Protocol):
    """How to build and compile a network: a :class:`~swarm.workers.keras.problem.KerasProblem`."""

    @property
    def build(self) -> Callable[[Params, tuple[int, ...], int], keras.Model]:
        """What makes the network of hyper-parameters, the shape of an image and the number of classes."""
        ...

    @property
    def loss(self) -> Any:
        """The loss, by Keras' name or as a function."""
        ...

    @property
    def optimizer(self) -> str:
        """Keras' name of the optimizer, where no hyper-parameter names it."""
        ...

    @property
    def learning_rate(self) -> float:
        """Its step, where no hyper-parameter says it."""
        ...

    @property
    def weight_decay(self) -> float:
        """Its decay of weights per step, where no hyper-parameter says it."""
        ...

    def _arrays(self) -> Arrays: ...
