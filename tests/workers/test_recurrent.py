"""Architectures and their listing; networks on NumPy against the equations, written out."""

from __future__ import annotations

import numpy as np
import pytest

from swarm.errors import Infeasible, InvalidProblem
from swarm.plain import canonical
from swarm.space import Space
from swarm.workers.recurrent import Architecture, drawn, errors, listing, predictions, space


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(sequence, kernel, recurrent, bias):
    """Hidden states of one LSTM layer: gates i, f, c, o."""
    h, c, states = np.zeros(len(recurrent)), np.zeros(len(recurrent)), []
    for x in sequence:
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return states


def test_the_listing_is_in_the_order_of_dlopt():
    assert listing((1, 2), (1, 2)) == [[1, 2], [1, 1], [2, 2], [2, 1], [2], [1]]


@pytest.mark.parametrize(
    ("units", "layers", "count"), [((1, 3), (1, 3), 39), ((1, 10), (1, 3), 1110), ((15, 60), (2, 2), 2116)]
)
def test_the_listing_has_every_architecture_once(units, layers, count):
    """There are Σ N^l of them."""
    found = listing(units, layers)
    assert len(found) == len({tuple(each) for each in found}) == count
    assert {len(each) for each in found} == set(range(layers[0], layers[1] + 1))


def test_a_listing_can_take_steps_and_go_on_from_a_prefix():
    assert listing((1, 9), (1, 1), step=4) == [[9], [5], [1]]
    assert listing((1, 2), (1, 3), prefix=(5, 6)) == [[5, 6, 2], [5, 6, 1]]
    assert listing((1, 2), (1, 2), prefix=(5, 6)) == []


def test_the_space_has_every_architecture_of_the_listing_and_equal_networks_are_equal_configurations():
    found = Space.parse(space(layers=(1, 2), units=(1, 2), look_back=(3, 3)))
    all_points = {canonical(found.at(i)): found.at(i) for i in range(found.size)}
    architectures = sorted(list(Architecture.of(params, 1, 1).units) for params in all_points.values())
    assert architectures == sorted(listing((1, 2), (1, 2)))
    assert {params["look_back"] for params in all_points.values()} == {3}


def test_a_fixed_number_of_layers_needs_no_conditions():
    found = Space.parse(space(layers=(2, 2), units=(15, 60), look_back=(2, 2)))
    assert found.size == 2116 and found.names == ("units_1", "units_2")


@pytest.mark.parametrize("bounds", [{"layers": (0, 2)}, {"units": (5, 4)}, {"look_back": (0, 0)}])
def test_bounds_that_cannot_be_are_refused(bounds):
    with pytest.raises(InvalidProblem, match="at least 1"):
        space(**bounds)


def test_the_number_of_weights_is_that_of_keras():
    """The sums 4u(in + u + 1) and (u + 1)·out, for the layers of the paper's second and third listing."""
    assert Architecture(1, (2, 2), 1, 2).size == 4 * 2 * 4 + 4 * 2 * 5 + 3
    third = Architecture(1, (12, 13, 9, 10, 12, 6), 1, 17)
    assert third.layers == [1, 12, 13, 9, 10, 12, 6, 1]
    pairs = [(1, 12), (12, 13), (13, 9), (9, 10), (10, 12), (12, 6)]
    assert third.size == sum(4 * u * (n + u + 1) for n, u in pairs) + 7


@pytest.mark.parametrize("params", [{"look_back": 2, "layers": 2, "units_1": 3}, {"layers": 1, "units_1": 3}])
def test_an_architecture_that_lacks_something_cannot_be_built(params):
    with pytest.raises(Infeasible, match="an architecture needs it"):
        Architecture.of(params, 1, 1)


def test_an_architecture_without_layers_or_with_another_activation_is_refused():
    with pytest.raises(Infeasible, match="there is no network"):
        Architecture(1, (), 1, 2)
    with pytest.raises(InvalidProblem, match="activation is one of tanh, sigmoid, linear"):
        Architecture(1, (2,), 1, 2, "relu")


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "linear"])
def test_predictions_follow_the_equations(activation):
    architecture = Architecture(2, (3, 4), 2, 5, activation)
    rng = np.random.default_rng(1)
    weights = drawn({}, (3, architecture.size), rng)
    windows = rng.standard_normal((7, 5, 2)).astype(np.float32)
    found = predictions(architecture, weights, windows)
    assert found.shape == (3, 7, 2)
    final = {"tanh": np.tanh, "sigmoid": sigmoid, "linear": lambda x: x}[activation]
    for network in range(3):
        tensors = [each[network].astype(float) for each in architecture.tensors(weights)]
        for number, window in enumerate(windows.astype(float)):
            last = lstm(lstm(window, *tensors[:3]), *tensors[3:6])[-1]
            assert found[network, number] == pytest.approx(final(last @ tensors[6] + tensors[7]), abs=1e-5)


@pytest.mark.parametrize(("metric", "power"), [("mae", 1), ("mse", 2)])
def test_errors_are_the_same_for_one_network_at_a_time(metric, power):
    architecture = Architecture(1, (4,), 1, 3)
    rng = np.random.default_rng(2)
    weights, windows = drawn({}, (9, architecture.size), rng), drawn({}, (20, 3, 1), rng)
    targets = drawn({}, (20, 1), rng)
    together = errors(architecture, weights, windows, targets, metric)
    for block in (1, 200, 10**9):
        assert errors(architecture, weights, windows, targets, metric, block=block) == pytest.approx(together, rel=1e-6)
    guesses = predictions(architecture, weights, windows)
    assert together == pytest.approx((np.abs(guesses - targets) ** power).mean(axis=(1, 2)), rel=1e-5)


def test_weights_are_drawn_from_the_distribution_that_is_asked_for():
    """In DLOPT they are N(0, 1) whatever is asked for."""
    rng = np.random.default_rng(3)
    normal = drawn({"name": "normal", "loc": 5, "scale": 0.1}, (200, 500), rng)
    assert normal.dtype == np.float32
    assert normal.mean() == pytest.approx(5, abs=2e-3) and normal.std() == pytest.approx(0.1, abs=2e-3)
    uniform = drawn({"name": "uniform", "low": -0.5, "high": 0.5}, (200, 500), rng)
    assert uniform.min() >= -0.5 and uniform.max() < 0.5 and uniform.var() == pytest.approx(1 / 12, abs=2e-3)


@pytest.mark.parametrize("distribution", [{"name": "gamma"}, {"name": "normal", "low": 0}])
def test_a_distribution_that_there_is_not_is_refused(distribution):
    with pytest.raises(InvalidProblem, match="weights are drawn from"):
        drawn(distribution, (1, 1), np.random.default_rng(0))
