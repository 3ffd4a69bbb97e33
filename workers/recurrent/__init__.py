"""Recurrent networks on series: sampled, trained, or evolved."""

from swarm.workers.recurrent.numpy_network import (
    BLOCK,
    Activation,
    Architecture,
    Array,
    Distribution,
    Metric,
    drawn,
    errors,
    listing,
    predictions,
    space,
)

__all__ = [
    "BLOCK",
    "Activation",
    "Architecture",
    "Array",
    "Distribution",
    "Metric",
    "drawn",
    "errors",
    "listing",
    "predictions",
    "space",
]
