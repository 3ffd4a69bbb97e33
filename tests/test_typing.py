"""What a type checker says of a user's script: nothing of a right one, and of a wrong one where it is wrong.

The checker is mypy, strict, without a plugin, on the package as a user's environment has it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from test_docs import PAGES, blocks
from test_readme import EXAMPLES, call

import swarm
from swarm import Job
from swarm.job.given import JobFields

ROOT = Path(__file__).parents[1]
SETTINGS = """
[mypy]
strict = true
disallow_untyped_defs = false
disallow_untyped_calls = false
disallow_incomplete_defs = true
enable_error_code = ignore-without-code

[mypy-distributed.*,keras.*,lightning.*,sklearn.*,sqlalchemy.*,rich.*,bokeh.*,pandas.*,matplotlib.*,tornado.*,jinja2.*,yaml.*]
follow_imports = skip
follow_imports_for_stubs = true
ignore_missing_imports = true

[mypy-torch.*]
ignore_missing_imports = true
"""
"""Those of a user who need not annotate his functions; most that is not ours is left out, to be quick."""

RIGHT = {
    "training": """
        import numpy as np
        from collections.abc import Mapping
        from typing import Any
        from swarm import Context, Infeasible, Job, PSO, Real

        def plain(params: dict[str, Any], ctx: Context) -> float:
            if ctx.budget is not None and ctx.budget < 1:
                raise Infeasible("too short")
            ctx.report(epoch=ctx.seed % 3, loss=0.5)
            if (saved := ctx.restore()) is not None:
                return float(saved.arrays["weights"].sum())
            ctx.save({"weights": np.zeros(3)}, epochs=3)
            return float(params["x"])

        def metrics(params: Mapping[str, float], ctx: Context) -> dict[str, float]:
            return {"fitness": params["x"], "loss": 0.1}

        class Digits:
            def __init__(self, epochs: int) -> None:
                self.epochs = epochs

            def __call__(self, params: dict[str, Any], ctx: Context) -> np.float32:
                return np.float32(params["x"])

        def made(epochs: int) -> Digits:
            return Digits(epochs)

        def untyped(params, ctx):
            return params["x"]

        space = {"x": Real(0, 1)}
        for problem in (plain, metrics, Digits(3), untyped, lambda params, ctx: params["x"], "train.py:train"):
            Job(name="a", problem=problem, space=space, optimizer=PSO())
        Job(name="a", problem=Digits, options={"epochs": 3}, space=space, optimizer=PSO())
        Job(name="a", problem=made, options={"epochs": 3}, space=space, optimizer=PSO())
        plain({"x": 0.5}, Context(budget=3))
    """,
    "job": """
        from swarm import Choice, Integer, Job, PBT, PSO, Prune, Real, Space, Stop, Then

        mixed = {"x": Real(0, 1, log=False), "n": Integer(1, 9), "kind": Choice("a", "b"), "fixed": 3}
        Job(name="a", problem="lenet4", optimizer="PSO")
        Job(name="a", problem="lenet4", optimizer={"name": "PSO", "particles": 3}, space=mixed, seed=3)
        Job(name="a", problem="lenet4", optimizer=PSO(particles=3), space=Space(mixed, when={"n": {"kind": ["a"]}}))
        Job(name="a", problem="lenet4", optimizer=PSO(), space={"x": {"real": [0, 1]}}, stop={"target": 1})
        Job(name="a", problem="lenet4", optimizer=PSO(), space=[("x", Real(0, 1))], stop=Stop(seconds=3))
        Job(name="a", problem="lenet4", optimizer=PSO(), fitness="loss", direction="minimize")
        Job(name="a", problem="lenet4", optimizer=PSO(), fitness={"loss": 1, "size": 1e-7}, direction="minimize")
        Job(name="a", problem="lenet4", optimizer="MuPlusLambda", fitness={"mae": "minimize", "size": "minimize"})
        criteria = [{"metric": "a", "direction": "maximize", "tolerance": 1}, {"metric": "b", "direction": "minimize"}]
        Job(name="a", problem="lenet4", optimizer=PSO(), fitness=criteria, prune=Prune(after=3))
        Job(name="a", command="train --lr {lr}", space={"lr": Real(0, 1)}, optimizer=PSO(), prune={"metric": "loss"})
        Job(name="a", problem="lenet4", optimizer=PSO(), then={"optimizer": "PBT", "search": ["rate"]})
        Job(name="a", problem="lenet4", optimizer=PSO(), then=Then(optimizer=PBT(), search=["rate"]), files=["a.csv"])
        job = Job.from_file("job.yaml", ["optimizer.particles=12"], folds=3, seed=None)
        print(job.name.upper(), job.optimizer.planned, job.seed + 1)
    """,
    "run": """
        from pathlib import Path
        from swarm import Best, Job, Run, run

        found = run(Job.from_file("job.yaml"), slots=2, store=Path("mine.db"), progress=False, retry_failed=True)
        found = Run.load("mine", Path("mine.db"))
        best: Best | None = found.best
        if best is not None:
            print(best.fitness + 1, best.params["x"], best.trial.id + 1, best.metrics.get("loss"))
        print(found.counts["trained"] + 1, found.history.tail(), found.test_scores, found.end_reason)
        found.save("winner.keras")

        def summary(of: Run) -> float | None:
            return of.best.fitness if of.best else None
    """,
    "service": """
        import asyncio
        from swarm import AsyncClient, AsyncJobHandle, Client, Job, JobHandle, JobState

        client = Client()
        handle: JobHandle = client.submit(Job.from_file("job.yaml"), priority=3, most=2)
        handle.priority = handle.priority + 1
        state: JobState = handle.wait(progress=True, timeout=3, on_change=print)
        if (best := client.attach("a").best) is not None and state.best is not None:
            print(best["fitness"] + state.best["fitness"], best["params"]["x"], best["trial"] + 1)
        print(handle.status.upper(), handle.history.tail(), handle.events()[0].kind, handle.pause().ended)
        print([each.name for each in client.jobs()], client.hello()["master"], client.slots()[0])

        async def main(flag: bool) -> None:
            client = Client("tcp://host:8786", asynchronous=True)
            handle: AsyncJobHandle = await client.submit(Job.from_file("job.yaml"))
            print((await handle.status).upper(), (await handle.wait()).ended, (await client.jobs())[0].name)
            await handle.share(priority=await handle.priority + 1)
            if (best := await handle.best) is not None:
                print(best["fitness"])
            other: AsyncClient = AsyncClient("tcp://host:8786")
            await asyncio.gather(other.attach("a"), other.hello())
            print(Client("tcp://host:8786", asynchronous=flag).address)
    """,
    "loop": """
        from swarm import PSO, Real, Space, Status, Trial
        from swarm.optimizers import Optimizer

        space = Space({"x": Real(-1, 1), "batch": 128})
        optimizer: Optimizer = PSO(particles=3).start(space, seed=7)
        while not optimizer.done:
            trial: Trial | None = optimizer.ask()
            if trial is not None:
                optimizer.tell(trial, float(trial.params["x"]) ** 2)
        print(space.decode([0.5])["x"], Status.OK.value, optimizer.best)
    """,
}
"""Scripts of which it has nothing to say."""

KNOWN = """
from typing import Any
from swarm import *
client, job = Client("tcp://host:8786"), Job.from_file("job.yaml")
"""
WRONG = {
    "from swarm import NoSuchName": "attr-defined",
    "from swarm import Cleint": "attr-defined",
    "import swarm; swarm.NoSuchName": "attr-defined",
    "Job(name=3, problem='lenet4', optimizer=PSO())": "arg-type",
    "Job(nmae='a', problem='lenet4', optimizer=PSO())": "call-arg",
    "Job(problem='lenet4', optimizer='PSO')": "call-arg",
    "Job(name='a', problem='lenet4', optimizer=7)": "arg-type",
    "Job(name='a', problem='lenet4', optimizer=PSO(), seed='7')": "arg-type",
    "Job(name='a', problem='lenet4', optimizer=PSO(), direction='up')": "arg-type",
    "Job(name='a', problem='lenet4', optimizer=PSO(), space={'x', 'y'})": "arg-type",
    "Job(name='a', problem='lenet4', optimizer=PSO(), stop=Stop(traget=1))": "call-arg",
    "Job(name='a', problem='lenet4', optimizer=PSO(), files='a.csv')": "arg-type",
    "job.name = 'b'": "misc",
    "job.optimiser": "attr-defined",
    "PSO(particle=3)": "call-arg",
    "PSO(particles='3')": "arg-type",
    "PSO(bounds='wall')": "arg-type",
    "PSO().ask().params": "union-attr",
    "Real('0', 1)": "arg-type",
    "Integer(1)": "call-arg",
    "run('job.yaml')": "arg-type",
    "run(job, slot=2)": "call-arg",
    "run(job).best.fitness": "union-attr",
    "run(job).bset": "attr-defined",
    "run(job).best = None": "misc",
    "Run.load('a').counts['trained'].upper()": "attr-defined",
    "client.submit(job).bset": "attr-defined",
    "client.submit('job.yaml')": "arg-type",
    "client.submit(job, prority=3)": "call-arg",
    "client.attach('a').best['fitness']": "index",
    "client.attach('a').wait().best['params']": "index",
    "client.attach('a').wait().bset": "attr-defined",
    "client.attach('a').priority = 'high'": "assignment",
    "client.jobs().name": "attr-defined",
    "async def main() -> None: await client.submit(job)": "misc",
    "async def main() -> None: Client(asynchronous=True).submit(job).name": "attr-defined",
    "Client(adress='tcp://host:8786')": "call-overload",
    "def train(params: dict[str, Any], ctx: Context) -> float: return ctx.epochs": "attr-defined",
    "def train(params: dict[str, Any], ctx: Context) -> float: return ctx.budget + 1": "operator",
    "def train(params: dict[str, Any], ctx: Context) -> None: ctx.report(epoch='three')": "arg-type",
    "def train(params: dict[str, Any], ctx: Context) -> None: ctx.seed = 3": "misc",
    "def train(params: dict[str, Any], ctx: Context) -> Any: return ctx.restore().arrays": "union-attr",
    "def one(params: dict[str, Any]) -> float: return 0.0\nJob(name='a', problem=one, optimizer=PSO())": "arg-type",
    "def no(params: Any, ctx: Context) -> None: pass\nJob(name='a', problem=no, optimizer=PSO())": "arg-type",
    "def text(params: Any, ctx: Context) -> str: return ''\nJob(name='a', problem=text, optimizer=PSO())": "arg-type",
}
"""Lines, of which the last is wrong, and the kind of the error."""


_ATTRIBUTE = re.compile(r"^train\.(resumable|changeable) = .*$", re.MULTILINE)  # of a function: mypy knows none


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[tuple[str, int], set[str]]:
    """The kinds of the errors by file and line, of all scripts at once."""
    folder = tmp_path_factory.mktemp("scripts")
    for name, text in (scripts() | imported()).items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "mypy.ini").write_text(SETTINGS, encoding="utf-8")
    cache = (
        pytestconfig.cache.mkdir("mypy") if pytestconfig.pluginmanager.hasplugin("cacheprovider") else folder / "cache"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file=mypy.ini",
            f"--cache-dir={cache}",
            "--no-error-summary",
            ".",
        ],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},  # an editable install is found by a hook, which mypy does not run
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[tuple[str, int], set[str]] = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(.+)\.py:(\d+): error: .*\[([a-z-]+)\]$", line):
            found.setdefault((match[1], int(match[2])), set()).add(match[3])
        else:
            assert ": note: " in line, line
    return found


def scripts() -> dict[str, str]:
    """All scripts by name: the right ones, the wrong ones, what README and examples show, and the tutorial's."""
    right = {f"right_{name}": re.sub(r"^ {8}", "", text, flags=re.MULTILINE) for name, text in RIGHT.items()}
    wrong = {f"wrong_{i}": f"{KNOWN}{line}\n" for i, line in enumerate(WRONG)}
    return right | wrong | shown()


