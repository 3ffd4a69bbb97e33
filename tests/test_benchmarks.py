"""The benchmarks can be found, called and summed up; what they measure is theirs to say."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from contextlib import closing
from itertools import chain
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parent.parent))  # where benchmarks is a package

from benchmarks import run_all, summary
from benchmarks.peers import minute
from benchmarks.summary import READERS

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    file
    for pattern in ("*.py", "*/*.py")
    for file in (ROOT / "benchmarks").glob(pattern)
    if "__main__" in file.read_text() and file.parent.name != "gpu"
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_every_benchmark_says_how_to_call_it(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", [each for each in sys.path if Path(each).resolve() != ROOT])  # it finds it itself
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    assert f"python {script.relative_to(ROOT)}" in capsys.readouterr().out


def test_the_summary_is_that_of_the_results():
    assert summary.README.read_text() == summary.current(), "run: python benchmarks/summary.py"
    page = minute.page(summary.results(), summary.PICTURE)
    assert summary.COMPARED.read_text() == page, "run: python benchmarks/summary.py"
    assert (summary.COMPARED.parent / summary.PICTURE).is_file()


def test_of_each_tool_the_best_variant_is_compared_and_who_is_ahead_is_said():
    def row(tool, variant, seconds, seed):
        return {"tool": tool, "variant": variant, "seed": seed, "start_up": seconds, "utilisation": 0.5}

    rows = [row("ours", "PSO", s, i) for i, s in enumerate((2, 3, 9))] + [row("ours", "GA", 4, 0)]
    rows += [
        row("leap", "a", 1, 0),
        row("leap", "b", 7, 0),
        {"tool": "ray", "variant": "a", "seed": 0, "error": "none"},
    ]
    found = {"peers-utilisation": {"rows": rows, "tools": {"leap": "0.8"}}}
    busy, start = minute.questions(found)
    assert start.figures == {"dask-swarm": 3, "LEAP": 1} and start.ordered == ["LEAP", "dask-swarm"]
    assert busy.ordered[0] == "dask-swarm", "of equals"
    page = minute.page(found, "p.png")
    assert "| 3.0 s | 1.0 s, LEAP | **not ahead** |" in page and "| 50.0 % | 50.0 %, LEAP | the same |" in page


def test_results_may_be_absent():
    page = summary.page({})
    for name in READERS:
        assert f"`{name}`: no results are kept yet." in page


@pytest.mark.parametrize("name", sorted(summary.results()))
def test_each_result_has_rows_with_a_command_that_exists(name):
    rows = list(READERS[name](summary.results()[name]))
    assert rows
    for row in rows:
        script = row.command.partition("python ")[2].split()[0]
        assert (ROOT / script).is_file()
        assert row.question in summary.page(summary.results())


def test_a_figure_of_the_summary_changes_with_the_result(tmp_path):
    result = summary.results()["service"]
    result["fairness"] = [{"ratio": 1.2345}]
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "service.json").write_text(json.dumps(result))
    assert "1.23 to 1 slot seconds" in summary.page(summary.results(tmp_path))


def test_a_quick_run_leaves_the_full_results_alone():
    code = "from benchmarks.shared.saving import RESULTS; print(RESULTS.name)"
    found = [
        subprocess.check_output([sys.executable, "-c", code, *options], cwd=ROOT, text=True).strip()
        for options in ([], ["--quick"])
    ]
    assert found == ["results", "results-quick"]


def test_every_benchmark_with_a_quick_form_is_known():
    found = set(run_all.benchmarks())
    assert {"peers", "quality", "scale", "speedup"} <= found
    assert found.isdisjoint({"run_all", "cluster", "summary", "rows"})


def test_a_benchmark_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capfd):
    (tmp_path / "faults").mkdir()
    for name, code in {"fails": 3, "works": 0}.items():
        (tmp_path / "faults" / f"{name}.py").write_text(f'# parser.add_argument("--quick")\nraise SystemExit({code})')
    (tmp_path / "faults" / "library.py").write_text("raise AssertionError")
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_all.py"])
    assert run_all.main() == 1
    said = capfd.readouterr().out
    assert "fails: failed: exit code 3" in said
    assert "works: passed" in said
    assert "library" not in said


def test_times_that_are_kept_take_the_place_of_those_of_the_same_benchmark(monkeypatch):
    monkeypatch.setattr(run_all, "benchmarks", lambda: dict.fromkeys("abc", Path()))
    before = [{"name": name, "seconds": 1.0} for name in ("b", "a", "gone")]
    found = run_all.joined(before, [{"name": "c", "seconds": 2.0}, {"name": "b", "seconds": 3.0}])
    assert [(row["name"], row["seconds"]) for row in found] == [("a", 1.0), ("b", 3.0), ("c", 2.0)]


def test_a_benchmark_that_is_given_up_ends_with_what_it_has_started_in_sessions_of_their_own(tmp_path, monkeypatch):
    script = tmp_path / "hangs.py"
    script.write_text(
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(run_all, "MOST_SECONDS", 2)
    assert run_all.quick("hangs", script) == "failed: took more than 2 s"
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_the_summary_says_how_long_the_quick_forms_take_together():
    ends = {"a": ("passed", 100), "b": ("passed", 200), "c": ("left out: no data", 0)}
    rows = [{"name": n, "end": end, "seconds": s, "cpu_seconds": s + 90} for n, (end, s) in ends.items()]
    page = summary.page({}, times={"machine": {"cores": 2}, "rows": rows})
    assert "`benchmarks/results-quick/`: 2 of them in 5 minutes on 2 cores, 8 minutes of a core's time.\n" in page
    assert "`benchmarks/results-quick/`.\n" in summary.page({})


async def test_one_fold_asks_for_what_all_folds_ask_for_it(tmp_path):
    from benchmarks.papers.parallel_pso import OneFold, figures_of
    from swarm import PSO, Integer, Job
    from swarm.pool.virtual import VirtualPool
    from swarm.runner import enroll
    from swarm.runs.history import History
    from swarm.search import Search
    from swarm.store import Store

    def train(params, ctx):
        return 0.0

    def fitness(evaluation):
        return -((evaluation.params["x"] - 10 * evaluation.fold) ** 2)

    async def history(jobs, slots):
        with closing(Store(str(tmp_path / f"{len(jobs)}.db"))) as store:
            pool = VirtualPool(slots, fitness)
            for job in jobs:
                enroll(job, store)
                await Search(job, store).run(pool)
            return History(chain.from_iterable(store.events(job.name) for job in jobs))

    what = {"problem": train, "space": {"x": Integer(0, 99)}, "optimizer": PSO(generations=5), "folds": 3, "seed": 1}
    together = await history([Job(name="all", **what)], slots=4)
    singly = await history([OneFold(name=f"fold-{fold}", fold=fold, **what) for fold in range(3)], slots=6)
    columns = ["trial", "fold", "generation", "member", "fitness", "x"]
    tables = [each.trials[columns].sort_values("trial", ignore_index=True) for each in (together, singly)]
    assert tables[0].equals(tables[1])
    assert figures_of(together, 10)["trained"] == figures_of(singly, 10)["trained"]
    assert sum(figures_of(singly, 10)["seconds"]) == pytest.approx(10 * singly.folds["seconds"].sum())


def test_what_a_tool_has_trained_is_read_from_what_its_trainings_wrote():
    from benchmarks.peers.peer_runs import busy, full_from, repeated, trainings

    def begin(name, time, params):
        return {"kind": "begin", "id": name, "pid": 1, "time": time, "params": params}

    done = trainings([
        begin("a", 0.0, [1, 2]),
        begin("b", 1.0, [3, 4]),
        {"kind": "end", "id": "b", "time": 3.0, "loss": 0.5},
        begin("c", 3.0, [1, 2]),
        begin("d", 3.0, [5, 6]),
        {"kind": "end", "id": "a", "time": 4.0, "loss": 0.25},
    ])  # fmt: skip
    assert [each.loss for each in done] == [0.25, 0.5, None, None]
    assert [full_from(done, slots) for slots in (1, 2, 3, 4)] == [0.0, 1.0, 3.0, None]
    assert busy(done, 2.0, 5.0) == 2 + 1 + 2 + 2  # what has no end lasts to the end
    assert repeated(done) == 1


def test_a_training_of_the_peers_depends_on_its_parameters_alone(tmp_path):
    from benchmarks.peers.peer_runs import Task

    space = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    what = {"folder": str(tmp_path), "variant": "", "space": space, "slots": 1, "evaluations": 1, "population": 1}
    task = Task(**what, seed=3, median=1, stragglers=0.5)
    lengths = {task.seconds([x / 100, 0.5]) for x in range(100)}
    assert lengths == {1, 10}
    assert task.seconds([0.1, 0.5]) == task.seconds([0.1, 0.5])
    assert task.loss([0.5, 0.5]) != Task(**what, seed=4).loss([0.5, 0.5])


def test_a_network_of_the_fronts_goes_down_the_gradient_of_its_cross_entropy():
    import numpy as np

    from benchmarks.peers.fronts import Network

    def entropy(network):
        sums = network.outputs(images)[-1]
        shares = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
        return -np.log(shares[np.arange(5), labels]).mean()

    rng = np.random.default_rng(1)
    images, labels = rng.random((5, 4)), np.array([0, 9, 3, 3, 7])
    for activation in ("tanh", "relu"):
        network = Network([4, 6, 3, 10], activation, rng)
        for layer in range(3):
            before = [each.copy() for each in network._weights]
            network._weights[layer][1, 2] += 1e-6
            slope = entropy(network)
            network._weights[layer][1, 2] -= 2e-6
            slope = (slope - entropy(network)) / 2e-6
            network._weights = [each.copy() for each in before]
            biases = [each.copy() for each in network._biases]
            network._moving = [(0 * weights, 0 * bias) for weights, bias in zip(before, biases, strict=True)]
            network.step(images, labels, rate=1.0)
            assert before[layer][1, 2] - network._weights[layer][1, 2] == pytest.approx(slope, rel=1e-4, abs=1e-8)
            network._weights, network._biases = before, biases


def test_a_training_of_the_fronts_depends_on_its_configuration_and_seed_and_is_done_once(tmp_path):
    from benchmarks.peers.fronts import LARGEST, Trainings, size, trained, volume

    params = {"units": 16, "more_units": 0, "pixels": 4, "activation": "tanh", "rate": 0.1, "batch": 64}
    assert size(params) == 17 * 16 + 17 * 10
    assert size({**params, "more_units": 4}) == 17 * 16 + 17 * 4 + 5 * 10
    train = Trainings(tmp_path / "trained")
    found = train(params, 0)
    assert found == train(params, 0) == trained(params, 0) and train.done == 1
    assert found[0] < 0.3 and found[1] == size(params)
    again = Trainings(tmp_path / "trained")
    assert again(params, 0) == found and again.done == 0
    assert again(params, 1) != found and again.done == 1
    assert volume([(0.45, LARGEST / 2), (0.5, LARGEST)]) == pytest.approx(0.25)


def test_the_fronts_of_all_methods_are_compared_seed_by_seed(monkeypatch):
    import argparse

    import numpy as np

    from benchmarks.peers import fronts

    monkeypatch.setattr(fronts, "EPOCHS", 1)
    options = argparse.Namespace(trainings=12, in_flight=4, seeds=2)
    growing = fronts.volumes(options, fronts.Trainings())
    rows = fronts.summary(growing, 12)
    assert {"SurrogatePSO", "GA", "Random"} <= {row["method"] for row in rows}
    for measure, found in growing.items():
        for name, each in found.items():
            assert each.shape == (2, 12) and (np.diff(each) > -1e-12).all() and 0 < each.max() < 1, (measure, name)
    for row in rows:
        for each in row.get("volume_against", {}).values():
            assert each["wins"] + each["losses"] <= 2
