"""LeNet's time to 98.6 % on MNIST: Recombination of Artificial Neural Networks, section 4.2.3 and table 3."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from swarm.workers.keras.time_to_accuracy import TimeToAccuracy
from swarm.workers.models import lenet_ga

THRESHOLD = 0.986


def problem(**options: Any) -> TimeToAccuracy:
    """The time that LeNet takes to its threshold, to be minimised.

    Args:
        **options: Those of :class:`TimeToAccuracy`, such as ``thresholds``, ``measure`` and ``max_iterations``; the
            others are those of the network, such as ``train``.
    """
    own = {option.name for option in fields(TimeToAccuracy)}
    network = lenet_ga.problem(**{name: value for name, value in options.items() if name not in own})
    defaults = {"network": network, "thresholds": {"val_accuracy": THRESHOLD}, "name": "lenet-time"}
    return TimeToAccuracy(**{**defaults, **{name: value for name, value in options.items() if name in own}})
