"""The pages of one search in a real browser: fitness and the search space."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, Page, browser, needs_browser
from services import wait_until
from stored_pages import served

from swarm import GA, Choice, Hyperband, Integer, Job, Random, Real, run
from swarm.dashboard.search.aside import Aside
from swarm.dashboard.search.front import growth, several
from swarm.dashboard.search.ground import ground, position
from swarm.dashboard.search.ranges import Followed, shaded, spread
from swarm.dashboard.search.words import best_html, fitness_name
from swarm.plots.axes import axes
from swarm.space import Space

SPACE = {"units": Integer(4, 90), "rate": Real(1e-5, 0.1, log=True), "activation": Choice(["<i>relu", "tanh"])}
CRITERIA = [
    {"metric": "size", "direction": "minimize", "tolerance": 1.0},
    {"metric": "val_loss", "direction": "minimize"},
]
MODELS = "[...(globalThis.Bokeh?.documents[0]?._all_models.values() ?? [])]"


def train(params: Any, ctx: Any) -> dict[str, float]:
    off = (math.log10(params["rate"]) + 2.5) ** 2 + (params["units"] - 40) ** 2 / 2000
    return {"fitness": 0.0, "val_loss": off + 0.3 + 1 / (ctx.budget or 1), "size": float(params["units"])}


def searched(store: Path, name: str, **fields: Any) -> None:
    job = {"name": name, "problem": train, "space": SPACE, "isolation": "thread", "test": False, **fields}
    run(Job(**job), slots=1, store=store, progress=False)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = tmp_path_factory.mktemp("searched") / "runs.db"
    searched(store, "plain", optimizer=Random(trials=40), fitness="val_loss", direction="minimize")
    bands = Hyperband(min_budget=1, max_budget=9)
    searched(store, "bands", optimizer=bands, fitness="val_loss", direction="minimize")
    both = {"val_loss": "minimize", "size": "minimize"}
    searched(store, "two", optimizer=GA(population=8, generations=4), fitness=both)
    with served(store) as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def figures(page: Page) -> list[dict[str, Any]]:
    """What the figures that are drawn say of themselves."""
    script = (
        MODELS
        + """.filter((model) => model.type === "Figure").map((plot) => ({
      title: plot.title.text, up: plot.left.map((axis) => axis.axis_label).join(), low: plot.y_range.start,
      high: plot.y_range.end, across: plot.below.map((axis) => axis.axis_label).join(),
    }))"""
    )
    return list(page.evaluate(script))


def choose(page: Page, title: str, value: str) -> None:
    """Choose an option of the select with this title."""
    script = f"""(() => {{
      const model = {MODELS}.find((each) => each.title === {title!r});
      model.value = {value!r};
    }})()"""
    page.evaluate(script)


BEST_POINT = f"""(() => {{
  const plot = {MODELS}.find((each) => each.type === "Figure");
  const data = {MODELS}.find((each) => each.type === "ColumnDataSource" && each.data.source && each.data.trial).data;
  const best = [...data.fitness].reduce((low, value, i, all) => (value < all[low] ? i : low), 0);
  const view = Bokeh.index.find_one(plot), box = view.el.getBoundingClientRect();
  const x = view.frame.x_scale.compute(data.x[best]), y = view.frame.y_scale.compute(data.fitness[best]);
  return [data.trial[best], box.left + x, box.top + y];
}})()"""


def compared(page: Page) -> set[str]:
    """Jobs whose lines are drawn."""
    script = f"""{MODELS}.filter((each) => each.type === "ColumnDataSource" && each.data.label && each.data.xs)
      .flatMap((each) => [...each.data.label])"""
    return set(page.evaluate(script))


def chosen(page: Page) -> list[list[int]]:
    """Trials that are chosen among the points, and among the lines."""
    script = f"""{MODELS}.filter((each) => each.type === "ColumnDataSource" && each.selected.indices.length)
      .filter((each) => each.data.trial).map((each) => [
        each.data.ys === undefined ? 0 : 1, each.selected.indices.map((i) => Number(each.data.trial[i]))
      ])"""
    return [trials for _, trials in sorted(page.evaluate(script))]


def fits(page: Page) -> bool:
    """Whether the page is no wider than the window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.slow
