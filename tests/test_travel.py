"""What travels with a job: the user's own modules as sources, values that an import would not give, the rest by value."""
# ruff: noqa: E501

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from own_modules import write
from scripts import run_script

from swarm import Grid, Integer, Job, run
from swarm.errors import InvalidProblem
from swarm.job.problem import Problem
from swarm.trial import Evaluation
from swarm.workers.evaluate import evaluate

ROOT = Path(__file__).parent.parent
CALL = """
import sys
from swarm.workers.problem import load
problem = load(open(sys.argv[1], "rb").read())
print(problem({"x": 4}, None))
"""


pytestmark = pytest.mark.usefixtures("modules_of_their_own")


def found(folder: Path, files: dict[str, str], where: str = "main.py:train") -> Problem:
    write(folder, files)
    return Problem.find(where, {}, folder=folder)


def elsewhere(problem: bytes, folder: Path) -> str:
    """What it returns in another process, which is in another folder, as on another machine if its files are moved."""
    (folder / "problem.pickle").write_bytes(problem)
    write(folder / "nothing else here", {"call.py": CALL})
    done = run_script(Path("/"), str(folder / "nothing else here" / "call.py"), str(folder / "problem.pickle"))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def told_by(folder: Path, script: str, *arguments: str) -> str:
    """The problem that a script leaves in ``problem.pickle`` returns this elsewhere."""
    save = (
        "\nif __name__ == '__main__':\n    from swarm.job.problem import Problem\n"
        "    open('problem.pickle', 'wb').write(Problem.of(train).pickle)\n"
    )
    write(folder / "there", {"script.py": script + save})
    done = run_script(folder / "there", "script.py", *arguments)
    assert done.returncode == 0, done.stderr
    problem = (folder / "there" / "problem.pickle").read_bytes()
    (folder / "there").rename(folder / "gone")
    return elsewhere(problem, folder)


HELPER = {"helper.py": "FACTOR = 10\n\ndef score(x):\n    return FACTOR * x\n"}
PACKAGE = {
    "pkg/__init__.py": "",
    "pkg/deep/__init__.py": "",
    "pkg/deep/mod.py": "from ..base import FACTOR\n\ndef score(x):\n    return FACTOR * x\n",
    "pkg/base.py": "FACTOR = 10\n",
    "both/__init__.py": "from . import mod\nmod.FACTOR = 10\n",
    "both/mod.py": "FACTOR = 1\n\ndef score(x):\n    return FACTOR * x\n",
    "space/mod.py": "from helper import score\n",  # without __init__.py
}
IMPORTS = {
    "import at the top": "import helper\ndef train(params, ctx):\n    return helper.score(params['x'])\n",
    "import inside": "def train(params, ctx):\n    import helper\n    return helper.score(params['x'])\n",
    "from inside": "def train(params, ctx):\n    from helper import score\n    return score(params['x'])\n",
    "a package inside": "def train(params, ctx):\n    import pkg.deep.mod\n    return pkg.deep.mod.score(params['x'])\n",
    "a package": "from pkg.deep import mod\ndef train(params, ctx):\n    return mod.score(params['x'])\n",
    "a folder": "import space.mod\ndef train(params, ctx):\n    return space.mod.score(params['x'])\n",
    "by a function": (
        "import importlib\ndef train(params, ctx):\n"
        "    return importlib.import_module('pkg.' + 'deep.mod').score(params['x'])\n"
    ),
    "by a name in a parameter": (
        "import importlib\nWHICH = ['deep.mod']\ndef train(params, ctx):\n"
        "    return importlib.import_module(f'pkg.{WHICH[0]}').score(params['x'])\n"
    ),
    "a package that imports its module": "import both\ndef train(params, ctx):\n    return both.mod.score(params['x'])\n",
    "not used": "import helper, unused\ndef train(params, ctx):\n    return 10 * params['x']\n",
    "a lambda": "import helper\ntrain = lambda params, ctx: helper.score(params['x'])\n",
    "a closure": "import helper\ndef make(n):\n    return lambda params, ctx: n * helper.score(params['x'])\ntrain = make(1)\n",
    "a method": "import helper\nclass T:\n    def run(self, params, ctx):\n        return helper.score(params['x'])\ntrain = T().run\n",
    "an object": "from helper import score\nclass T:\n    def __init__(self, n):\n        self.n = n\n    def __call__(self, params, ctx):\n        return self.n * score(params['x'])\ntrain = T(1)\n",
    "an object with a lock": "import helper, threading\nclass T:\n    def __init__(self):\n        self.lock = threading.Lock()\n    def __call__(self, params, ctx):\n        return helper.score(params['x'])\ntrain = T()\n",
    "a decorated function": "import functools, helper\ndef wrap(f):\n    @functools.wraps(f)\n    def inner(*given):\n        return f(*given)\n    return inner\n@wrap\ndef train(params, ctx):\n    return helper.score(params['x'])\n",
    "a cached helper": "import functools\nfrom helper import score\n@functools.lru_cache\ndef f(x):\n    return score(x)\ndef train(params, ctx):\n    return f(params['x'])\n",
    "an overloaded function": "import functools, helper\n@functools.singledispatch\ndef f(x):\n    return 0\n@f.register\ndef _(x: int):\n    return helper.score(x)\ndef train(params, ctx):\n    return f(params['x'])\n",
    "a wrapper with a lock": "import functools, threading, helper\ndef wrap(f):\n    @functools.wraps(f)\n    def inner(*given):\n        with inner.lock:\n            return f(*given)\n    inner.lock = threading.Lock()\n    return inner\n@wrap\ndef train(params, ctx):\n    return helper.score(params['x'])\n",
    "a pydantic model": "import helper\nfrom pydantic import BaseModel\nclass C(BaseModel):\n    n: int = 10\nC_ = C(n='1')\ndef train(params, ctx):\n    return C_.n * helper.score(params['x'])\n",
    "a lock at the top": "import threading, helper\nLOCK = threading.Lock()\ndef train(params, ctx):\n    with LOCK:\n        return helper.score(params['x'])\n",
}  # fmt: skip


