"""What becomes of an architecture: sampled, trained, saved and applied by the commands."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swarm import Job, run
from swarm.cli import app
from swarm.errors import InvalidInput, InvalidProblem

EXAMPLES = Path(__file__).parent.parent / "examples"
LISTING = str(EXAMPLES / "sine-listing.yaml")


def call(*words: object) -> str:
    done = CliRunner().invoke(app, ["architecture", *map(str, words)])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_an_architecture_is_sampled_as_the_paper_shows_it():
    shown = json.loads(call("sample", LISTING, "--look-back", 2, "--units", "2,2", "--samples", 30, "--seed", 1))
    assert list(shown) == ["look_back", "architecture", "metrics"]
    assert (shown["look_back"], shown["architecture"]) == (2, [1, 2, 2, 1])
    assert set(shown["metrics"]) == {"log_p", "p", "mean", "std", "samples"} and len(shown["metrics"]["samples"]) == 30
    assert (
        json.loads(call("sample", LISTING, "--look-back", 2, "--units", "2,2", "--samples", 30, "--seed", 1)) == shown
    )


def test_a_listing_is_sampled_by_a_job_and_its_best_by_name(tmp_path):
    store = f"{tmp_path}/swarm.db"
    found = run(Job.from_file(LISTING, isolation="thread"), slots=1, store=store, progress=False)
    assert found.counts["trained"] == 6 and found.counts["archive"] + found.counts["in_flight"] == 2
    shown = json.loads(call("sample", "sine-listing", "--store", store))
    best = found.best.params
    assert shown["architecture"] == [1, *(best[f"units_{k}"] for k in range(1, best["layers"] + 1)), 1]
    assert found.best.fitness == found.history["fitness"].max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_network_is_trained_saved_and_applied(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(
        "name: job\nproblem: weights\noptimizer: {name: Random, trials: 1}\n"
        "options: {data: {name: sine, points: 120}, generations: 20}\n",
        encoding="utf-8",
    )
    saved = tmp_path / "net.keras"
    shown = json.loads(call("train", job, "--look-back", 3, "--units", "4,2", "--save", saved))
    assert (shown["layers"], shown["look_back"]) == ([1, 4, 2, 1], 3)
    assert [layer["class_name"] for layer in shown["config"]] == ["LSTM", "LSTM", "Dense"]
    rows = list(csv.DictReader(io.StringIO(call("predict", job, "--model", saved))))
    assert list(rows[0]) == ["value", "predicted value"] and len(rows) == 24 - 3
    errors = [abs(float(row["value"]) - float(row["predicted value"])) for row in rows]
    assert sum(errors) / len(errors) == pytest.approx(shown["fitness"]["mae"], rel=1e-5)


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        (("sample", LISTING), InvalidInput, "say which architecture"),
        (("sample", LISTING, "--look-back", 2, "--units", "2x2"), InvalidInput, "numbers like 2,2"),
        (("sample", EXAMPLES / "digits.yaml", "--look-back", 2, "--units", "2"), InvalidInput, "no architecture"),
        (("sample", EXAMPLES / "sine-weights.yaml", "--look-back", 2, "--units", "2"), InvalidInput, "mae-sampling"),
        (("predict", LISTING, "--model", "none.keras"), InvalidInput, "there is no file none.keras"),
        (("sample", LISTING, "--look-back", 500, "--units", "2"), InvalidProblem, "too few to look back"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words, error, text):
    with pytest.raises(error, match=text):
        call(*words)