@needs_browser
def test_the_page_of_fitness_names_the_metric_and_zooms_to_the_best(address: str, chromium: Browser) -> None:
    page = chromium.open(f"{address}?page=fitness&job=plain")
    wait_until(lambda: "40 trials answered, best" in page.text(".bk-clearfix"))
    (drawn,) = wait_until(lambda: figures(page))
    assert drawn["title"] == "minimize val_loss"
    assert (drawn["across"], drawn["up"]) == ("trial", "val_loss (smaller is better)")
    assert "The best" in page.text("h4") and "activation" in page.text("td")
    choose(page, "along", "time")
    wait_until(lambda: figures(page)[0]["across"].startswith("time since the start ("))
    page.click(".bk-btn")
    wait_until(lambda: figures(page)[0]["high"] < drawn["high"])
    assert figures(page)[0]["low"] <= drawn["low"] + 0.5
    page.click(".bk-btn")
    wait_until(lambda: figures(page)[0]["high"] == drawn["high"])
    best, x, y = page.evaluate(BEST_POINT)
    page.drag((x, y), (x, y))
    wait_until(lambda: f"trial {best} · " in page.text("h3"), of="the trial that was clicked")
    assert page.errors == []


@pytest.mark.slow
@needs_browser
def test_jobs_are_picked_to_be_compared_in_one_figure(address: str, chromium: Browser) -> None:
    page = chromium.open(f"{address}?page=compare&job=plain")
    wait_until(lambda: compared(page) == {"two", "plain"}, of="the first two")
    page.click("input[type=checkbox]", 1)
    wait_until(lambda: compared(page) == {"two", "bands", "plain"})
    assert "in others" not in page.text("p")
    choose(page, "along", "time")
    wait_until(lambda: figures(page)[0]["across"].startswith("time since the start ("))
    for width in (1400, 900, 400):
        page.resize(width, 900)
        wait_until(lambda: fits(page), of=f"what fits into {width} pixels")
    assert page.errors == []


@pytest.mark.slow
@needs_browser
def test_budgets_are_told_apart_by_their_colours(address: str, chromium: Browser) -> None:
    page = chromium.open(f"{address}?page=fitness&job=bands")
    wait_until(lambda: figures(page))
    script = (
        MODELS
        + """.filter((each) => each.data?.budget !== undefined)
      .map((each) => [...new Set([...each.data.budget].map((name, i) => name + " " + each.data.color[i]))].sort())"""
    )
    (told,) = wait_until(lambda: [each for each in page.evaluate(script) if each])
    assert [each.rpartition(" ")[0] for each in told] == ["budget 1", "budget 3", "budget 9"]
    assert len({each.rpartition(" ")[2] for each in told}) == 3
    assert page.errors == []


@pytest.mark.slow
@needs_browser
def test_what_is_chosen_in_one_figure_of_the_search_space_is_chosen_in_all(address: str, chromium: Browser) -> None:
    page = chromium.open(f"{address}?page=search%20space&job=plain")
    wait_until(lambda: any(each["title"] == "Hyper-parameter importance" for each in figures(page)), of="importance")
    assert "different configurations" in page.text(".bk-clearfix")
    plane = next(each for each in figures(page) if each["title"] == "units and rate")
    assert (plane["across"], plane["up"]) == ("units", "rate")
    assert 0 < plane["low"] < 1e-5 and 0.1 < plane["high"] < 0.2
    first, second = sorted(page.place(".bk-Figure", number) for number in (0, 1))
    left, top, _, bottom = first
    page.drag((left + 80, top + 40), (left + 250, bottom - 100))
    said = wait_until(lambda: re.search(r"(\d+) chosen · val_loss", page.text(".bk-clearfix")))
    points, lines = wait_until(lambda: chosen(page))
    assert 0 < len(points) == int(said[1]) < 40
    assert sorted(points) == sorted(lines)
    choose(page, "across", "activation")
    wait_until(lambda: any(each["title"] == "activation and rate" for each in figures(page)))
    page.click(".bk-btn")  # choose none
    wait_until(lambda: "chosen ·" not in page.text(".bk-clearfix"))
    left, top, _, bottom = second
    page.drag((left + 40, top + 60), (left + 200, bottom - 200))
    wait_until(lambda: re.search(r"\d+ chosen · val_loss", page.text(".bk-clearfix")), of="lines that are chosen")
    points, lines = chosen(page)
    assert sorted(points) == sorted(lines)
    assert page.errors == []


