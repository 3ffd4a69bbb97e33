"""Configurations that a user knows: tried before any other, at the beginning of a search and amid it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from test_master import job_of, mastered, scheduler, worker
from test_search import make_job, make_pool, search, trajectory
from typer.testing import CliRunner

from swarm import PBT, PSO, Choice, Client, Grid, Integer, Job, Random, Real, SurrogatePSO, run
from swarm.cli import app
from swarm.errors import InvalidInput, InvalidOptimizer, InvalidSpace, JobConflict, NotAllowed
from swarm.optimizers.base import Optimizer
from swarm.search import Search
from swarm.search.state import SearchState
from swarm.store import Store
from swarm.store.events import Began, Enqueued

OpenStore = Callable[..., Store]
KNOWN = [{"x": 3, "y": 4}, {"y": 11}, {"x": 20}]


def first_rows(store: Store, number: int = 3) -> list[dict[str, Any]]:
    return [row[3] for row in trajectory(store)[:number]]


@pytest.mark.parametrize("method", [PSO(particles=2, generations=5), Random(trials=9), Grid(), SurrogatePSO(trials=9)])
def test_they_are_the_first_trials_and_a_cut_run_goes_on_identically(method: Optimizer, open_store: OpenStore) -> None:
    store, job = open_store(), make_job(optimizer=method, first=KNOWN)
    found = search(job, store, make_pool(1))
    tried = first_rows(store)
    assert all(part.items() <= row.items() for part, row in zip(KNOWN, tried, strict=True))
    events = list(store.events("job"))
    for cut in (2, 5, 8):
        other = open_store(f"cut-{cut}")
        other.add_job("job", job.to_dict(), b"")
        other.append("job", 0, events[:cut])
        again = search(job, other, make_pool(1))
        assert again.state.best == found.state.best
        assert [row[:4] for row in trajectory(other)] == [row[:4] for row in trajectory(store)]


def test_they_may_stand_in_groups_as_the_space_does(open_store: OpenStore) -> None:
    space = {"model": {"units": Integer(1, 9), "kind": Choice([{"a": 1}, None])}, "rate": Real(0, 1)}
    first = [{"model": {"units": 3, "kind": {"a": 1}}, "rate": 1}, {"model.units": 4, "model": {"kind": None}}]
    job = make_job(optimizer=Random(trials=3), space=space, first=first)
    whole, part = {"model.units": 3, "model.kind": {"a": 1}, "rate": 1.0}, {"model.units": 4, "model.kind": None}
    assert list(job.first) == [whole, part]
    with pytest.raises(InvalidSpace, match="model.depth: there is no such parameter"):
        make_job(space=space, first=[{"model": {"units": 3, "depth": 2}}])


def test_a_grid_asks_for_none_of_its_configurations_twice(open_store: OpenStore) -> None:
    store = open_store()
    job = make_job(optimizer=Grid(), space={"x": Integer(0, 4)}, first=[{"x": 3}, {"x": 0}])
    state = search(job, store, make_pool(train=lambda each: float(each.params["x"]))).state
    assert [row[3]["x"] for row in trajectory(store)] == [3, 0, 1, 2, 4]
    assert (state.told, state.counts["trained"]) == (5, 5)


def test_each_fold_tries_them(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(optimizer=PSO(particles=3, generations=1), folds=2, first=KNOWN[:1]), store)
    assert [row[3] for row in trajectory(store)[:2]] == [KNOWN[0]] * 2


def test_what_the_archive_knows_is_not_trained(open_store: OpenStore) -> None:
    store = open_store()
    search(make_job(optimizer=Random(trials=5), name="before"), store)
    known = [row[3] for row in trajectory(store, "before")][:3]
    state = search(make_job(optimizer=PSO(particles=3, generations=0), first=known), store).state
    assert (state.counts["archive"], state.counts["trained"]) == (3, 0)


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        ([{"x": 99}], r"first\[0\]: x: 99 is outside of the space"),
        ([{"x": 1}, {"z": 1}], r"first\[1\]: z: there is no such parameter; there are x, y"),
        ([{"x": "1"}], "outside of the space"),
    ],
)
def test_what_is_not_of_the_space_is_refused_before_anything_runs(first: Any, complaint: str) -> None:
    with pytest.raises(InvalidSpace, match=complaint):
        make_job(first=first)


def test_values_that_no_configuration_has_together_are_refused() -> None:
    space = {"how": Choice("adam", "sgd"), "momentum": {"real": [0, 1], "when": {"how": ["sgd"]}}}
    job = Job(
        name="a", problem=lambda params, ctx: 0.0, space=space, optimizer=Random(trials=3), first=[{"momentum": 0.5}]
    )
    trial = job.start().ask()
    assert trial is not None and trial.params == {"how": "sgd", "momentum": 0.5}
    with pytest.raises(InvalidSpace, match=r"first\[0\]: momentum: it does not go with"):
        Job(name="a", problem=lambda params, ctx: 0.0, space=space, first=[{"how": "adam", "momentum": 0.5}])


def test_pbt_takes_as_many_as_it_has_networks() -> None:
    def train(params: Any, ctx: Any) -> float:
        return 0.0

    options: dict[str, Any] = {"optimizer": PBT(population=2), "checkpoints": True, "space": {"rate": Real(0, 1)}}
    job = Job(name="a", problem=train, first=[{"rate": 0.1}, {"rate": 0.2}], **options)
    started = job.start()
    assert [trial and trial.params for trial in (started.ask(), started.ask())] == job.first
    with pytest.raises(InvalidOptimizer, match="no room for 3 configurations: give fewer, or a larger population"):
        Job(name="a", problem=train, first=[{"rate": 0.1}] * 3, **options)


def test_what_a_method_has_no_room_for_is_not_enqueued() -> None:
    options: dict[str, Any] = {"optimizer": PBT(population=2), "checkpoints": True, "space": {"rate": Real(0, 1)}}
    state = SearchState(Job(name="a", problem=lambda params, ctx: 0.0, **options))
    state.check_enqueued([{"rate": 0.1}, {"rate": 0.2}])
    state.optimizer.ask()
    with pytest.raises(InvalidOptimizer, match="1 are not begun yet, so there is no room for 2"):
        state.check_enqueued([{"rate": 0.1}, {"rate": 0.2}])


def test_other_first_configurations_are_another_job_and_none_are_what_an_earlier_version_had(
    open_store: OpenStore,
) -> None:
    store = open_store()
    search(make_job(optimizer=Random(trials=3)), store)
    with pytest.raises(JobConflict, match="first is"):
        search(make_job(optimizer=Random(trials=3), first=KNOWN), store)
    earlier = {key: value for key, value in make_job().to_dict().items() if key != "first"}
    assert make_job().differences(earlier) == []


def test_a_job_file_names_them_and_they_are_in_the_history(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(params, ctx):\n    return params['x']\n")
    (tmp_path / "job.yaml").write_text(
        "name: a\nproblem: train.py:train\nspace: {x: {real: [0, 1]}, n: {integer: [0, 9]}}\n"
        "optimizer: {name: TPE, trials: 4}\nisolation: thread\nfirst: [{x: 0.125, n: 3}, {x: 0.5}]\n"
    )
    found = run(Job.from_file(tmp_path / "job.yaml"), slots=1, store=tmp_path / "a.db", progress=False)
    assert list(found.history["x"])[:2] == [0.125, 0.5] and found.history["n"][0] == 3


def waiting_job(gate: Path, begun: Path, **changes: Any) -> Job:
    def train(params: Any, ctx: Any) -> float:
        import time

        with begun.open("a") as log:
            log.write("x\n")
        while not gate.exists():  # a training that takes as long as the test wants
            time.sleep(0.02)
        return float(params["x"])

    space = {"x": Integer(0, 10**6), "n": Integer(0, 9)}
    defaults: dict[str, Any] = {"problem": train, "space": space, "optimizer": Random(trials=6), "isolation": "thread"}
    return job_of(**{**defaults, **changes})


@pytest.mark.parametrize("method", [Random(trials=6), PSO(particles=2, generations=2)], ids=["random", "swarm"])
async def test_configurations_are_enqueued_while_a_job_runs_and_the_next_master_knows_them(
    method: Optimizer, tmp_path: Path
) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    async with scheduler() as served, worker(served.address):
        ann, bob = (Client(served.address, asynchronous=True, user=name) for name in ("ann", "bob"))
        async with mastered(tmp_path, served.address):
            handle = await ann.submit(waiting_job(gate, begun, optimizer=method))
            while not begun.exists():
                await asyncio.sleep(0.05)
            with pytest.raises(NotAllowed):
                await (await bob.attach("job")).enqueue({"x": 1})
            with pytest.raises(InvalidInput, match="there is no such parameter"):
                await handle.enqueue({"x": 1}, {"y": 1})
            state = await handle.enqueue({"x": 1_000_000, "n": 4}, {"n": 7})
            assert state.state == "active"
        gate.touch()
        async with mastered(tmp_path, served.address):
            state = await handle.wait(timeout=60)
            assert (state.state, state.told) == ("finished", 6)
            assert state.best["params"] == {"x": 1_000_000, "n": 4}
            events = await handle.events()
            assert [len(event.configurations) for event in events if isinstance(event, Enqueued)] == [2]
            assert 7 in set((await handle.history)["n"])
            with pytest.raises(InvalidInput, match="is finished already"):
                await handle.enqueue({"x": 1})


async def test_configurations_are_enqueued_before_a_worker_is_there(tmp_path: Path) -> None:
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    gate.touch()
    async with scheduler() as served, mastered(tmp_path, served.address):
        client = Client(served.address, asynchronous=True)
        handle = await client.submit(waiting_job(gate, begun))
        while (await handle.state()).trouble is None:
            await asyncio.sleep(0.02)
        await handle.enqueue({"x": 5})
        async with worker(served.address):
            await handle.wait(timeout=60)
        events = await handle.events()
        assert [type(event) for event in events[:2]] == [Enqueued, Began]
        assert (await handle.history)["x"][0] == 5
        with closing(Store(f"{tmp_path}/swarm.db")) as store:  # as the next master would
            assert Search((await handle.search()).job, store).state.told == 6


def test_a_value_on_the_command_line_is_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    done = CliRunner().invoke(app, ["enqueue", "job", "rate"])
    assert isinstance(done.exception, InvalidInput) and "write NAME=VALUE, such as rate=0.01" in str(done.exception)
    done = CliRunner().invoke(app, ["enqueue", "job", "rate=1", "rate=2"])
    assert isinstance(done.exception, InvalidInput) and "rate is there twice" in str(done.exception)
