"""A network that translates: an encoder reads the sentence, a decoder writes its translation, word by word.

Recombination of Artificial Neural Networks, section 4.3.3, changes the learning rate and the dropout of such a network
while it trains; it states no ranges, so those here are ours. Its sentences, 2,821 in Vietnamese and English, are not at
hand: ``synthetic-translation`` stands in for them, and says nothing about how well a network translates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swarm.trial import Params
from swarm.workers.keras.layers import dropout
from swarm.workers.keras.problem import KerasProblem

if TYPE_CHECKING:
    import keras

SPACE: dict[str, Any] = {
    "learning_rate": {"real": [1e-4, 1e-1], "log": True, "default": 3e-3},
    "dropout": {"real": [0.01, 0.8], "default": 0.2},
}


def build(params: Params, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network, uncompiled; its outputs are the probabilities of each word, (sentence, word, vocabulary).

    Args:
        params: A point of :data:`SPACE`; the learning rate is the optimizer's. It may also hold ``units``, the width
            of every layer: 64 unless given.
        input_shape: Two, number of words: a sentence, and its translation up to each word.
        classes: Size of the vocabulary, the same for both languages.
    """
    import keras

    units = int(params.get("units", 64))
    inputs = keras.Input(input_shape)
    sentence, so_far = (dropout(keras.layers.Embedding(classes, units)(inputs[:, part]), params) for part in (0, 1))
    meaning = keras.layers.GRU(units)(sentence)
    x = keras.layers.GRU(units, return_sequences=True)(so_far, initial_state=meaning)
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax")(dropout(x, params)))


def problem(**options: Any) -> KerasProblem:
    """The network on made-up sentences: 60 epochs, batches of 64; ``options`` are those of :class:`KerasProblem`.

    Its fitness is the share of right words. The paper's is ``score: perplexity``, to be minimised.
    """
    defaults = {
        "build": build,
        "name": "seq2seq",
        "data": "synthetic-translation",
        "epochs": 60,
        "batch_size": 64,
        "patience": None,
        "space": SPACE,
    }
    return KerasProblem(**{**defaults, **options})
