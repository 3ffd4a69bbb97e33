"""A compiled network, kept from one slice of a training to the next, which then need not build and trace it.

TensorFlow traces a network, with its loss and optimizer, at the first step of a training. A number becomes a constant
then; a variable is read at each step, and can be given another value. On another backend of Keras a rate is a number,
and a network with another one is rebuilt.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from swarm.errors import InvalidProblem
from swarm.plain import canonical
from swarm.trial import Params
from swarm.workers.backend import is_tensorflow

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from swarm.workers.keras.feed import Feed
    from swarm.workers.keras.recipe import Recipe

STEPS_PER_EXECUTION = 10  # at 1, whole epochs take twice as long now and then


class Hyperparameters(Mapping[str, Any]):
    """What a network is built from: numbers, which it has in it for good, and rates, which can be set again.

    It takes note of each hyper-parameter that is read, so that those which were not are known to have no part in the
    network. A rate is a variable instead, which the network reads at each step, where TensorFlow is the backend.

    Args:
        params: Hyper-parameters by name.
    """

    def __init__(self, params: Params) -> None:
        self._params = params
        self._read: set[str] = set()
        self._rates: dict[str, tf.Variable] = {}

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return self._params[name]

    def __iter__(self) -> Iterator[str]:
        self._read.update(self._params)
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def rate(self, name: str) -> tf.Variable | float:
        """The hyper-parameter as a variable, always the same one, which does not count as read; or else its value.

        Raises:
            InvalidProblem: It is not within 0 … 1.
        """
        if not is_tensorflow():
            return share(name, self[name])
        import tensorflow as tf

        if name not in self._rates:
            self._rates[name] = tf.Variable(share(name, self._params[name]), trainable=False)
        return self._rates[name]

    def fit(self, params: Params) -> bool:
        """Whether the network is just what would be built from ``params``, once the rates are set."""
        if params.keys() != self._params.keys():  # a name that was looked for in vain may be there now
            return False
        here, there = ({name: of[name] for name in of if name in self._read} for of in (self._params, params))
        return canonical(here) == canonical(there)

    def set(self, params: Params) -> None:
        """Takes other hyper-parameters that :meth:`fit`.

        Raises:
            InvalidProblem: A rate is not within 0 … 1.
        """
        self._params = params
        for name, rate in self._rates.items():
            rate.assign(share(name, params[name]))


def share(name: str, value: Any) -> float:
    """The value of a rate.

    Raises:
        InvalidProblem: It is not within 0 … 1.
    """
    if not 0 <= float(value) <= 1:
        raise InvalidProblem(f"{name} is a rate, from 0 to 1, not {value}")
    return float(value)


class Network:
    """A compiled network with an optimizer, and what of it can be set again.

    Building it is cheap beside the first step of a training, in which TensorFlow traces it.

    Args:
        problem: What it is for.
        params: Hyper-parameters.
        seed: Of its initial weights.

    Attributes:
        model: What Keras calls a model.
        feed: What it was trained on last.
    """

    def __init__(self, problem: Recipe, params: Params, seed: int) -> None:
        import keras

        keras.utils.set_random_seed(seed)
        self.feed: Feed | None = None
        arrays = problem._arrays()
        self._problem = problem
        self._params = Hyperparameters(params)
        self.model = problem.build(self._params, arrays.shape, arrays.classes)
        decay = self._decay(params) if "weight_decay" in params or problem.weight_decay != 0 else None
        optimizer = _optimizer(str(self._params.get("optimizer", problem.optimizer)), decay)
        self._weight_decay = optimizer.weight_decay
        self.model.compile(
            optimizer=optimizer,
            loss=problem.loss,
            metrics=["accuracy"],
            **_execution(),
        )
        optimizer.build(self.model.trainable_variables)  # else its state could not be restored
        self.set(params)

    def fits(self, problem: Recipe, params: Params) -> bool:
        """Whether it is the network of ``problem``, but for what :meth:`set` sets."""
        if isinstance(self._weight_decay, float) and self._weight_decay != self._decay(params):
            return False
        return problem == self._problem and self._params.fit(params)

    def set(self, params: Params) -> None:
        """Sets what can be set."""
        self._params.set(params)
        self.model.optimizer.learning_rate = float(params.get("learning_rate", self._problem.learning_rate))
        if self._weight_decay is not None and not isinstance(self._weight_decay, float):
            self._weight_decay.assign(self._decay(params))

    def take_state(self, other: Network) -> None:
        """Takes over weights, optimizer and random state of a network that is built alike."""
        for mine, others in zip(self._variables(), other._variables(), strict=True):
            mine.assign(others)

    def _decay(self, params: Params) -> float:
        return float(params.get("weight_decay", self._problem.weight_decay))

    def _variables(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.model.optimizer.variables]


def kept(problem: Recipe, params: Params, seed: int, *, initial: bool) -> Network:
    """The network that the slice before has left, if it fits; else a new one.

    Args:
        problem: What it is for.
        params: Hyper-parameters, to which it is set.
        seed: Of its initial weights.
        initial: Whether it is to have those; otherwise its state may be any. (Nor is TensorFlow's seed set then, since
            that has everything compiled again.)
    """
    if not (_kept and _kept[-1].fits(problem, params)):
        _kept.clear()
        logging.getLogger("tensorflow").addFilter(_is_no_retracing)
        gc.collect()  # before there is another, since both may not fit into the GPU's memory
        return Network(problem, params, seed)
    network = _kept.pop()  # nobody else has it now, and it is gone if this training fails
    if initial:
        network.take_state(Network(problem, params, seed))
    network.set(params)
    return network


def leave(network: Network) -> None:
    """Leaves a network to the next slice in this process."""
    _kept.append(network)


def _is_no_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()  # one network after the other: it has to


_kept: list[Network] = []


def _execution() -> dict[str, Any]:
    """How Keras executes the steps of a training."""
    import keras

    if is_tensorflow():  # there, compiling halves the speed of convolutions on a CPU
        return {"steps_per_execution": STEPS_PER_EXECUTION, "jit_compile": False}
    return {"jit_compile": keras.backend.backend() == "jax"}


def _optimizer(name: str, decay: float | None) -> keras.optimizers.Optimizer:
    """The optimizer of that name, with its weight decay, if any, in a variable where TensorFlow is the backend.

    Raises:
        ValueError: Keras knows none of that name.
    """
    import keras

    optimizer = keras.optimizers.get({"class_name": name, "config": {"weight_decay": 0.0}})
    if decay is None or not is_tensorflow():
        optimizer.weight_decay = decay
        return optimizer
    import tensorflow as tf

    # A number would be a constant of the traced step, and a variable of Keras' own kind part of the saved state.
    optimizer.weight_decay = tf.Variable(0.0, trainable=False)
    return optimizer
