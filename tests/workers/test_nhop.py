"""The examples of NHOP; test_keras_replicas.py has what its networks make of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swarm.errors import InvalidProblem
from swarm.workers.models import nhop


def test_the_cosine_has_four_inputs_and_its_formula() -> None:
    x, y = nhop.cosine(500)
    assert x.shape == (500, 4) and y.shape == (500, 1) and np.abs(x).max() <= 1
    for (a, b, c, d), value in zip(x[:9].tolist(), y[:9, 0], strict=True):
        assert value == pytest.approx(math.cos(4 * a) * math.cos(3 * b) + math.cos(6 * c + d) / 2, abs=1e-5)


def test_a_series_goes_on_with_what_is_to_be_predicted() -> None:
    x, y = nhop.cosine_series(50, length=26)
    assert x.shape == (50, 26, 1) and y.shape == (50, 1)
    longer, last = nhop.cosine_series(50, length=25)
    np.testing.assert_array_equal(x[:, :25], longer)
    np.testing.assert_array_equal(x[:, 25], last)


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidProblem, match="there is no model 'cnn'; there are regressor, rnn"):
        nhop.problem("cnn")
    with pytest.raises(InvalidProblem, match="there are no examples 'sine'; there are cosine, cosine-series"):
        nhop.problem(data="sine")
