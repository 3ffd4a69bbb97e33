"""Series: what they are, how they are divided and scaled without a look at the future."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from swarm.errors import InvalidProblem
from swarm.workers.recurrent.series import divided, load, scaled

needs_parking = pytest.mark.skipif(
    not Path(os.environ.get("SWARM_DATA", ""), "parking-birmingham").is_dir(),
    reason="no parking-birmingham in the folder that SWARM_DATA names",
)


def test_the_sine_has_ten_points_per_period():
    sine = load("sine")
    values = np.concatenate([sine.train, sine.valid, sine.test])[:, 0]
    assert values.shape == (1000,) and values.dtype == np.float32
    assert values[:6] == pytest.approx([0, 0.58778525, 0.95105652, 0.95105652, 0.58778525, 0], abs=1e-6)
    assert values[10:] == pytest.approx(values[:-10], abs=1e-4)
    assert (sine.low, sine.high) == (-1.0, 1.0)


def test_a_fourier_series_sums_harmonics_within_plus_and_minus_1():
    wave = load({"name": "fourier", "amplitudes": [2, -1], "points": 100})
    t = 0.1 * np.arange(60)
    assert wave.train[:, 0] == pytest.approx((2 * np.sin(2 * np.pi * t) - np.sin(4 * np.pi * t)) / 3, abs=1e-6)


def test_parts_follow_each_other_in_time():
    series = divided(np.arange(20).reshape(10, 2), ["a", "b"], ["b"], (0.5, 0.3))
    assert series.train[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert series.valid[:, 0].tolist() == [10, 12, 14]
    assert series.test[:, 0].tolist() == [16, 18]
    assert (series.low, series.high) == (1, 9)  # of the target, in the training part


def test_a_window_is_followed_by_its_target():
    series = divided(np.arange(20).reshape(10, 2), ["a", "b"], ["b"], (0.5, 0.3))
    windows, targets = series.windows("train", 3)
    assert windows.tolist() == [[[0, 1], [2, 3], [4, 5]], [[2, 3], [4, 5], [6, 7]]]
    assert targets.tolist() == [[7], [9]]
    assert len(series.windows("valid", 2)[0]) == 1
    with pytest.raises(InvalidProblem, match="the test part has 2 steps: too few to look back 2"):
        series.windows("test", 2)


@pytest.mark.parametrize("scale", ["minmax", "standard"])
def test_what_comes_later_does_not_change_the_scale(scale):
    rng = np.random.default_rng(0)
    values = rng.normal(5, 3, size=(100, 2))
    later = values.copy()
    later[60:] *= 1000
    one, other = (scaled(divided(v, ["a", "b"], ["a"], (0.6, 0.2)), scale) for v in (values, later))
    assert np.array_equal(one.train, other.train) and (one.low, one.high) == (other.low, other.high)
    if scale == "minmax":
        assert one.train.min(axis=0).tolist() == [0, 0] and one.train.max(axis=0).tolist() == [1, 1]
    else:
        assert one.train.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
        assert one.train.std(axis=0) == pytest.approx([1, 1], abs=1e-6)


def test_a_column_that_never_changes_is_scaled_to_0():
    series = scaled(divided(np.full((10, 1), 7.0), ["a"], ["a"], (0.6, 0.2)), "minmax")
    assert set(series.train.ravel().tolist()) == {0.0}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("SWARM_DATA", str(tmp_path))
    rows = "".join(f"2020-01-{day:02},{day},{2 * day},x\n" for day in range(1, 31))
    (tmp_path / "sales.csv").write_text("date,sold,price,note\n" + rows, encoding="utf-8")


@pytest.mark.usefixtures("file")
def test_a_csv_file_is_read_by_the_names_of_its_columns():
    series = load({"file": "sales.csv", "columns": ["price", "sold"], "targets": ["sold"], "scale": None})
    assert series.train[:2].tolist() == [[2, 1], [4, 2]] and len(series.train) == 18
    assert series.windows("train", 1)[1][0].tolist() == [2]
    assert load({"file": "sales.csv", "columns": ["sold"]}).train.max() == 1.0  # scaled unless told otherwise


@pytest.mark.usefixtures("file")
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"file": "sales.csv", "columns": ["cost"]}, InvalidProblem, "no column 'cost'; it has date, sold"),
        ({"file": "sales.csv", "columns": ["note"]}, InvalidProblem, "must be numbers"),
        ({"file": "sales.csv", "columns": ["sold"], "targets": ["price"]}, InvalidProblem, "no column 'price'"),
        ({"file": "sales.csv", "columns": ["sold"], "scale": "log"}, InvalidProblem, "scale is one of minmax"),
        ({"file": "sales.csv", "columns": ["sold"], "shares": [0.6, 0.4]}, InvalidProblem, "leave a part empty"),
        ({"file": "none.csv", "columns": ["sold"]}, FileNotFoundError, "SWARM_DATA"),
        ({"name": "tides"}, InvalidProblem, "no series 'tides'; there are csv, fourier, parking, sine"),
        ({"name": "sine", "length": 5}, InvalidProblem, "options of the series sine"),
    ],
)
def test_what_cannot_be_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        load(options)


@needs_parking
def test_the_car_parks_that_both_files_name_are_in_the_unit_interval():
    parking = load("parking")
    assert parking.columns == parking.targets and len(parking.columns) == 28
    assert (len(parking.train), len(parking.valid), len(parking.test)) == (950, 238, 200)
    assert parking.train[0, 0] == pytest.approx(0.33661119515884996)
    assert parking.test[0, 0] == pytest.approx(0.316187594553707)
    assert (parking.low, parking.high) == (0.0, 1.0)
    some = load({"name": "parking", "columns": ["Broad Street", "weekday", "time"]})
    assert some.targets == ("Broad Street",) and some.train[0].tolist() == pytest.approx([0.257971, 1, 8])
