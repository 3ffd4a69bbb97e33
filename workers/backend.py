"""Which library a built-in network computes with: ``KERAS_BACKEND``, as the client sets it when it makes the problem.

The choice is part of the problem, and so of the key of each training: what one backend has found never answers for
another. Workers follow the problem, not their own setting.
"""

from __future__ import annotations

import os
from typing import Any

from swarm.errors import InvalidProblem

BACKENDS = ("tensorflow", "jax", "torch")
VARIABLE = "KERAS_BACKEND"


class Preload:
    """What a worker imports before it trains with Keras: an attribute of problems, and of their classes.

    Args:
        more: Names of modules, besides Keras and its backend.
    """

    def __init__(self, *more: str) -> None:
        self._more = more

    def __get__(self, problem: OnBackend | None, owner: type | None = None) -> tuple[str, ...]:
        return (BACKENDS[0] if problem is None else problem.keras_backend, "keras", *self._more)


class OnBackend:
    """A problem that is trained with Keras; one that is made remembers the backend.

    Attributes:
        keras_backend: ``tensorflow``, ``jax`` or ``torch``.
        preload: What a worker imports before it trains.
    """

    keras_backend: str = BACKENDS[0]
    preload = Preload()

    def __post_init__(self) -> None:
        backend = os.environ.get(VARIABLE) or BACKENDS[0]
        if backend not in BACKENDS:
            raise InvalidProblem(f"{VARIABLE}={backend} trains no network: take one of {', '.join(BACKENDS)}")
        if backend != BACKENDS[0]:  # so that the fingerprints of all others are what they have always been
            object.__setattr__(self, "keras_backend", backend)


def choose(problem: Any) -> None:
    """Have Keras take the backend of a problem in this process, if it is to be imported yet."""
    backend = getattr(problem, "keras_backend", None)
    if isinstance(backend, str) and backend in BACKENDS and backend != (os.environ.get(VARIABLE) or BACKENDS[0]):
        os.environ[VARIABLE] = backend


def check(problem: OnBackend) -> None:
    """Refuse to train with another backend than the problem's.

    Raises:
        InvalidProblem: This process has imported Keras with another one.
    """
    import keras

    if (here := keras.backend.backend()) != problem.keras_backend:
        raise InvalidProblem(
            f"the problem was made for Keras on {problem.keras_backend}, and this process has imported it on {here}: "
            f"set {VARIABLE}={problem.keras_backend} there, or use isolation: process"
        )


def is_tensorflow() -> bool:
    """Whether Keras, which is imported, computes with TensorFlow."""
    import keras

    return bool(keras.backend.backend() == BACKENDS[0])


def needs_tensorflow(what: str) -> InvalidProblem:
    """The error of what only TensorFlow can do here."""
    return InvalidProblem(f"{what} train a network together on TensorFlow alone: unset {VARIABLE}, or use one")