def shown() -> dict[str, str]:
    files = {f"example_{path.stem}": path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.py"))}
    pages = {
        f"page_{re.sub(r'[^a-z]', '_', page)}_{i}": _ATTRIBUTE.sub(r"\g<0>  # type: ignore[attr-defined]", text)
        for page in PAGES
        for i, (language, _, text) in enumerate(blocks(page))
        if language == "python" and "swarm" in text and "workers" not in text
    }
    return files | pages


def imported() -> dict[str, str]:
    """The files of the pages that others on the same page import, by the names of their modules."""
    found = {}
    for page in PAGES:
        there = blocks(page)
        for _, title, text in there:
            name = Path(title).stem
            if title.endswith(".py") and any(f"from {name} import" in other for _, _, other in there):
                assert name not in found, f"two pages have a file {title} that others import"
                found[name] = text
    return found


@pytest.mark.parametrize("name", [f"right_{name}" for name in RIGHT] + list(shown()))
def test_a_right_script_has_no_errors(name: str, errors: dict[tuple[str, int], set[str]]) -> None:
    assert not {line: kinds for (script, line), kinds in errors.items() if script == name}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_an_error_there_and_nowhere_else(line: str, errors: dict[tuple[str, int], set[str]]) -> None:
    name = f"wrong_{list(WRONG).index(line)}"
    last = f"{KNOWN}{line}".count("\n") + 1
    found = {number: kinds for (script, number), kinds in errors.items() if script == name}
    assert list(found) == [last]
    assert WRONG[line] in found[last]


def test_every_public_name_is_there_for_the_program_as_for_the_checker(
    errors: dict[tuple[str, int], set[str]],
) -> None:
    assert {name for name in swarm.__all__ if not hasattr(swarm, name)} == set()
    assert swarm.Context.__name__ == "Context"
    with pytest.raises(AttributeError, match="NoSuchName"):
        swarm.NoSuchName  # noqa: B018


def test_the_fields_that_a_user_may_write_are_those_of_a_job() -> None:
    assert set(get_type_hints(JobFields)) == {*Job.model_fields, "command"}


def test_annotations_of_a_training_change_nothing_of_what_it_is(tmp_path: Path) -> None:
    script = """
        import sys
        from typing import Any
        from swarm import Context, Job, Random, Real, run

        def train(params: dict[str, Any], ctx: Context) -> float:
            return float(params["x"])

        if __name__ == "__main__":
            job = Job(name=sys.argv[1], problem=train, space={"x": Real(0, 1)}, optimizer=Random(trials=2))
            print(run(job, slots=1, progress=False).counts)
    """
    typed = re.sub(r"^ {8}", "", script, flags=re.MULTILINE)
    untyped = typed.replace("params: dict[str, Any], ctx: Context) -> float", "params, ctx)")
    for text, source in ((typed, "trained"), (untyped, "archive")):
        (tmp_path / "script.py").write_text(text, encoding="utf-8")
        assert f"'{source}': 2" in call(sys.executable, "script.py", source, cwd=tmp_path)


def test_the_package_says_that_it_is_typed() -> None:
    import swarm.workers

    assert all((Path(package.__file__ or "").parent / "py.typed").exists() for package in (swarm, swarm.workers))