@pytest.mark.parametrize("main", IMPORTS.values(), ids=IMPORTS.keys())
def test_own_modules_travel_however_they_are_imported(main: str, tmp_path: Path) -> None:
    files = {**HELPER, **PACKAGE, "unused.py": "import pkg\n", "main.py": main}
    problem = found(tmp_path / "there", files)
    (tmp_path / "there").rename(tmp_path / "gone")
    assert elsewhere(problem.pickle, tmp_path) == "40"


@pytest.mark.parametrize(
    "main", [text for name, text in IMPORTS.items() if "package" not in name and "func" not in name]
)
def test_a_script_is_imported_as_multiprocessing_does(main: str, tmp_path: Path) -> None:
    write(tmp_path / "there", {**HELPER, **PACKAGE, "unused.py": ""})
    assert told_by(tmp_path, main) == "40"


def test_the_sources_that_came_with_the_job_count_and_not_those_of_the_machine(tmp_path: Path) -> None:
    problem = found(tmp_path, {**HELPER, "main.py": IMPORTS["import at the top"]})
    write(tmp_path, {"helper.py": "def score(x):\n    return -1\n"})
    assert elsewhere(problem.pickle, tmp_path) == "40"


@pytest.mark.parametrize("name", ["train-model.v2.py", "my train.py", "a folder/train.py"])
def test_a_file_may_have_any_name(name: str, tmp_path: Path) -> None:
    text = "class C:\n    n = 40\nclass T:\n    def __call__(self, params, ctx):\n        return C.n\ntrain = T()\n"
    problem = found(tmp_path / "there", {name: text}, f"{name}:train")
    (tmp_path / "there").rename(tmp_path / "gone")
    assert elsewhere(problem.pickle, tmp_path) == "40"