@pytest.mark.slow
@needs_browser
def test_the_front_of_several_targets_stands_below_their_fitness(address: str, chromium: Browser) -> None:
    page = chromium.open(f"{address}?page=fitness&job=two")
    said = wait_until(lambda: re.search(r"The front: (\d+) of (\d+) trials", page.text("h4")))
    assert 1 <= int(said[1]) < int(said[2])
    wait_until(lambda: any(each["title"] == "Hypervolume of the front" for each in figures(page)))
    front = next(each for each in figures(page) if each["title"] == "The front")
    assert (front["across"], front["up"]) == ("val_loss (minimize)", "size (minimize)")
    assert page.errors == []


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("name", ["fitness", "search space"])
def test_a_page_fits_every_window_in_both_themes(name: str, address: str, chromium: Browser) -> None:
    for theme in ("light", "dark"):
        page = chromium.open(f"{address}?page={name.replace(' ', '%20')}&job=bands&theme={theme}")
        wait_until(lambda page=page: figures(page))
        for width in (1400, 900, 400):
            page.resize(width, 900)
            wait_until(lambda page=page: fits(page), of=f"{name} fits {width} pixels")
        assert page.errors == []
        page.close()


def test_the_best_quarter_is_what_is_zoomed_to() -> None:
    fitness = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    low, high = spread(fitness, direction="maximize", zoomed=True, log=False)
    assert 6.5 < low < 7.0 and 8.0 < high < 8.5
    low, high = spread(fitness, direction="minimize", zoomed=True, log=True)
    assert 0.9 < low < 1.0 and 2.0 < high < 2.2
    low, high = spread([5.0], direction="maximize", zoomed=False, log=False)
    assert low < 5.0 < high
    low, high = spread([-1.7e308, 1.7e308], direction="maximize", zoomed=False, log=False)
    assert math.isfinite(high - low)


def test_a_range_follows_the_data_until_somebody_moves_it() -> None:
    followed = Followed()
    followed.follow((1.0, 2.0))
    assert (followed.range.start, followed.range.end) == (1.0, 2.0)
    followed.range.start = 1.5  # by hand
    followed.follow((0.0, 3.0))
    assert (followed.range.start, followed.range.end) == (1.5, 2.0)
    followed.follow((0.0, 3.0), force=True)
    assert (followed.range.start, followed.range.end) == (0.0, 3.0)


def test_the_fitness_of_a_list_is_called_like_its_first_metric() -> None:
    job = Job(name="job", problem=train, space=SPACE, fitness=CRITERIA)
    assert fitness_name(job.to_dict()) == "size"
    assert best_html("size", None) == ""


def test_between_trials_the_fitness_is_the_mean_of_those_near_and_far_from_all_there_is_none() -> None:
    both = axes(Space({"x": Real(0, 1), "y": Real(1, 100, log=True)}))
    places, fitness = np.array([0.1, 0.9]), np.array([1.0, 5.0])
    found = ground(places, places, fitness, (both[0], both[1]))
    assert found.shape == (40, 40)
    assert found[4, 4] == pytest.approx(1.0, abs=1e-3) and found[36, 36] == pytest.approx(5.0, abs=1e-3)
    assert np.isnan(found[4, 36]) and np.isnan(found[36, 4])
    assert position(both[1], {"y": 10.0}) == pytest.approx(0.5)
    assert np.isnan(position(both[1], {"x": 0.5}))


def test_colours_reach_as_far_as_all_but_the_worst_tenth() -> None:
    assert shaded([float(n) for n in range(20)], "maximize") == (2.0, 19.0)
    assert shaded([float(n) for n in range(20)], "minimize") == (0.0, 17.0)
    low, high = shaded([3.0], "minimize")
    assert low < 3.0 < high
    assert shaded([], "minimize") == (0.0, 1.0)


def test_what_takes_long_is_worked_out_again_when_there_is_a_fifth_more() -> None:
    aside: Aside[int] = Aside()
    assert not aside.ask(10, lambda: 10)
    wait_until(lambda: aside.ask(11, lambda: 11))
    assert aside.found == 10
    assert not aside.ask(11, lambda: 11)
    assert not aside.ask(11, lambda: 11) and aside.found == 10
    assert not aside.ask(12, lambda: 1 // 0)
    wait_until(lambda: not aside.waiting)
    assert not aside.ask(12, lambda: 12) and aside.found == 10


def test_the_hypervolume_never_shrinks_and_ends_at_one() -> None:
    found = growth([(3.0, 3.0), (2.0, 2.0), (1.0, 2.5), (2.5, 1.0), (2.9, 2.9), (0.0, 0.0)])
    assert found["share"] == sorted(found["share"])
    assert found["share"][1] == pytest.approx(1 / 9) and found["share"][-1] == 1.0
    assert several({"fitness": {"a": "minimize", "b": "maximize"}}) == {"a": "minimize", "b": "maximize"}
    assert several({"fitness": {"a": 1.0, "b": 2.0}}) == several({"fitness": "a"}) == several({}) == {}
