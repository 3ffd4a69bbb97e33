"""Image classifiers and the like in Keras, on any of its backends."""

from swarm.workers.keras.feed import EVALUATION_BATCH, Feed, batches_of, in_order
from swarm.workers.keras.problem import CHANGEABLE, SAVE_SECONDS, SCORES, Build, KerasProblem, Loss

__all__ = [
    "CHANGEABLE",
    "EVALUATION_BATCH",
    "SAVE_SECONDS",
    "SCORES",
    "Build",
    "Feed",
    "KerasProblem",
    "Loss",
    "batches_of",
    "in_order",
]