SETTINGS = {
    "settings.py": "import sys\nN = 1\nCOMPUTED = int('1')\nC = dict(n=1)\n\ndef f():\n    return 1\n\n\ndef given():\n    return int((sys.argv + [1])[1])\n",
    "loads.py": "import settings\n\ndef load(n):\n    settings.COMPUTED = n\n\ndef fill(n):\n    settings.C.update(n=n)\n",
}
SET = {
    "below the guard": ("N = 1\ndef train(params, ctx):\n    return N\nif __name__ == '__main__':\n    N = 7\n", "7"),
    "only below the guard": ("def train(params, ctx):\n    return N\nif __name__ == '__main__':\n    N = 7\n", "7"),
    "by global": ("N = 1\ndef main():\n    global N\n    N = 7\ndef train(params, ctx):\n    return N\nif __name__ == '__main__':\n    main()\n", "7"),
    "by an argument": ("import sys\nN = int(sys.argv[1])\ndef train(params, ctx):\n    return N\n", "7"),
    "by a function of an argument": ("import sys\ndef read():\n    return int(sys.argv[1])\nN = read() if len(sys.argv) > 1 else 1\ndef train(params, ctx):\n    return N\n", "7"),
    "in a dictionary": ("C = {'n': 1}\ndef train(params, ctx):\n    return C['n']\nif __name__ == '__main__':\n    C['n'] = 7\n", "7"),
    "in a computed dictionary": ("C = dict(n=1)\ndef main():\n    C['n'] = 7\ndef train(params, ctx):\n    return C['n']\nif __name__ == '__main__':\n    main()\n", "7"),
    "by a method": ("class S:\n    def __init__(self):\n        self.n = 1\n    def set(self, n):\n        self.n = n\nS = S()\ndef main():\n    S.set(7)\ndef train(params, ctx):\n    return S.n\nif __name__ == '__main__':\n    main()\n", "7"),
    "of a class": ("class C:\n    n = 1\ndef train(params, ctx):\n    return C.n\nif __name__ == '__main__':\n    C.n = 7\n", "7"),
    "of a function": ("def train(params, ctx):\n    return train.n\nif __name__ == '__main__':\n    train.n = 7\n", "7"),
    "of another module": ("import settings\ndef train(params, ctx):\n    return settings.N\nif __name__ == '__main__':\n    settings.N = 7\n", "7"),
    "of another module, imported inside": ("def train(params, ctx):\n    import settings\n    return settings.N\nif __name__ == '__main__':\n    import settings\n    settings.N = 7\n", "7"),
    "by setattr": ("import settings\ndef train(params, ctx):\n    return settings.N\nif __name__ == '__main__':\n    setattr(settings, 'N', 7)\n", "7"),
    "a function of another module": ("import settings\ndef other():\n    return 7\ndef train(params, ctx):\n    return settings.f()\nif __name__ == '__main__':\n    settings.f = other\n", "7"),
    "an object of the script": ("class P:\n    def __init__(self, n):\n        self.n = n\ndef train(params, ctx):\n    return P_.n\nif __name__ == '__main__':\n    P_ = P(7)\n", "7"),
    "in a dictionary that is handed on": ("C = dict(n=1)\ndef load(c):\n    c['n'] = 7\ndef train(params, ctx):\n    return C['n']\nif __name__ == '__main__':\n    load(C)\n", "7"),
    "by a library": ("import argparse\nC = argparse.Namespace(n=1)\np = argparse.ArgumentParser()\np.add_argument('n', type=int)\ndef train(params, ctx):\n    return C.n\nif __name__ == '__main__':\n    p.parse_args(namespace=C)\n", "7"),
    "under another name": ("C = dict(n=1)\ndef train(params, ctx):\n    return C['n']\nif __name__ == '__main__':\n    d = C\n    d['n'] = 7\n", "7"),
    "by a function that is handed on": ("class S:\n    def __init__(self):\n        self.n = 1\n    def configure(self, n):\n        self.n = n\nC = S()\ndef main():\n    C.configure(7)\ndef fire(f):\n    f()\ndef train(params, ctx):\n    return C.n\nif __name__ == '__main__':\n    fire(main)\n", "7"),
    "by another module": ("import settings, loads\ndef train(params, ctx):\n    return settings.COMPUTED\nif __name__ == '__main__':\n    loads.load(7)\n", "7"),
    "in an object, by another module": ("import settings, loads\ndef train(params, ctx):\n    return settings.C['n']\nif __name__ == '__main__':\n    loads.fill(7)\n", "7"),
    "by a name that is computed": ("import settings\ndef train(params, ctx):\n    return settings.COMPUTED\nif __name__ == '__main__':\n    for name in ['COMPUTED']:\n        setattr(settings, name, 7)\n", "7"),
    "in the table of names": ("N = int('1')\ndef train(params, ctx):\n    return N\nif __name__ == '__main__':\n    globals().update(N=7)\n", "7"),
    "in the table of names of another module": ("import settings\ndef train(params, ctx):\n    return settings.COMPUTED\nif __name__ == '__main__':\n    vars(settings).update(COMPUTED=7)\n", "7"),
    "by a method of a class": ("class C:\n    n = int('1')\n    @classmethod\n    def set(cls, n):\n        cls.n = n\ndef train(params, ctx):\n    return C.n\nif __name__ == '__main__':\n    C.set(7)\n", "7"),
    "of a class with a small letter": ("class cfg:\n    n = int('1')\ndef train(params, ctx):\n    return cfg.n\nif __name__ == '__main__':\n    cfg.n = 7\n", "7"),
    "in an array": ("import numpy as np\nW = np.zeros(1, int)\ndef train(params, ctx):\n    return int(W.sum())\nif __name__ == '__main__':\n    np.add(W, 7, out=W)\n", "7"),
    "in a closure": ("def make():\n    s = {'n': 1}\n    def set(n):\n        s['n'] = n\n    def get():\n        return s['n']\n    return set, get\nset, get = make()\ndef train(params, ctx):\n    return get()\nif __name__ == '__main__':\n    set(7)\n", "7"),
    "in a default": ("def n(given=None, kept=[]):\n    if given:\n        kept.append(given)\n    return kept[-1]\ndef train(params, ctx):\n    return n()\nif __name__ == '__main__':\n    n(7)\n", "7"),
    "a default by an argument": ("import sys\ndef train(params, ctx, n=int((sys.argv + [1])[1])):\n    return n\n", "7"),
    "by an argument, in an attribute": ("import sys\nclass S: pass\nC = S()\nC.n = int((sys.argv + [1])[1])\ndef train(params, ctx):\n    return C.n\n", "7"),
    "by an argument, in another module": ("from settings import given\nN = given()\ndef train(params, ctx):\n    return N\n", "7"),
    "a function below the guard": ("def f(x):\n    return 7\nif __name__ == '__main__':\n    def train(params, ctx):\n        return f(1)\n", "7"),
    "a class below the guard": ("def f(x):\n    return x\nif __name__ == '__main__':\n    class T:\n        n = 7\n        def __call__(self, params, ctx):\n            return f(self.n)\n    train = T()\n", "7"),
    "a module imported below the guard": ("def train(params, ctx):\n    return settings.f() + int(np.float64(6))\nif __name__ == '__main__':\n    import numpy as np\n    import settings\n", "7"),
    "a function that is replaced below the guard": ("def f():\n    return 1\ndef train(params, ctx):\n    return f()\nif __name__ == '__main__':\n    def f():\n        return 7\n", "7"),
    "a function that is wrapped below the guard": ("import functools\ndef seven(f):\n    @functools.wraps(f)\n    def inner(*given):\n        return 6 + f(*given)\n    return inner\ndef train(params, ctx):\n    return 1\nif __name__ == '__main__':\n    train = seven(train)\n", "7"),
    "a number by chance": ("import random\nN = random.random()\ndef train(params, ctx):\n    return N\nif __name__ == '__main__':\n    open('../told', 'w').write(repr(N))\n", None),
}  # fmt: skip


@pytest.mark.parametrize(("script", "wanted"), SET.values(), ids=SET.keys())
def test_a_value_that_an_import_would_not_give_travels(script: str, wanted: str | None, tmp_path: Path) -> None:
    write(tmp_path / "there", SETTINGS)
    assert told_by(tmp_path, script, "7") == (wanted or (tmp_path / "told").read_text())


def test_what_depends_on_the_machine_is_computed_where_the_training_runs(tmp_path: Path) -> None:
    main = (
        "import os\nfrom pathlib import Path\n"
        f"DEVICE = 'cuda' if os.path.exists({str(tmp_path / 'gpu')!r}) else 'cpu'\n"
        "def train(params, ctx):\n    return DEVICE\n"
    )
    problem = found(tmp_path, {"main.py": main})
    (tmp_path / "gpu").touch()
    assert elsewhere(problem.pickle, tmp_path) == "cuda"


def test_what_depends_on_the_machine_is_computed_there_though_the_script_has_looked_at_it(tmp_path: Path) -> None:
    script = (
        "import os\nfrom pathlib import Path\n"
        f"DEVICE = 'cuda' if os.path.exists({str(tmp_path / 'gone')!r}) else 'cpu'\n"
        f"FOLDER = Path('/cuda' if os.path.exists({str(tmp_path / 'gone')!r}) else '/cpu')\n"
        "def train(params, ctx):\n    return DEVICE, str(FOLDER)\n"
        "if __name__ == '__main__':\n    print(DEVICE, FOLDER)\n"
    )
    assert told_by(tmp_path, script) == "('cuda', '/cuda')"


def test_the_environment_of_the_client_counts_and_not_that_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        "import os\nC = dict()\nC['n'] = os.environ['RATE']\ndef train(params, ctx):\n    return C['n']\n",
        "from settings import read\nN = read()\ndef train(params, ctx):\n    return N\n",
        "import settings\ndef train(params, ctx):\n    return settings.N\n",
        "def train(params, ctx):\n    return __import__('settings').N\n",
        "import os\nP = os.path.expandvars('$RATE')\ndef train(params, ctx):\n    return P\n",
    ]
    settings = {"settings.py": "import os\ndef read():\n    return os.environ['RATE']\n\nN = read()\n"}
    for place, text in enumerate(texts):
        seen = []
        for rate in "12":
            monkeypatch.setenv("RATE", rate)
            seen.append(found(tmp_path / f"{place}{rate}", {**settings, "main.py": text}))
        monkeypatch.setenv("RATE", "3")
        assert [elsewhere(each.pickle, tmp_path) for each in seen] == ["1", "2"]
        assert seen[0].fingerprint != seen[1].fingerprint


def test_joblib_finds_the_functions_of_a_script_in_a_training(tmp_path: Path) -> None:
    script = (
        "def square(n):\n    return n * n\ndef train(params, ctx):\n    from joblib import Parallel, delayed\n"
        "    return sum(Parallel(n_jobs=2)(delayed(square)(n) for n in range(4)))\n"
    )
    assert told_by(tmp_path, script) == "14"


def test_files_beside_a_module_are_found_where_they_are(tmp_path: Path) -> None:
    main = (
        "from pathlib import Path\nHERE = Path(__file__).parent\n"
        "def train(params, ctx):\n    return (HERE / 'data.txt').read_text(), Path(__file__).name\n"
    )
    problem = found(tmp_path, {"main.py": main, "data.txt": "here"})
    assert elsewhere(problem.pickle, tmp_path) == "('here', 'main.py')"


def test_a_module_run_by_its_name_travels_with_its_package(tmp_path: Path) -> None:
    files = {
        **PACKAGE,
        "pkg/train.py": "from .deep.mod import score\ndef train(params, ctx):\n    return score(params['x'])\n"
        "if __name__ == '__main__':\n    from swarm.job.problem import Problem\n"
        "    open('problem.pickle', 'wb').write(Problem.of(train).pickle)\n",
    }
    write(tmp_path / "there", files)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "pkg.train"], cwd=tmp_path / "there", env=environment, check=True)
    problem = (tmp_path / "there" / "problem.pickle").read_bytes()
    (tmp_path / "there").rename(tmp_path / "gone")
    assert elsewhere(problem, tmp_path) == "40"


def test_a_traceback_shows_the_users_lines_though_the_file_is_elsewhere(tmp_path: Path) -> None:
    main = "def train(params, ctx):\n    wrong = params['x'] / 0  # here\n    return wrong\n"
    problem = found(tmp_path / "there", {"main.py": main})
    (tmp_path / "there").rename(tmp_path / "gone")
    result = evaluate(problem.pickle, Evaluation.of(problem.fingerprint, {"x": 1}))
    assert f"{tmp_path / 'there' / 'main.py'}, line 2, in train" in (result.error or "")
    assert "wrong = params['x'] / 0  # here" in (result.error or "")


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import helper
from swarm import Choice, Grid, Job, run

def square(n):
    return n * n

def train(params, ctx):
    context = multiprocessing.get_context(params["method"])
    if params["kind"] == "pool":
        with context.Pool(2) as pool:
            return float(sum(pool.map(square, range(4))) + sum(pool.map(helper.score, range(4))))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        return float(sum(pool.map(square, range(4))) + sum(pool.map(helper.score, range(4))))

if __name__ == "__main__":
    space = {"method": Choice("fork", "spawn", "forkserver"), "kind": Choice("pool", "executor")}
    job = Job(name="pool", problem=train, space=space, optimizer=Grid(), time_limit=120)
    found = run(job, slots=1, store="s.db", progress=False)
    print(found.history[["method", "kind", "fitness", "error"]].to_string())
    sys.exit(0 if found.history.fitness.tolist() == [74.0] * 6 else 1)
"""


@pytest.mark.deep
def test_a_training_may_start_processes_by_every_method(tmp_path: Path) -> None:
    write(tmp_path, {**HELPER, "script.py": POOL})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


NOTEBOOK = """
from multiprocessing import get_context
from swarm import Integer, Grid, Job, run

def square(n):
    return n * n

def train(params, ctx):
    with get_context("fork").Pool(2) as pool:
        return float(sum(pool.map(square, range(params["n"]))))

job = Job(name="typed", problem=train, space={"n": Integer(3, 4)}, optimizer=Grid(), time_limit=60)
print(run(job, slots=1, store="s.db", progress=False).history.fitness.tolist())
"""


@pytest.mark.slow
def test_what_was_typed_may_start_processes_too(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[-2] == "[5.0, 14.0]", done.stderr


def test_jobs_whose_modules_have_the_same_names_are_told_apart_in_one_worker(tmp_path: Path) -> None:
    main = "import helper\ndef train(params, ctx):\n    import late\n    return helper.score(params['x']) + late.MORE\n"
    problems = []
    for n in range(3):
        files = {"main.py": main, "helper.py": HELPER["helper.py"].replace("10", str(n)), "late.py": f"MORE = {n}\n"}
        problems.append(found(tmp_path / str(n), files))
    for _ in range(2):  # loaded, and then alternately
        for n, problem in enumerate(problems):
            evaluation = Evaluation.of(problem.fingerprint, {"x": 100}, isolation="thread")
            assert evaluate(problem.pickle, evaluation).fitness == 101 * n


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_cannot_be_pickled_is_named_with_its_place(tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w")

    def writes(params: Any, ctx: Any) -> float:
        log.write("no")
        return 0.0

    with pytest.raises(InvalidProblem, match=r"the variable 'log' of .*writes, .*test_travel.py, line \d+.*TextIO"):
        Problem.of(writes)
    log.close()


def test_a_global_that_cannot_be_pickled_is_named_with_its_module(tmp_path: Path) -> None:
    script = (
        "import threading\nfrom swarm.job.problem import Problem\ndef train(params, ctx):\n    return LOCK\n"
        "if __name__ == '__main__':\n    LOCK = threading.Lock()\n    Problem.of(train)\n"
    )
    write(tmp_path, {"script.py": script})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert "the global name 'LOCK' of __main__" in done.stderr.splitlines()[-1]
    assert "script.py, line 6 " in done.stderr.splitlines()[-1]


def test_a_job_file_takes_the_modules_beside_it_and_not_those_of_an_earlier_one(tmp_path: Path) -> None:
    main = IMPORTS["import at the top"]
    one = found(tmp_path / "one", {"main.py": main, **HELPER})
    two = found(tmp_path / "two", {"main.py": main, "helper.py": HELPER["helper.py"].replace("10", "20")})
    assert one.fingerprint != two.fingerprint
    assert elsewhere(two.pickle, tmp_path) == "80"


def test_a_run_of_a_script_that_uses_its_own_modules_leaves_no_files(tmp_path: Path) -> None:
    script = (
        "import helper\nfrom swarm import Integer, Grid, Job, run\ndef train(params, ctx):\n"
        "    return helper.score(params['n'])\nif __name__ == '__main__':\n"
        "    job = Job(name='n', problem=train, space={'n': Integer(1, 2)}, optimizer=Grid())\n"
        "    print(run(job, slots=1, store='s.db', progress=False).best.fitness)\n"
    )
    write(tmp_path, {**HELPER, "script.py": script, "tmp/.keep": ""})
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "20.0" or done.stdout.strip() == "20", done.stderr
    left = [each for each in (tmp_path / "tmp").rglob("*") if each.is_file() and each.suffix != ".lock"]  # Dask's
    assert [each for each in left if "swarm" in each.relative_to(tmp_path).as_posix()] == []


def test_a_search_of_an_imported_function_runs(tmp_path: Path) -> None:
    problem = found(
        tmp_path,
        {**HELPER, "main.py": "def train(params, ctx):\n    import helper\n    return helper.score(params['n'])\n"},
    )
    job = Job(name="n", problem=problem, space={"n": Integer(1, 2)}, optimizer=Grid(), isolation="thread")
    assert run(job, slots=1, store=str(tmp_path / "s.db"), progress=False).history.fitness.tolist() == [10, 20]


def test_a_script_that_submits_without_a_guard_is_imported_up_to_there(tmp_path: Path) -> None:
    script = (
        "from swarm import Client, Grid, Integer, Job\nfrom swarm.job.problem import Problem\nimport pathlib\n"
        "def train(params, ctx):\n    return 10 * params['x']\n"
        "job = Job(name='j', problem=train, space={'x': Integer(1, 2)}, optimizer=Grid())\n"
        "pathlib.Path('problem.pickle').write_bytes(job.code.pickle)\n"
        "Client('tcp://127.0.0.1:9', patience=0).submit(job)\n"
    )
    write(tmp_path / "there", {"script.py": script})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path / "there", env=environment, capture_output=True, check=False
    )
    assert b"SchedulerUnreachable" in done.stderr
    problem = (tmp_path / "there" / "problem.pickle").read_bytes()
    assert elsewhere(problem, tmp_path) == "40"
